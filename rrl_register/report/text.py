"""Texts of a report: the verdict, its figures, the evidence, and advice after a failure."""

from __future__ import annotations

import re
from typing import NamedTuple

from rrl_register.estimation.acceptance import ASPECTS, typical_figures
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.transforms import compose, decompose, invert, project
from rrl_register.raster.grid import prior_matrix
from rrl_register.report.inputs import ReportInput

CONFIDENT = 0.9
"""Confidence from which a report does not ask for a visual check."""
MAX_SHOWN = 0.99
"""Largest confidence that is shown as a number: it was fitted on too few registrations to tell more from certainty."""
_WEAK = 0.5
"""Strength over the typical strength below which a piece of evidence is marked as weak."""
_ADVICE = re.compile(
    r"(?:^|[:;,]\s+(?:or\s+)?)(?=(?:check|try|choose|take|name|look|see|register|give|needed|pass|use|install)\b)"
)
_LOOK = "Check the overlay below before you use the result."

_NAMES = {
    "inliers": "Inliers",
    "independent": "Independent inliers",
    "share": "Inlier share",
    "over_chance": "Ratio to chance",
    "coverage": "Coverage",
    "occupied": "Distribution",
    "score": "Mean score",
    "score_margin": "Score margin",
    "control_rejection": "Rejection of wrong places",
    "held_out": "Cross-validation",
    "agreeing": "Forward-backward check",
    "agreement": "Forward-backward distance",
    "certain": "Standard error",
}
MODELS = {
    "translation": "a translation",
    "similarity": "a similarity transform",
    "affine": "an affine transform",
    "homography": "a homography",
    "polynomial2": "a homography with a polynomial of degree 2",
    "polynomial3": "a homography with a polynomial of degree 3",
    "thin-plate": "a homography with a thin-plate spline",
}
KINDS = {"optical": "optical", "ir": "infrared", "sar": "SAR", "auto": "unknown kind"}
SIMILARITIES = {"nmi": "Normalised mutual information", "gradient_ssim": "Structural similarity of gradients"}


class Verdict(NamedTuple):
    """The outcome of a registration.

    Attributes:
        tone: ``good``, ``doubtful`` or ``failed``.
        title: The outcome in two or three words.
        sentence: Its main figures, or the reason of the failure.
        advice: Next steps, one sentence each.
    """

    tone: str
    title: str
    sentence: str
    advice: tuple[str, ...] = ()


class Figure(NamedTuple):
    """A number with its name, and a note on its meaning."""

    name: str
    value: str
    note: str


class SimilarityRow(NamedTuple):
    """A measure of similarity before and after the registration."""

    name: str
    before: float | None
    after: float | None


class Piece(NamedTuple):
    """A piece of evidence.

    Attributes:
        name: Its name.
        observed: What was measured, in words.
        strength, typical: Strength of it, and of correct registrations, 0-1.
        weak: True if it is far below the typical strength.
    """

    name: str
    observed: str
    strength: float
    typical: float
    weak: bool


def verdict(inputs: ReportInput) -> Verdict:
    """Summarise the outcome of a registration, with advice."""
    found = inputs.registration
    if found is None or not inputs.ok:
        observed, advice = split_reason(inputs.reason)
        if found is None:
            return Verdict("failed", "Registration did not start", observed, advice)
        compare = "Compare both images below: they must show the same place and be of the kinds stated."
        return Verdict("failed", "Not registered", observed, (*advice, compare))
    inliers = f"{found.n_inliers} of {found.n_tie_points} tie points are inliers of"
    fit = f"{inliers} {MODELS.get(found.model or '', 'the transform')}"
    if found.check_rmse_px is not None:
        fit += f"; cross-validation RMSE {with_metres(found.check_rmse_px, inputs.fixed_metres)}"
    if found.confidence is None:
        return Verdict("doubtful", "Fitted to given points", f"{fit}. No confidence: no search was made.", (_LOOK,))
    sentence = f"{fit}. Probability that the transform is correct: {percent(found.confidence)}."
    if found.confidence >= CONFIDENT:
        return Verdict("good", "Registered", sentence)
    return Verdict("doubtful", "Registered, low confidence", sentence, (_LOOK,))


