"""A scorer without the relation part: probabilities from the descriptor's cosine, calibrated on training pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from rrl_register.errors import InputError
from rrl_register.geometry.arrays import Patches
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.nn.patches import Spectrum
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.training.bank import SIMULATED, load_bank
from rrl_register.training.config import LossConfig
from rrl_register.training.datasets import PairFolder
from rrl_register.training.evaluation.patch_set import cosines
from rrl_register.training.sampling import GeometryConfig, PatchBatch, PatchSampler
from rrl_register.training.steps import hard_negatives

PAIRS_PER_GROUP = 64
SEED = 0


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs of patches as the relation part is trained on them: right ones, hard negatives, near misses.

    Attributes:
        visible, other: Patches, (N, 1, 64, 64) and (2 N, 1, 64, 64).
        left, right: (3 N,) the pairs, a third of each sort in this order.
    """

    visible: Patches
    other: Patches
    left: NDArray[np.int64]
    right: NDArray[np.int64]


@dataclass(frozen=True)
class Calibration:
    """Logistic function from cosine to probability: the cosine of probability 1/2, and its slope there."""

    threshold: float
    scale: float


class DescriptorScorer(Scorer):
    """The descriptor alone: its cosine through a logistic function.

    Args:
        network: The network; its relation part is not used.
        name: Of its weights.
        calibration: From cosine to probability.
    """

    def __init__(self, network: RRLNet, name: str, calibration: Calibration) -> None:
        super().__init__(network=network, name=f"{name}, descriptor alone")
        self._calibration = calibration

    def score(
        self, visible: Patches, other: Patches, left: NDArray[np.int64], right: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Probabilities that patches match, as ``Scorer.score``."""
        similarity = cosines(self, visible, other, left, right)
        return np.asarray(expit((similarity - self._calibration.threshold) / self._calibration.scale), np.float32)


def held_out_pairs(train: Path, scorer: Scorer) -> LabelledPairs:
    """Draw patches of the training pairs that training keeps for validation, as many of each set.

    Hard negatives are hard for the descriptor of ``scorer``: the network's candidates come by it.

    Args:
        train: Folder with ``pairs.csv``.
        scorer: A network.

    Raises:
        InputError: The pairs cannot be read.
    """
    generator = torch.Generator().manual_seed(SEED)
    bank = load_bank((PairFolder(train),), validation=True, device=torch.device("cpu"))
    groups = sorted(group for group in bank.groups if not group.endswith(SIMULATED))
    sampler = PatchSampler(bank, dict.fromkeys(groups, 1.0), GeometryConfig(), generator)
    batches = [sampler.draw(PAIRS_PER_GROUP, group) for group in groups]
    wrong = [_hard_negatives(batch, scorer, generator) for batch in batches]
    first = np.cumsum([0, *(len(w) for w in wrong)])
    row = np.arange(first[-1])
    return LabelledPairs(
        visible=np.concatenate([batch.visible for batch in batches]),
        other=np.concatenate([batch.other for batch in batches] + [batch.near for batch in batches]),
        left=np.tile(row, 3),
        right=np.concatenate([row, *(w + start for w, start in zip(wrong, first[:-1], strict=True)), row + len(row)]),
    )


def _hard_negatives(batch: PatchBatch, scorer: Scorer, generator: torch.Generator) -> NDArray[np.int64]:
    visible = torch.from_numpy(scorer.describe(batch.visible.numpy(), Spectrum.VISIBLE))
    other = torch.from_numpy(scorer.describe(batch.other.numpy(), Spectrum.OTHER))
    return hard_negatives(visible, other, batch.too_close(), LossConfig().hard_top, generator).numpy()


def calibrate(scorer: Scorer, pairs: LabelledPairs) -> Calibration:
    """Fit the logistic function to labelled pairs (Platt 1999), right and wrong ones of equal weight in all.

    Raises:
        InputError: Right pairs are not more alike than wrong ones.
    """
    similarity = cosines(scorer, pairs.visible, pairs.other, pairs.left, pairs.right)
    n = len(similarity) // 3
    sign = np.repeat([1.0, -1.0], [n, 2 * n])
    weight = np.repeat([1.0, 0.5], [n, 2 * n]) / (2 * n)

    def loss(line: NDArray[np.float64]) -> float:
        """Weighted logistic loss of a line, slope and intercept."""
        return float(weight @ np.logaddexp(0, -sign * (line[0] * similarity + line[1])))

    slope, offset = minimize(loss, np.array([1.0, 0.0]), method="BFGS").x
    if slope <= 0:
        raise InputError(
            "right pairs are no more alike than wrong ones by the descriptor: give --weights of a trained network"
        )
    return Calibration(threshold=float(-offset / slope), scale=float(1 / slope))
