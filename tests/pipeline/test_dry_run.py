"""What a registration would do: overlap, resolution, kinds and their reasons, the search, the time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from affine import Affine

from rrl_register.config import Effort, Kind, MatchConfig, ReadConfig, RegisterConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.pipeline.dry_run import (
    NETWORK_SHARE,
    PAIRS_PER_KEYPOINT,
    SAMPLED_PAIRS,
    Plan,
    pairs_per_second,
    plan_image,
    plan_registration,
)

Make = Callable[..., Path]
CONFIG = RegisterConfig()


class Network(SimpleNamespace):
    """Scores nothing, but says how often it was asked."""

    def __init__(self) -> None:
        super().__init__(device="cpu", name="test", asked=[])

    def score(self, visible: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.asked.append((visible.shape, len(left), len(right)))
        return np.zeros(len(left), np.float32)


def geo(x: float = 0.0, y: float = 0.0, size: float = 10.0) -> dict[str, Any]:
    """The georeference of an image that begins x and y metres from a place in UTM zone 32."""
    return {"crs": "EPSG:32632", "transform": Affine(size, 0, 500_000 + x, 0, -size, 5_000_000 - y)}


@pytest.fixture
def colour(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 255, (3, 200, 300), dtype=np.uint8)


@pytest.fixture
def grey(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(1, 255, (200, 300), dtype=np.uint8)


def plan(fixed: Path, moving: Path, config: RegisterConfig = CONFIG) -> Plan:
    return plan_registration(fixed, moving, config, Network())


def test_half_an_overlap(make_raster: Make, colour: np.ndarray, grey: np.ndarray) -> None:
    found = plan(make_raster(colour, "fixed.tif", **geo()), make_raster(grey, "moving.tif", **geo(x=1500)))
    assert found.overlap is not None
    assert found.overlap.fixed_share == pytest.approx(0.5, abs=0.01)
    assert found.overlap.moving_share == pytest.approx(0.5, abs=0.01)
    assert (found.overlap.width_m, found.overlap.height_m) == pytest.approx((1500, 2000), rel=0.02)
    assert found.ratio == pytest.approx(1)
    assert found.max_shift_px == 100
    assert (found.rotations_deg, found.scales) == ((-4.0, 4.0), pytest.approx((0.95, 1.05)))


def test_the_finer_image_is_reduced_to_the_coarser_one(make_raster: Make, colour: np.ndarray, grey: np.ndarray) -> None:
    found = plan(make_raster(colour, "fixed.tif", **geo(size=5)), make_raster(grey, "moving.tif", **geo(size=10)))
    assert found.ratio == pytest.approx(2)
    assert (found.fixed.reduction, found.moving.reduction) == pytest.approx((2, 1))
    assert (found.fixed.shape, found.moving.shape) == ((100, 150), (200, 300))
    assert found.overlap is not None
    assert (found.overlap.fixed_share, found.overlap.moving_share) == pytest.approx((1, 0.25), abs=0.01)


def test_without_georeferences_nothing_is_known_of_the_overlap(
    make_raster: Make, colour: np.ndarray, grey: np.ndarray
) -> None:
    found = plan(make_raster(colour, "fixed.tif"), make_raster(grey, "moving.tif"))
    assert found.overlap is None
    assert found.max_shift_px == 150
    assert found.rotations_deg[1] - found.rotations_deg[0] > 340
    assert found.scales == pytest.approx((0.5, 2))


def test_kinds_come_with_their_reasons(make_raster: Make, colour: np.ndarray, grey: np.ndarray) -> None:
    fixed = make_raster(colour, "fixed.tif")
    by_name = plan(fixed, make_raster(grey, "moving.tif", names=("nir",)))
    assert (by_name.fixed.kind, by_name.fixed.why) == (Kind.OPTICAL, "3 bands that differ")
    assert (by_name.moving.kind, by_name.moving.why) == (Kind.IR, "names of bands, tags or file")
    told = plan(fixed, make_raster(grey, "moving.tif"), replace(CONFIG, read=ReadConfig(moving_kind=Kind.SAR)))
    assert (told.moving.kind, told.moving.why, told.support_px) == (Kind.SAR, "as configured", 96)


def test_a_kind_that_the_other_image_settles_says_so(make_raster: Make, grey: np.ndarray) -> None:
    found = plan(make_raster(grey, "fixed.tif"), make_raster(grey + 1, "moving.tif", names=("nir",)))
    assert (found.fixed.kind, found.fixed.why) == (Kind.OPTICAL, "one grey band, taken for the optical one of the two")


def test_what_holds_no_data_is_counted(make_raster: Make, colour: np.ndarray) -> None:
    colour[:, :, :75] = 0
    found = plan_image(make_raster(colour, nodata=0), CONFIG)
    assert found.valid_share == pytest.approx(0.75, abs=0.02)
    assert (found.bands, found.info.nodata) == ((1, 2, 3), 0)


def test_a_large_image_is_reduced_to_the_working_size(make_raster: Make, colour: np.ndarray) -> None:
    config = replace(CONFIG, read=ReadConfig(max_side=100, fixed_bands=(2,)))
    found = plan_image(make_raster(colour), config)
    assert (found.reduction, found.shape, found.bands) == (3, (66, 100), (2,))


def test_plans_are_json(make_raster: Make, colour: np.ndarray, grey: np.ndarray) -> None:
    fixed, moving = make_raster(colour, "fixed.tif", **geo()), make_raster(grey.astype("f4"), "m.tif", nodata=np.nan)
    found = plan(fixed, moving).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["overlap"] is None
    assert (found["moving"]["nodata"], found["fixed"]["metres_per_pixel"]) == ("nan", pytest.approx(10, rel=0.01))


def test_time_follows_from_a_probe_of_the_network() -> None:
    network = Network()
    assert pairs_per_second(network) > 0
    assert [pairs for _, pairs, _ in network.asked] == [1, 32]


def test_more_keypoints_take_longer(
    make_raster: Make, colour: np.ndarray, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rrl_register.pipeline.dry_run.pairs_per_second", lambda scorer: 10.0)
    fixed, moving = make_raster(colour, "fixed.tif"), make_raster(grey, "moving.tif")
    few, many, sampled = (
        plan(fixed, moving, replace(CONFIG, match=MatchConfig(n_keypoints=n, effort=effort)))
        for n, effort in ((100, Effort.THOROUGH), (400, Effort.THOROUGH), (400, Effort.NORMAL))
    )
    assert many.seconds == pytest.approx(4 * few.seconds) == pytest.approx(PAIRS_PER_KEYPOINT * 40 / 0.8)
    assert sampled.seconds == pytest.approx(SAMPLED_PAIRS / 10 / NETWORK_SHARE[Effort.NORMAL])
    assert sampled.seconds < many.seconds


def test_what_register_would_refuse_is_refused(make_raster: Make, colour: np.ndarray, tmp_path: Path) -> None:
    fixed = make_raster(colour, "fixed.tif", **geo())
    with pytest.raises(InputError, match="do not overlap"):
        plan(fixed, make_raster(colour, "far.tif", **geo(x=99_000)))
    with pytest.raises(InputError, match="no valid pixel"):
        plan(fixed, make_raster(np.zeros_like(colour), "black.tif", **geo()))
    with pytest.raises(UsageError, match="no band 4"):
        plan_image(fixed, replace(CONFIG, read=ReadConfig(fixed_bands=(4,))))
    (tmp_path / "note.tif").write_text("no image")
    with pytest.raises(InputError, match="Cannot read"):
        plan_image(tmp_path / "note.tif", CONFIG)
