"""Print the error of a registration against the known transform of a sample pair.

python examples/compare_with_truth.py RESULT.json data/rgb_nir_truth.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt


def errors_px(estimated: npt.ArrayLike, truth: npt.ArrayLike, width: int, height: int) -> npt.NDArray[np.float64]:
    """Measure the distance between the places two transforms map a pixel to, on a lattice over the moving image.

    Args:
        estimated: (3, 3), moving pixel -> fixed pixel.
        truth: (3, 3), moving pixel -> fixed pixel.
        width: Columns of the moving image.
        height: Rows of the moving image.

    Returns:
        (81,) distances, fixed px.
    """
    x, y = np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9))
    points = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    found, known = (np.asarray(matrix, float) @ points for matrix in (estimated, truth))
    return np.asarray(np.hypot(*(found[:2] / found[2] - known[:2] / known[2])))


def main() -> None:
    """Read both files and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="RESULT.json of rrl-register --json")
    parser.add_argument("truth", type=Path, help="known transform of the pair, beside its images")
    arguments = parser.parse_args()
    result = json.loads(arguments.result.read_text())
    truth = json.loads(arguments.truth.read_text())
    if result["status"] != "ok":
        raise SystemExit(f"not registered: {result['reason']}")
    grid = result["moving_grid"]
    errors = errors_px(result["matrix"], truth["matrix"], grid["width"], grid["height"])
    print(f"Error against the truth: mean {errors.mean():.2f} px, largest {errors.max():.2f} px.")


if __name__ == "__main__":
    main()
