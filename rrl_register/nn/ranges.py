"""Between what numbers the maps of a network lie, seen on patches: what their bytes are to span."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rrl_register.nn.encoder_choice import Spectrum
from rrl_register.nn.mgla import MGLA
from rrl_register.nn.rrlnet import RRLNet, standardise
from rrl_register.nn.steps import Step

VALUES_PER_MAP = 10_000
"""Kept of each map of a batch, drawn at random."""
_SHARES = np.linspace(1.0, 0.2, 33)
"""Of the whole range, those that are tried."""


class Range(NamedTuple):
    """The least and the largest number that is told from its neighbours; those beyond are taken for these."""

    low: float
    high: float

    @property
    def negated(self) -> Range:
        """The range of the numbers with their signs turned."""
        return Range(-self.high, -self.low)


@dataclass(frozen=True)
class Observed:
    """What a network's maps are like on patches.

    Attributes:
        ranges: By name of the module that makes the map, of each convolution and attention, those whose bytes have the
            least mean squared error; ``patches``, of the standardised patches; ``private.<stage>``, of the private
            features of both patches.
        means: By name of the convolution, ``(C,)`` the mean of each channel that it takes in.
    """

    ranges: dict[str, Range]
    means: dict[str, NDArray[np.float64]]


def observe(network: RRLNet, batches: Iterable[tuple[Tensor, Tensor]]) -> Observed:
    """Looks at what a network makes of pairs of patches.

    Args:
        network: With folded batch norms, on the CPU, in evaluation mode.
        batches: Visible and other patches of pairs, ``(N, 1, 64, 64)`` each.
    """
    seen = _Seen()
    with torch.inference_mode(), _watched(network, seen):
        for visible, other in batches:
            seen.add("patches", standardise(torch.cat([visible, other])))
            network.score(network.encode(visible, Spectrum.VISIBLE), network.encode(other, Spectrum.OTHER))
    return seen.observed()


def best_range(values: NDArray[np.floating[Any]]) -> Range:
    """The range whose bytes have the least mean squared error; it reaches to 0 at least.

    Args:
        values: ``(N,)`` numbers.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    best = Range(low, high)
    best = min((Range(best.low, share * high) for share in _SHARES), key=lambda tried: _error(values, tried))
    return min((Range(share * low, best.high) for share in _SHARES), key=lambda tried: _error(values, tried))


def _error(values: NDArray[np.floating[Any]], tried: Range) -> float:
    scale = Step.spanning(*tried).scale
    rounded = np.rint(values.clip(*tried) / scale) * scale
    return float(np.mean(np.square(rounded - values)))


class _Seen:
    """Numbers out of each map, drawn alike in every run."""

    def __init__(self) -> None:
        self._values: Mapping[str, list[NDArray[np.float32]]] = defaultdict(list)
        self._taken: Mapping[str, list[NDArray[np.float64]]] = defaultdict(list)
        self._random = np.random.default_rng(0)

    def convolution(self, name: str, taken: Tensor, made: Tensor) -> None:
        self.add(name, made)
        self._taken[name].append(taken.double().mean(dim=(0, 2, 3)).numpy())

    def add(self, name: str, values: Tensor) -> None:
        flat = values.reshape(-1).numpy()
        self._values[name].append(flat[self._random.integers(len(flat), size=min(len(flat), VALUES_PER_MAP))])

    def observed(self) -> Observed:
        return Observed(
            {name: best_range(np.concatenate(values)) for name, values in self._values.items()},
            {name: np.mean(means, axis=0) for name, means in self._taken.items()},
        )


@contextmanager
def _watched(network: RRLNet, seen: _Seen) -> Iterator[None]:
    """Shows what convolutions and attentions make, and what the aggregation takes in, while it lasts."""
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hook = partial(_see_convolution, seen, name)
            handles.append(module.register_forward_hook(hook))
        elif isinstance(module, MGLA):
            handles.append(module.register_forward_hook(partial(_see_attention, seen, name)))
    for stage, channels in enumerate(network.architecture.channels):
        first = network.get_submodule(f"aggregation.blocks.{stage}.0.0")
        handles.append(first.register_forward_hook(partial(_see_private, seen, stage, 2 * channels)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _see_convolution(seen: _Seen, name: str, _: nn.Module, taken: tuple[Tensor], made: Tensor) -> None:
    seen.convolution(name, taken[0], made)


def _see_attention(seen: _Seen, name: str, _: nn.Module, __: tuple[Tensor], made: Tensor) -> None:
    seen.add(name, made)


def _see_private(seen: _Seen, stage: int, channels: int, _: nn.Module, taken: tuple[Tensor], __: Tensor) -> None:
    """The private features are the last channels that an aggregation's first convolution takes in."""
    seen.add(f"private.{stage}", taken[0][:, -channels:])
