"""What a report says: the verdict in a sentence, its evidence in figures, what to try where it failed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rrl_register.estimation.acceptance import ASPECTS, Aspect, Figures, typical_figures
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.arrays import Matrix
from rrl_register.geometry.transforms import compose, decompose, invert, project
from rrl_register.raster.grid import Grid, prior_matrix
from rrl_register.report.inputs import Case

SURE = 0.9
"""Confidence from which a person is not told to look twice."""
MOST_TOLD = 0.99
"""The confidence was fitted on too few registrations to be told apart from certainty beyond this."""
_WEAK = 0.5
"""Strength of a piece of evidence, over what is typical, below which it is pointed out."""
_ADVICE = re.compile(r"(?:^|[:;,]\s+(?:or\s+)?)(?=(?:check|try|choose|take|name|look|see|register|give|needed)\b)")

_NAMES = {
    "inliers": "Agreement",
    "independent": "Independence",
    "share": "Share that agrees",
    "over_chance": "Against chance",
    "coverage": "Extent",
    "occupied": "Spread",
    "score": "Network's score",
    "score_margin": "Network's preference",
    "control_rejection": "Wrong places refused",
    "held_out": "Points kept out",
    "agreeing": "Found back",
    "agreement": "Search back",
    "certain": "Certainty",
}
MODELS = {
    "translation": "a translation",
    "similarity": "a similarity",
    "affine": "an affine transform",
    "homography": "a homography",
    "polynomial2": "a homography and a polynomial of degree 2",
    "polynomial3": "a homography and a polynomial of degree 3",
    "thin-plate": "a homography and a thin-plate spline",
}
KINDS = {"optical": "optical", "ir": "infrared", "sar": "SAR", "auto": "of a kind not known"}


@dataclass(frozen=True)
class Verdict:
    """What became of a pair.

    Attributes:
        tone: ``good``, ``doubtful`` or ``failed``.
        title: In two or three words.
        sentence: Why.
        advice: What to do, a sentence each.
    """

    tone: str
    title: str
    sentence: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A number with its name, its unit and what it means."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class SimilarityRow:
    """A measure of similarity before and after the registration."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Piece:
    """A piece of evidence.

    Attributes:
        name: In two or three words.
        said: What was seen.
        strength, typical: Of it, and of right registrations, 0-1.
        weak: Whether it falls far short of what is typical.
    """

    name: str
    said: str
    strength: float
    typical: float
    weak: bool


def verdict(case: Case) -> Verdict:
    """Say in a sentence what became of a pair, and what is left to do."""
    found = case.registration
    if found is None or not case.ok:
        seen, advice = split_reason(case.reason)
        title = "Not registered" if found else "Could not begin"
        return Verdict("failed", title, seen, (*advice, *_general_advice(case)))
    agreement = (
        f"{found.n_inliers} of {found.n_tie_points} tie points agree on {MODELS.get(found.model or '', 'a transform')}"
        f"{_held_out(case, found)}."
    )
    look = ("Look at the overlay below before you use it.",)
    if found.confidence is None:
        return Verdict("doubtful", "Fitted to points given", f"{agreement} No network has judged these points.", look)
    sentence = f"{agreement} By this evidence the transform is right with a probability of {percent(found.confidence)}."
    if found.confidence >= SURE:
        return Verdict("good", "Registered", sentence)
    return Verdict("doubtful", "Registered, not beyond doubt", sentence, look)


def _held_out(case: Case, found: Registration) -> str:
    if found.check_rmse_px is None:
        return ""
    return (
        f", and points that were kept out of the fit miss it by {with_metres(found.check_rmse_px, case.fixed_metres)}"
    )


def _general_advice(case: Case) -> tuple[str, ...]:
    if case.registration is None:
        return ()
    return ("Compare the two images below: they have to show the same place, and their kinds have to be as stated.",)


def split_reason(reason: str) -> tuple[str, tuple[str, ...]]:
    """Part the reason of a failure into what was seen and what to do about it, each as sentences."""
    seen, *advice = _ADVICE.split(reason)
    return _sentence(seen), tuple(_sentence(part) for part in advice)


def _sentence(text: str) -> str:
    text = text.strip(" ;:,.")
    return text[:1].upper() + text[1:] + "." if text else ""