def split_reason(reason: str) -> tuple[str, tuple[str, ...]]:
    """Split the reason of a failure into the observation and the advice, each as sentences."""
    observed, *advice = (text.strip(" ;:,.") for text in _ADVICE.split(reason))
    return _sentence(observed), tuple(map(_sentence, advice))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""


def figures(inputs: ReportInput) -> list[Figure]:
    """List the main numbers of a successful registration."""
    found, metres = inputs.registration, inputs.fixed_metres
    if found is None or not inputs.ok:
        return []
    check, error = found.check_rmse_px, found.uncertainty_px or {}
    ground = "" if check is None or metres is None else f"{check * metres:.1f} m on the ground; "
    confidence = "unknown" if found.confidence is None else percent(found.confidence)
    return [
        Figure("Confidence", confidence, "probability that the transform is correct"),
        Figure("Cross-validation RMSE", _px(check), f"{ground}residuals of inliers left out of the fit"),
        Figure("RMSE", _px(found.rmse_px), "residuals of the inliers; not a measure of accuracy"),
        Figure("Standard error", _px(error.get("mean")), f"mean over the overlap; largest {_px(error.get('max'))}"),
        Figure("Inliers", f"{found.n_inliers}", f"of {found.n_tie_points} tie points"),
    ]


def evidence(registration: Registration, threshold: float) -> list[Piece]:
    """List the evidence for the transform beside the typical evidence of correct registrations.

    Args:
        registration: The result.
        threshold: Largest residual of an inlier, px at matching resolution.
    """
    if not registration.evidence:
        return []
    observed, pieces = dict(registration.evidence), []
    length, ratio, check = observed.get("agreement_px"), observed.get("check_ratio"), registration.check_rmse_px
    if length is not None and ratio and check:  # acceptance is based on lengths at matching resolution
        observed["agreement_px"] = length / max(1.0, check / (ratio * threshold))
    for name, aspect in ASPECTS.items():
        strength, typical = aspect.of(observed), aspect.of(typical_figures())
        text = aspect.stated(observed)
        pieces.append(Piece(_NAMES.get(name, name), text, strength, typical, strength < _WEAK * typical))
    return pieces


def similarity_rows(registration: Registration) -> list[SimilarityRow]:
    """List the similarity before and after the registration; empty if it was not measured."""
    found = registration.similarity
    if found is None:
        return []
    before, after = found["before"], found["after"]
    return [SimilarityRow(name, before.get(key), after.get(key)) for key, name in SIMILARITIES.items()]


def movement(registration: Registration) -> list[Figure]:
    """Describe how the transform moves the centre of the moving image, relative to its prior position."""
    if registration.matrix is None:
        return []
    fixed, moving = registration.fixed_grid, registration.moving_grid
    prior, centre = prior_matrix(fixed, moving), [moving.centre]
    x, y = (project(registration.matrix, centre) - project(prior, centre))[0]
    change = decompose(compose(registration.matrix, invert(prior)), fixed.shape)
    georeferenced = fixed.georeferenced and moving.georeferenced
    prior_place = "the georeferences place it" if georeferenced else "it lies if centred at equal size"
    size = fixed.metres_per_pixel
    metres = "" if size is None else f"; {(x**2 + y**2) ** 0.5 * size:.1f} m in total"
    return [
        Figure("Shift", f"{x:+.2f}, {y:+.2f} px", f"right, down from where {prior_place}{metres}"),
        Figure("Rotation", f"{change.rotation_deg:+.3f}°", "clockwise"),
        Figure("Scale", f"{change.scale:.5f}", f"{change.scale - 1:+.2%}"),
        Figure("Perspective", f"{change.perspective:.4f}", "largest change of scale between corners; 0 if affine"),
    ]


def percent(share: float) -> str:
    """Format a probability in per cent; above ``MAX_SHOWN`` as a bound."""
    return f"over {MAX_SHOWN:.0%}" if share > MAX_SHOWN else f"{share:.0%}"


def with_metres(px: float, metres: float | None) -> str:
    """Format a length in px, and in metres if the pixel size is known."""
    return f"{px:.2f} px" if metres is None else f"{px:.2f} px ({px * metres:.1f} m)"


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with fixed decimals; a dash if it is unknown."""
    return "–" if value is None else f"{value:.{digits}f}"


def _px(length: float | None) -> str:
    return "unknown" if length is None else f"{length:.2f} px"
