"""Scores of patch pairs: the network's probabilities, and the cosines of its descriptors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Patches
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import Spectrum
from rrl_register.training.evaluation.figures import Scores
from rrl_register.training.evaluation.pair_patches import FamilyPatches
from rrl_register.training.evaluation.patch_set import PatchSet

_PAIRS_AT_A_TIME = 2048
"""Batch that bounds the memory to 64 MiB of patches."""


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
    visible = _as_floats(patches.visible)
    other = _as_floats(np.concatenate([patches.other, patches.near]))
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


def _as_floats(patches: NDArray[np.uint8]) -> Patches:
    return np.asarray(patches[:, None] / np.float32(255), np.float32)


def _checked(scores: Scores, scorer: Scorer) -> Scores:
    wrong = int((~np.isfinite(scores.network) | ~np.isfinite(scores.descriptor)).sum())
    if wrong:
        raise InputError(
            f"the weights {scorer.name} return no number for {wrong} of {len(scores.labels)} pairs; needed a "
            "probability for each: try other weights, or --device cpu"
        )
    return scores
