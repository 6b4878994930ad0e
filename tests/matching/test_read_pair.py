"""What is read of two files: what they can share, at a bounded size, and windows of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from rrl_register.config import Kind, ReadConfig
from rrl_register.geometry.transforms import project
from rrl_register.geometry.window import Frame, Frames, Rectangle
from rrl_register.matching import read_pair as pair_files
from rrl_register.matching.image_pair import ImagePair
from rrl_register.matching.read_pair import PairFiles
from rrl_register.pipeline.register import max_shift_px

UTM31, UTM32 = CRS.from_epsg(32631), CRS.from_epsg(32632)
CONFIG = ReadConfig(fixed_kind=Kind.OPTICAL, moving_kind=Kind.IR)
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def ground() -> np.ndarray:
    """Smooth texture, 1 to 255, (900, 1200)."""
    noise = np.random.default_rng(21).random((45, 60), np.float32)
    image = cv2.resize(noise, (1200, 900), interpolation=cv2.INTER_CUBIC)
    return np.asarray(1 + 254 * (image - image.min()) / np.ptp(image), np.float32)


@pytest.fixture
def cut(make_raster: Make, ground: np.ndarray) -> Callable[..., Path]:
    """Writes a part of the ground, 10 m a px, at its place."""

    def write(name: str, left: int, top: int, width: int, height: int, **options: object) -> Path:
        place = Affine(10, 0, 500_000 + 10 * left, 0, -10, 5_000_000 - 10 * top)
        return make_raster(
            ground[top : top + height, left : left + width], name, **{"crs": UTM31, "transform": place, **options}
        )

    return write


def shows_the_same(pair: ImagePair, atol: float = 0.02) -> bool:
    """Whether the prior puts the moving image on the fixed one; stretches may differ a little."""
    placed, valid = pair.placed(pair.prior)
    a, b = pair.fixed.values[valid & pair.fixed.valid], placed[valid & pair.fixed.valid]
    fit = np.polyfit(b, a, 1)
    return bool(np.abs(np.polyval(fit, b) - a).mean() < atol)


def test_only_what_both_show_is_read(cut: Callable[..., Path]) -> None:
    """200 px of a moving image of 1200 are looked at, and what its georeference may be off."""
    files = PairFiles.of(cut("f.tif", 500, 300, 200, 200), cut("m.tif", 0, 0, 1200, 900), CONFIG)
    pair = files.overview(256, reach=50)
    assert (pair.fixed.factor, pair.moving.factor) == (1, 1)
    assert pair.fixed.shape == (200, 200)
    assert pair.moving.frame == Frame(pair.moving.factor, 430, 230)
    assert pair.moving.shape == (340, 340)
    assert shows_the_same(pair)
    np.testing.assert_allclose(project(pair.frames.from_files(files.prior), [(0, 0)]), [(-70, -70)])


def test_a_large_fixed_image_does_not_cost_a_small_moving_one_its_pixels(cut: Callable[..., Path]) -> None:
    files = PairFiles.of(cut("f.tif", 0, 0, 1200, 900), cut("m.tif", 500, 300, 200, 200), CONFIG)
    pair = files.overview(400, reach=50)
    assert pair.fixed.factor == 1
    assert pair.fixed.frame == Frame(pair.fixed.factor, 430, 230)
    assert pair.moving.shape == (200, 200)
    assert shows_the_same(pair)


def test_georeferences_that_say_little_cut_nothing(cut: Callable[..., Path]) -> None:
    files = PairFiles.of(cut("f.tif", 500, 300, 200, 200), cut("m.tif", 0, 0, 1200, 900), CONFIG)
    pair = files.overview(256, reach=math.inf)
    assert pair.moving.frame == Frame(pair.moving.factor, 0, 0)
    assert pair.moving.factor == pytest.approx(1200 / 512)


def test_images_that_fit_are_not_cut(cut: Callable[..., Path]) -> None:
    files = PairFiles.of(cut("f.tif", 500, 300, 200, 200), cut("m.tif", 450, 250, 400, 300), CONFIG)
    pair = files.overview(256)
    assert pair.moving.shape == (300, 400)
    assert pair.frames == Frames(Frame(pair.fixed.factor), Frame(pair.moving.factor))


def test_images_that_were_looked_at_whole_are_not_read_again(
    cut: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, moving = cut("fixed.tif", 0, 0, 300, 300), cut("moving.tif", 20, 10, 300, 300)
    again = PairFiles.of(fixed, moving, CONFIG).overview(1024)
    files = PairFiles.of(fixed, moving, ReadConfig())
    monkeypatch.setattr(pair_files, "read_bands", None)
    pair = files.overview(1024)
    for image, same in ((pair.fixed, again.fixed), (pair.moving, again.moving)):
        np.testing.assert_array_equal(image.values, same.values)


def test_without_georeferences_a_large_moving_image_is_reduced(make_raster: Make, ground: np.ndarray) -> None:
    fixed, moving = make_raster(ground[:300, :400], "f.tif"), make_raster(ground, "m.tif")
    pair = PairFiles.of(fixed, moving, CONFIG).overview(256)
    assert max(pair.fixed.shape) == 256
    assert max(pair.moving.shape) <= 512


def test_partial_overlap_in_two_projections(cut: Callable[..., Path], make_raster: Make, ground: np.ndarray) -> None:
    fixed = cut("f.tif", 0, 0, 800, 900)
    source = cut("s.tif", 600, 0, 600, 900)
    moving = source.with_name("m.tif")
    with rasterio.open(source) as dataset, WarpedVRT(dataset, crs=UTM32, resampling=Resampling.cubic) as warped:
        profile = warped.profile | {"driver": "GTiff", "nodata": 0}
        with rasterio.open(moving, "w", **profile) as target:
            target.write(warped.read())
    pair = PairFiles.of(fixed, moving, CONFIG).overview(500, reach=30)
    assert pair.fixed.frame.left > 300
    assert shows_the_same(pair, 0.05)


def test_a_rotated_geotransform_is_no_hindrance(
    make_raster: Make, ground: np.ndarray, cut: Callable[..., Path]
) -> None:
    """The moving image is turned by 30 degrees; its geotransform says so."""
    size = 300
    turn = Affine.translation(500_000 + 6000, 5_000_000 - 2000) * Affine.rotation(-30) * Affine.scale(10, -10)
    to_ground = ~Affine(10, 0, 500_000, 0, -10, 5_000_000) * turn
    corner = Affine.translation(0.5, 0.5)
    matrix = np.array(~corner * to_ground * corner).reshape(3, 3)
    turned = cv2.warpPerspective(ground, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    moving = make_raster(turned, "m.tif", crs=UTM31, transform=turn)
    pair = PairFiles.of(cut("f.tif", 0, 0, 1200, 900), moving, CONFIG).overview(700, reach=30)
    assert pair.fixed.factor == 1
    assert shows_the_same(pair)


def test_windows_are_parts_of_both_files(cut: Callable[..., Path], ground: np.ndarray) -> None:
    files = PairFiles.of(cut("f.tif", 100, 50, 800, 800), cut("m.tif", 0, 0, 1000, 900), CONFIG)
    whole = files.overview(400)
    window = files.window(whole.frames.finer(2), Rectangle(300, 200, 128, 96), Rectangle(390, 240, 150, 120))
    assert window is not None
    assert (window.fixed.shape, window.moving.shape) == ((96, 128), (120, 150))
    assert shows_the_same(window)
    place = window.frames.fixed.to_file(np.array([(10.0, 20.0)]))
    expected = whole.frames.finer(2).fixed.to_file(np.array([(310.0, 220.0)]))
    np.testing.assert_allclose(place, expected)


def test_an_empty_window_is_none(cut: Callable[..., Path], make_raster: Make, ground: np.ndarray) -> None:
    blank = ground.copy()
    blank[100:400, 100:400] = 7
    place = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    files = PairFiles.of(cut("f.tif", 0, 0, 1200, 900), make_raster(blank, "m.tif", crs=UTM31, transform=place), CONFIG)
    frames = files.overview(2048).frames
    part = Rectangle(150, 150, 100, 100)
    assert files.window(frames, part, part) is None
    assert files.window(frames, part, Rectangle(500, 500, 100, 100)) is not None


def control(n: int, noise: float) -> list[GroundControlPoint]:
    """Points of a raster of 400 px whose pixels are 10 m, ``noise`` m off."""
    rng = np.random.default_rng(3)
    pixels = rng.uniform(0, 400, (n, 2))
    away = noise * rng.uniform(-1, 1, (n, 2))
    return [
        GroundControlPoint(row=y, col=x, x=502_000 + 10 * x + dx, y=4_998_000 - 10 * y + dy)
        for (x, y), (dx, dy) in zip(pixels, away, strict=True)
    ]


def test_control_points_stand_for_a_georeference(cut: Callable[..., Path], ground: np.ndarray, tmp_path: Path) -> None:
    moving = tmp_path / "m.tif"
    profile = {"driver": "GTiff", "width": 400, "height": 400, "count": 1, "dtype": "float32"}
    with rasterio.open(moving, "w", **profile) as target:
        target.write(ground[200:600, 200:600], 1)
        target.gcps = control(40, 60.0), UTM31
    files = PairFiles.of(cut("f.tif", 0, 0, 1200, 900), moving, CONFIG)
    assert files.georeferenced
    assert 1 < files.moving.grid.error_px < 12
    placed = project(files.prior, [(0, 0), (399, 399)])
    np.testing.assert_allclose(placed, [(200, 200), (599, 599)], atol=5)
    pair = files.overview(2048)
    assert max_shift_px(None, pair) == pytest.approx(100 + files.moving.grid.error_px)


@pytest.mark.parametrize("n", [3, 0])
def test_too_few_control_points_are_none(make_raster: Make, ground: np.ndarray, n: int) -> None:
    path = make_raster(ground[:100, :100])
    if n:
        with rasterio.open(path, "r+") as target:
            target.gcps = control(n, 0.0), UTM31
    assert not PairFiles.of(path, make_raster(ground[:90, :90], "other.tif"), CONFIG).georeferenced


def test_a_long_strip_keeps_enough_of_its_width(make_raster: Make, rng: np.random.Generator) -> None:
    """Reduced to the longest side allowed, it would be 26 px wide."""
    strips = [make_raster(rng.integers(1, 255, (100, 8000), dtype=np.uint8), name) for name in ("a.tif", "b.tif")]
    pair = pair_files.read_pair(strips[0], strips[1], ReadConfig())
    assert (pair.fixed.shape, pair.moving.shape) == ((64, 5120), (64, 5120))
