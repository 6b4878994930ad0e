"""Sets of patch pairs on disk, in the layout of the RRL-Net authors' release, and the scores of patch pairs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Kind
from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Flags, Patches
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import PATCH_SIZE, Spectrum
from rrl_register.raster.stretch import compress_amplitudes
from rrl_register.training.evaluation.pair_patches import FamilyPatches

_SAR_NAME = re.compile(r"(?:^|[^a-z0-9])(?:sar\d*|s1|sentinel1|vv|vh|hh|hv|sigma0|gamma0)(?:[^a-z0-9]|$)")
_LINEAR_SKEW = 0.5
"""Speckled amplitudes stretched to [0, 1] have a skewness of 0.8 and more, decibels one of -0.8 to 0.2."""
_SAMPLE = 512
"""Pairs whose skewness is computed."""


@dataclass(frozen=True)
class PatchSet:
    """Pairs of a visible patch and one of another spectrum.

    Attributes:
        name: Name of the set.
        images: (N, 2, 64, 64) uint8, or float in [0, 1]; may be mapped from a file.
        labels: (N,) bool, true for matching pairs; both classes occur.
        scenes: (N,) name of the scene of each pair; None if unknown.
        linear: True if the other spectrum is SAR in linear amplitudes, which ``patches`` compresses by a logarithm.
        taken_as: Kind of the other spectrum and why, in a few words.
    """

    name: str
    images: NDArray[Any]
    labels: Flags
    scenes: NDArray[np.str_] | None = None
    linear: bool = False
    taken_as: str = "as it is"

    def __len__(self) -> int:
        return len(self.labels)

    def patches(self, rows: slice) -> tuple[Patches, Patches]:
        """Return some pairs as the pipeline passes them to the network.

        Returns:
            Visible patches and the others, (n, 1, 64, 64) float32 in [0, 1] each.

        Raises:
            InputError: Floats lie outside [0, 1].
        """
        pairs = _as_floats(self.images[rows], self.name)
        visible, other = pairs[:, 0, None], pairs[:, 1, None]
        return visible, compress_amplitudes(other) if self.linear else other


def load_patch_set(
    images: Path, labels: Path, scenes: Path | None = None, kind: Kind = Kind.AUTO, every: int = 1
) -> PatchSet:
    """Read a set; its images are mapped from the file.

    Args:
        images: .npy, (N, 2, 64, 64) or (N, 64, 64, 2), uint8 or float in [0, 1]; the visible patch comes first.
        labels: .npy, (N,) or (N, 1), 1 for matching pairs, 0 for others.
        scenes: .npy, (N,), text or numbers.
        kind: Kind of the second patches. SAR: linear amplitudes; optical and ir: used unchanged, also for SAR in
            decibels; auto: detected by ``other_spectrum``.
        every: Take every K-th pair.

    Raises:
        InputError: A file cannot be read, has another shape or type, or all its pairs are of one class.
    """
    arrays = _as_pairs(images, _load(images))
    matching = _as_labels(labels, _load(labels))
    _require_length(labels, len(matching), images, len(arrays))
    names = None
    if scenes is not None:
        names = _load(scenes)
        if names.ndim != 1 or names.dtype.kind not in "USui":
            raise InputError(
                f"{scenes} is {names.dtype} {names.shape}; needed one scene a pair, text or a number: convert it"
            )
        _require_length(scenes, len(names), images, len(arrays))
        names = np.asarray(names[::every]).astype(np.str_)
    arrays, matching = arrays[::every], matching[::every]
    require_both_classes(matching, labels)
    name = images.stem.removesuffix("_images")
    linear, taken_as = other_spectrum(name, arrays, kind)
    return PatchSet(name, arrays, matching, names, linear, taken_as)


def other_spectrum(name: str, images: NDArray[Any], kind: Kind = Kind.AUTO) -> tuple[bool, str]:
    """Detect SAR in linear amplitudes among the second patches.

    With ``auto``, they are SAR in linear amplitudes if the name contains a word such as ``sar`` or ``vv``, and the
    values are skewed to the right, as speckled amplitudes are and decibels are not.

    Args:
        name: Name of the set.
        images: (N, 2, 64, 64).
        kind: Kind that the user has set.

    Returns:
        True for linear amplitudes, and a description of the kind.
    """
    if kind is not Kind.AUTO:
        return kind is Kind.SAR, f"{kind.value}, as set"
    sample = images[:: max(1, len(images) // _SAMPLE), 1]
    away = sample - sample.mean(dtype=np.float64)
    spread = float(away.std())
    skew = float((away**3).mean()) / spread**3 if spread > 0 else 0.0
    is_skewed = skew > _LINEAR_SKEW
    if _SAR_NAME.search(name.lower()):
        if is_skewed:
            return True, f"SAR in linear amplitudes (by its name and a skewness of {skew:.2f}), log applied"
        return False, f"SAR in decibels or the like (by its name and a skewness of {skew:.2f}), used as it is"
    hint = "; for SAR in linear amplitudes give --other-kind sar" if is_skewed else ""
    return False, f"anything but SAR (by its name), used as it is{hint}"


def require_both_classes(labels: Flags, source: Path | str) -> None:
    """Check that there are matching and non-matching pairs.

    Raises:
        InputError: All pairs match, or none does.
    """
    n = int(labels.sum())
    if n in (0, len(labels)):
        raise InputError(
            f"{n} of the {len(labels)} pairs of {source} match; FPR95 needed pairs of both classes: "
            "give labels of 1 (matching) and 0"
        )


def _load(path: Path) -> NDArray[Any]:
    try:
        loaded = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        cause = str(error).splitlines()[0] if str(error) else "it is empty"
        raise InputError(f"{path} cannot be read ({cause}); needed an array written by numpy.save") from error
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path} is an archive; needed a single array: write it by numpy.save, not numpy.savez")
    return loaded


def _as_pairs(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    if array.shape[1:] == (PATCH_SIZE, PATCH_SIZE, 2):
        array = np.moveaxis(array, 3, 1)
    right_type = array.dtype == np.uint8 or array.dtype.kind == "f"
    if array.shape[1:] != (2, PATCH_SIZE, PATCH_SIZE) or not right_type or not len(array):
        raise InputError(
            f"{path} is {array.dtype} {array.shape}; needed pairs (N, 2, {PATCH_SIZE}, {PATCH_SIZE}), "
            "uint8 or float in [0, 1]: convert it"
        )
    return array


def _as_labels(path: Path, array: NDArray[Any]) -> Flags:
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if flat.ndim != 1 or flat.dtype.kind not in "buif" or not np.isin(flat, (0, 1)).all():
        raise InputError(
            f"{path} is {array.dtype} {array.shape}; needed one label a pair, 1 if it matches, else 0: convert it"
        )
    return np.asarray(flat, bool)


def _require_length(path: Path, n: int, images: Path, n_images: int) -> None:
    if n != n_images:
        raise InputError(
            f"{path} has {n} entries for the {n_images} pairs of {images}; needed one a pair: check the files"
        )


def _as_floats(images: NDArray[Any], name: str) -> Patches:
    if images.dtype == np.uint8:
        return np.asarray(images / np.float32(255), np.float32)
    floats = np.asarray(images, np.float32)
    if not (floats.min() >= 0 and floats.max() <= 1):
        raise InputError(
            f"the patches of {name} range from {floats.min():g} to {floats.max():g}; needed floats in [0, 1] or uint8: "
            "rescale them"
        )
    return floats


_PAIRS_AT_A_TIME = 2048
"""Batch that bounds the memory to 64 MiB of patches."""


@dataclass(frozen=True)
class Scores:
    """Scores of ``N`` pairs.

    Attributes:
        labels: (N,) bool, true for matching pairs.
        network: (N,) the network's probabilities.
        descriptor: (N,) cosines of the descriptors.
        scenes: (N,) name of the scene of each pair; None if unknown.
    """

    labels: Flags
    network: NDArray[np.float32]
    descriptor: NDArray[np.float32]
    scenes: NDArray[np.str_] | None = None

    def subset(self, chosen: Flags) -> Scores:
        """Select pairs by a mask (N,)."""
        scenes = None if self.scenes is None else self.scenes[chosen]
        return Scores(self.labels[chosen], self.network[chosen], self.descriptor[chosen], scenes)


def score_patch_set(patches: PatchSet, scorer: Scorer, progress: Callable[[int], object] | None = None) -> Scores:
    """Score every pair of a set.

    Args:
        patches: The set.
        scorer: The network.
        progress: Called with the number of pairs of each scored batch.

    Raises:
        InputError: The patches lie outside [0, 1], or the network returns NaN.
    """
    network, descriptor = np.empty(len(patches), np.float32), np.empty(len(patches), np.float32)
    for start in range(0, len(patches), _PAIRS_AT_A_TIME):
        rows = slice(start, min(start + _PAIRS_AT_A_TIME, len(patches)))
        visible, other = patches.patches(rows)
        row = np.arange(len(visible))
        network[rows] = scorer.score(visible, other, row, row)
        descriptor[rows] = cosines(scorer, visible, other, row, row)
        if progress:
            progress(len(visible))
    return _checked(Scores(patches.labels, network, descriptor, patches.scenes), scorer)


def score_family(patches: FamilyPatches, scorer: Scorer) -> tuple[Scores, Scores]:
    """Score the patches of a family of image pairs, each matching pair once.

    Returns:
        Scores with negatives from other places, and with near misses.

    Raises:
        InputError: The network returns NaN.
    """
    n = len(patches)
    row = np.arange(n)
    left, right = np.tile(row, 3), np.concatenate([row, patches.elsewhere, row + n])
    visible = _as_floats(patches.visible[:, None], patches.family)
    other = _as_floats(np.concatenate([patches.other, patches.near])[:, None], patches.family)
    network = scorer.score(visible, other, left, right).reshape(3, n)
    descriptor = cosines(scorer, visible, other, left, right).reshape(3, n)
    labels, scenes = np.repeat([True, False], n), np.tile(patches.scenes, 2)
    random, near = (
        Scores(labels, network[[0, wrong]].ravel(), descriptor[[0, wrong]].ravel(), scenes) for wrong in (1, 2)
    )
    return _checked(random, scorer), _checked(near, scorer)


def cosines(
    scorer: Scorer, visible: Patches, other: Patches, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Compute the cosines (P,) of the descriptors of pairs; arguments as for ``Scorer.score``."""
    one, two = scorer.describe(visible, Spectrum.VISIBLE), scorer.describe(other, Spectrum.OTHER)
    return np.asarray(np.einsum("ij,ij->i", one[left], two[right]))


def _checked(scores: Scores, scorer: Scorer) -> Scores:
    wrong = int((~np.isfinite(scores.network) | ~np.isfinite(scores.descriptor)).sum())
    if wrong:
        raise InputError(
            f"the weights {scorer.name} return no number for {wrong} of {len(scores.labels)} pairs; needed a "
            "probability for each: try other weights, or --device cpu"
        )
    return scores
