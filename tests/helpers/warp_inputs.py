"""Types, transforms and random images for tests of warping."""

from __future__ import annotations

import numpy as np

from rrl_register.config import Resampling

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
COMPLEX = ["complex64", "complex128"]
TILTED = np.array([[0.94, 0.12, 5.3], [-0.1, 1.05, -3.7], [1e-4, -2e-4, 1]])
METHODS = list(Resampling)


def shift(dx: float, dy: float) -> np.ndarray:
    return np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1]], np.float64)


def noise(rng: np.random.Generator, dtype: str, shape: tuple[int, ...] = (60, 70)) -> np.ndarray:
    """Values all over the type's range."""
    if dtype.startswith("complex"):
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    if dtype.startswith("float"):
        return rng.normal(0, 1e6, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
