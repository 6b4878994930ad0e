"""The sample pairs in data/: what they are, that their truth is true, that their scripts make them."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio

PAIRS = {
    "rgb_nir": (515, 403, "EPSG:32618", "uint8"),
    "synthetic_optical_sar": (600, 600, "EPSG:32633", "uint16"),
    "synthetic_change": (320, 320, "EPSG:32633", "uint16"),
}


def read_truth(samples: Path, name: str) -> np.ndarray:
    truth = json.loads((samples / f"{name}_truth.json").read_text())
    assert (truth["fixed"], truth["moving"]) == (f"{name}_fixed.tif", f"{name}_moving.tif")
    return np.array(truth["matrix"])


@pytest.mark.parametrize("name", PAIRS)
def test_files_are_small_georeferenced_and_as_described(samples: Path, name: str) -> None:
    width, height, crs, moving_dtype = PAIRS[name]
    for part, bands, dtype in (("fixed", 3, "uint8"), ("moving", 1, moving_dtype)):
        path = samples / f"{name}_{part}.tif"
        assert path.stat().st_size < 1.5e6
        with rasterio.open(path) as dataset:
            assert (dataset.width, dataset.height, dataset.count) == (width, height, bands)
            assert (dataset.crs.to_string(), dataset.dtypes[0]) == (crs, dtype)
            assert not dataset.transform.is_identity
            assert dataset.tags()["MADE_BY"].startswith("data/make_")


@pytest.mark.parametrize("name", ["synthetic_optical_sar", "synthetic_change"])
def test_synthetic_pairs_say_so(samples: Path, name: str) -> None:
    for part in ("fixed", "moving"):
        with rasterio.open(samples / f"{name}_{part}.tif") as dataset:
            assert dataset.tags()["SYNTHETIC"].startswith("YES")


@pytest.mark.parametrize("name", PAIRS)
def test_truth_is_where_the_edges_agree_best(samples: Path, name: str) -> None:
    """Shifting the aligned image by 2 px either way must make its edges agree less with the fixed image's."""
    fixed, aligned, valid = aligned_edges(samples, name)
    agreement = {
        shift: np.corrcoef(fixed[valid], np.roll(aligned, shift, (0, 1))[valid])[0, 1]
        for shift in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))
    }
    assert max(agreement, key=agreement.__getitem__) == (0, 0)
    assert agreement[0, 0] > 0.15


@pytest.mark.parametrize("name", PAIRS)
def test_pair_is_misregistered_by_tens_of_pixels(samples: Path, name: str) -> None:
    width, height, *_ = PAIRS[name]
    corners = np.array([[(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)]], float)
    moved = np.linalg.norm(cv2.perspectiveTransform(corners, read_truth(samples, name)) - corners, axis=-1)
    assert 10 < moved.mean() < 60


def test_a_part_of_the_land_has_changed(samples: Path) -> None:
    with rasterio.open(samples / "synthetic_change_mask.tif") as dataset:
        assert 0.05 < dataset.read().mean() < 0.12


def test_sar_contrast_does_not_follow_brightness(samples: Path) -> None:
    fixed, moving = read_grey(samples, "synthetic_optical_sar")
    aligned = warp(moving, read_truth(samples, "synthetic_optical_sar"), fixed.shape)
    valid = aligned > 0
    correlation = np.corrcoef(cv2.blur(fixed, (9, 9))[valid], cv2.blur(aligned, (9, 9))[valid])[0, 1]
    assert abs(correlation) < 0.4


def test_speckle_of_the_sar_image_has_four_looks(samples: Path) -> None:
    """On the lake nothing but speckle varies: mean squared over variance of the intensity is the number of looks."""
    with rasterio.open(samples / "synthetic_optical_sar_moving.tif") as dataset:
        amplitude = dataset.read(1).astype(float)
    lake = amplitude[440:490, 80:160] ** 2
    assert lake.mean() ** 2 / lake.var() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    ("script", "name", "parts"),
    [
        ("make_synthetic_sar_pair.py", "synthetic_optical_sar", ("fixed", "moving")),
        ("make_change_pair.py", "synthetic_change", ("fixed", "mask", "moving")),
    ],
)
def test_scripts_make_the_synthetic_pairs_again(
    samples: Path, tmp_path: Path, script: str, name: str, parts: tuple[str, ...]
) -> None:
    subprocess.run([sys.executable, samples / script, "--folder", tmp_path], check=True)
    rasters = [f"{name}_{part}.tif" for part in parts]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*rasters, f"{name}_truth.json"]
    assert np.allclose(read_truth(tmp_path, name), read_truth(samples, name))
    for raster in rasters:
        with rasterio.open(tmp_path / raster) as made, rasterio.open(samples / raster) as committed:
            difference = np.abs(made.read().astype(int) - committed.read().astype(int))
        # Another version of a library may round a few pixels differently.
        assert np.mean(difference > 1) < 1e-3


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_example_measures_the_error(samples: Path, shift: float) -> None:
    example = runpy.run_path(str(samples.parent / "examples" / "compare_with_truth.py"))
    truth = read_truth(samples, "rgb_nir")
    moved = np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1]]) @ truth
    assert np.allclose(example["errors_px"](moved, truth, 515, 403), shift)


def aligned_edges(samples: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fixed, moving = read_grey(samples, name)
    valid = warp((moving > 0).astype(np.float32), read_truth(samples, name), fixed.shape) > 0.99
    valid = cv2.erode(valid.astype(np.uint8), np.ones((15, 15))) > 0
    return edges(fixed), edges(warp(moving, read_truth(samples, name), fixed.shape)), valid


def read_grey(samples: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    with rasterio.open(samples / f"{name}_fixed.tif") as fixed, rasterio.open(samples / f"{name}_moving.tif") as moving:
        return fixed.read().astype(np.float32).mean(axis=0), np.log1p(moving.read(1).astype(np.float32))


def warp(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.warpPerspective(image, matrix, shape[::-1], flags=cv2.INTER_LINEAR)


def edges(image: np.ndarray) -> np.ndarray:
    smooth = cv2.GaussianBlur(image, (0, 0), 2)
    strength = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return np.log1p(strength / strength.mean())