def figures(case: Case) -> list[Figure]:
    """The numbers that matter most, of a registration that succeeded."""
    found, metres = case.registration, case.fixed_metres
    if found is None or not case.ok:
        return []
    spread = found.uncertainty_px or {}
    listed = [
        (
            "Confidence",
            "unknown" if found.confidence is None else percent(found.confidence),
            "probability that the transform is right",
        ),
        (
            "Held-out error",
            _px(found.check_rmse_px),
            _ground(found.check_rmse_px, metres, "points kept out of the fit"),
        ),
        ("Fit", _px(found.rmse_px), "RMSE of the inliers: how well it fits, not how accurate it is"),
        ("Uncertainty", _px(spread.get("mean")), f"standard error in the mean; at most {_px(spread.get('max'))}"),
        ("Inliers", f"{found.n_inliers}", f"of {found.n_tie_points} tie points"),
    ]
    return [Figure(*row) for row in listed]


def evidence(registration: Registration, threshold: float) -> list[Piece]:
    """What speaks for the transform, piece by piece, beside what is typical of right registrations.

    Args:
        registration: The result.
        threshold: Inlier threshold, px of the image that was matched on.
    """
    seen = _in_working_px(registration, threshold)
    return [_piece(name, aspect, seen) for name, aspect in ASPECTS.items()] if seen else []


def _piece(name: str, aspect: Aspect, seen: Figures) -> Piece:
    strength, typical = aspect.of(seen), aspect.of(typical_figures())
    said = aspect.said.format(aspect.shown(seen))
    return Piece(_NAMES.get(name, name), said, strength, typical, strength < _WEAK * typical)


def _in_working_px(registration: Registration, threshold: float) -> Figures:
    """The evidence with lengths in px of the image that was matched on, which the verdict goes by."""
    seen = dict(registration.evidence)
    length, ratio, check = seen.get("agreement_px"), seen.get("check_ratio"), registration.check_rmse_px
    if length is not None and ratio and check:
        seen["agreement_px"] = length * max(1.0, check / (ratio * threshold)) ** -1
    return seen


def similarity_rows(registration: Registration) -> list[SimilarityRow]:
    """List the similarity figures that were measured; empty if none were."""
    found = registration.similarity
    if found is None:
        return []
    names = {"nmi": "Normalised mutual information", "gradient_ssim": "Structural similarity of gradients"}
    return [SimilarityRow(names[key], found["before"].get(key), found["after"].get(key)) for key in names]


def movement(registration: Registration) -> list[Figure]:
    """What the transform does at the middle of the moving image, beyond what georeferences, or sizes, say."""
    if registration.matrix is None:
        return []
    fixed, moving = registration.fixed_grid, registration.moving_grid
    prior = prior_matrix(fixed, moving)
    centre = [moving.centre]
    x, y = (project(registration.matrix, centre) - project(prior, centre))[0]
    change = decompose(_on_top(registration.matrix, prior), fixed.shape)
    basis = (
        "the georeferences"
        if fixed.georeferenced and moving.georeferenced
        else "equal size with the centres on each other"
    )
    return [
        Figure("Shift", f"{x:+.2f}, {y:+.2f} px", f"right, down, on top of {basis}{_metres_note(x, y, fixed)}"),
        Figure("Rotation", f"{change.rotation_deg:+.3f}°", "clockwise"),
        Figure("Scale", f"{change.scale:.5f}", f"{100 * (change.scale - 1):+.2f} %"),
        Figure(
            "Perspective", f"{change.perspective:.4f}", "largest change of scale from corner to corner; 0 for an affine"
        ),
    ]


def _on_top(matrix: Matrix, prior: Matrix) -> Matrix:
    """What is to follow the prior for both together to be the matrix, fixed px -> fixed px."""
    return compose(matrix, invert(prior))


def _metres_note(x: float, y: float, fixed: Grid) -> str:
    size = fixed.metres_per_pixel
    return "" if size is None else f"; {(x**2 + y**2) ** 0.5 * size:.1f} m in all"


def percent(share: float) -> str:
    """A probability in per cent, without pretence of certainty."""
    if share > MOST_TOLD:
        return f"over {MOST_TOLD:.0%}".replace("%", " %")
    return f"{100 * share:.0f} %"


def with_metres(px: float, metres: float | None) -> str:
    """A length in px, and on the ground where that is known."""
    return f"{px:.2f} px" if metres is None else f"{px:.2f} px ({px * metres:.1f} m)"


def _px(length: float | None) -> str:
    return "unknown" if length is None else f"{length:.2f} px"


def _ground(length: float | None, metres: float | None, note: str) -> str:
    return note if length is None or metres is None else f"{length * metres:.1f} m on the ground, {note}"
