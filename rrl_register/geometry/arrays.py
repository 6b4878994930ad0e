"""Array types that every layer shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
"""Numbers of any shape."""
Flags = NDArray[np.bool_]
"""Booleans of any shape."""
Points = NDArray[np.float64]
"""``(N, 2)`` places (x, y) = (column, row), px."""
Matrix = NDArray[np.float64]
"""``(3, 3)`` homography."""
Weights = NDArray[np.float64]
"""``(N,)`` weights of squared residuals, >= 0."""
Image = NDArray[np.float32]
"""``(H, W)`` grey values."""
Mask = NDArray[np.bool_]
"""``(H, W)``, true where an image has data."""
Array = NDArray[Any]
"""Pixels of any type."""
Indices = NDArray[np.int64]
"""``(N,)`` positions in another array."""
Patches = NDArray[np.float32]
"""``(N, 64, 64)`` patches as the network takes them."""
