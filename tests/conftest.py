"""What all tests share: where the sample pairs are, where the real pairs are, how properties are searched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from hypothesis import settings
from rasterio.enums import ColorInterp

from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.grid import Grid

if TYPE_CHECKING:
    from rrl_register.nn.rrlnet import RRLNet

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("deterministic")


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of the sample pairs that ship with the repository."""
    return REPOSITORY / "data"


@pytest.fixture(scope="session")
def truth_of(samples: Path) -> Callable[[str], np.ndarray]:
    """Reads the known transform of a sample pair, (3, 3), moving pixel -> fixed pixel."""

    def read(name: str) -> np.ndarray:
        return np.array(json.loads((samples / f"{name}_truth.json").read_text())["matrix"])

    return read


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real pairs (``dev/``, ``train/``); the test is skipped where there is none."""
    folder = Path(os.environ.get("RRL_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "dev" / "pairs.json").is_file():
        pytest.skip(f"no real image pairs at {folder}; set RRL_SHARED_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def make_registration() -> Callable[..., Registration]:
    """Builds results without matching anything: 3 inliers and 2 rejected points, fields as asked for."""

    def build(**changes: Any) -> Registration:
        points = np.array([(10.0, 20.0), (150.0, 30.0), (70.0, 160.0), (20.0, 120.0), (90.0, 90.0)])
        fields = {
            "status": "ok",
            "reason": "",
            "model": "homography",
            "matrix": np.eye(3),
            "n_keypoints_fixed": 50,
            "n_keypoints_moving": 60,
            "n_candidates": 200,
            "n_tie_points": 5,
            "n_inliers": 3,
            "rmse_px": 0.8,
            "check_rmse_px": 1.1,
            "confidence": 0.9,
            "evidence": {"share": 0.6},
            "seconds": {"read": 1.0, "match": 2.0},
            "device": "cpu",
            "weights": "test",
            "fixed_kind": "optical",
            "moving_kind": "ir",
            "support_px": 64,
            "fixed_grid": Grid(200, 200),
            "moving_grid": Grid(200, 200),
            "tie_points": TiePoints(points, points, np.full(5, 0.9)),
            "inlier": np.array([True, True, True, False, False]),
        }
        return Registration(**{**fields, **changes})

    return build


@pytest.fixture(scope="session")
def make_network() -> Callable[..., RRLNet]:
    """Builds untrained networks, all the same, whose answers differ widely from pair to pair.

    Without batch norms that know their inputs and a steep last layer, all scores would be nearly 0.5.
    """
    import torch  # here, because most tests do without

    from rrl_register.nn.patches import Spectrum
    from rrl_register.nn.rrlnet import RRLNet

    @torch.no_grad()
    def build(training_heads: bool = False) -> RRLNet:
        torch.set_num_threads(1)
        torch.manual_seed(16)
        net = RRLNet(training_heads)
        norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        encoded = [net.encode(torch.rand(8, 1, 64, 64), spectrum) for spectrum in Spectrum]
        net.logits(*encoded)
        for norm in norms:
            norm.momentum = 0.1
        logits = net.eval().logits(*encoded)
        last = net.metric[-1]
        last.bias.sub_(logits.mean())
        for parameter in last.parameters():
            parameter.mul_(2 / logits.std())
        return net

    return build


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240607)


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array, (H, W) or (B, H, W), as a GeoTIFF in the test's folder; extra arguments go into its profile."""

    def write(
        image: np.ndarray,
        name: str = "image.tif",
        *,
        names: tuple[str, ...] = (),
        colours: tuple[ColorInterp, ...] = (),
        tags: dict[str, str] | None = None,
        band_tags: dict[str, str] | None = None,
        mask: np.ndarray | None = None,
        **profile: Any,
    ) -> Path:
        bands = image if image.ndim == 3 else image[None]
        count, height, width = bands.shape
        layout = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": bands.dtype, **profile}
        path = tmp_path / name
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **layout) as target:
            if colours:
                target.colorinterp = colours
            if names:
                target.descriptions = names
            target.update_tags(**(tags or {}))
            target.update_tags(1, **(band_tags or {}))
            target.write(bands)
            if mask is not None:
                target.write_mask(mask)
        return path

    return write
