"""Data sets for training: which files belong together, what is kept for validation, what is refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as reproject

from rrl_register.errors import InputError
from rrl_register.training.bank import PairImages, Source
from rrl_register.training.datasets import PairFolder, PatchArrays, RasterPairs, parse_sources

Row = dict[str, str]
UTM, GEOGRAPHIC = CRS.from_epsg(32633), CRS.from_epsg(4326)


def picture(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(1, 256, shape, dtype=np.uint8), (0, 0), 1.5)


def write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def make_folder(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    """Writes a data set of grey 120 x 140 px pairs; each row of the list can be changed."""

    def write(n: int = 40, **changes: str) -> Path:
        other = picture(rng, 120, 140)
        other[:60, :50] = 0
        cv2.imwrite(str(tmp_path / "vis.png"), picture(rng, 120, 140))
        cv2.imwrite(str(tmp_path / "other.png"), other)
        row = {"set": "made", "family": "nir", "vis": "vis.png", "other": "other.png", "residual_px": "0.5"}
        write_table(tmp_path / "pairs.csv", [{"id": str(i), **row, **changes} for i in range(n)])
        return tmp_path

    return write


def names(pairs: list[PairImages]) -> set[str]:
    return {pair.name for pair in pairs}


def load(source: Source) -> list[PairImages]:
    """All pairs, those that train first."""
    return source.load(False) + source.load(True)


def test_no_pair_of_a_list_is_on_both_sides(make_folder: Callable[..., Path]) -> None:
    source = PairFolder(make_folder())
    training, validation = names(source.load(False)), names(source.load(True))
    assert training and validation
    assert not training & validation
    assert training | validation == {f"made/{i}" for i in range(40)}


def test_a_list_may_say_what_is_kept(make_folder: Callable[..., Path]) -> None:
    assert names(PairFolder(make_folder(2, split="validation")).load(True)) == {"made/0", "made/1"}
    assert PairFolder(make_folder(2, split="val")).load(False) == []
    assert load(PairFolder(make_folder(2, split="test"))) == []
    with pytest.raises(InputError, match="split of made/0 is 'never'"):
        PairFolder(make_folder(2, split="never")).load(False)


def test_badly_aligned_pairs_and_other_sets_are_left_out(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="residual_px"):
        PairFolder(make_folder(residual_px="9")).load(False)
    with pytest.raises(InputError, match="leaves no pair"):
        PairFolder(make_folder(), groups=("else",)).load(False)
    with pytest.raises(InputError, match=r"'bad'.*a number"):
        PairFolder(make_folder(residual_px="bad")).load(False)
    assert PairFolder(make_folder(3, residual_px=""), groups=("made",)).load(False)


def test_missing_lists_images_and_columns_are_named(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pairs\.csv"):
        PairFolder(tmp_path / "none").load(False)
    with pytest.raises(InputError, match=r"gone\.png"):
        PairFolder(make_folder(other="gone.png")).load(False)
    write_table(tmp_path / "pairs.csv", [{"vis": "vis.png"}])
    with pytest.raises(InputError, match="no column other"):
        PairFolder(tmp_path).load(False)


def test_pairs_are_known_by_their_names_where_there_is_no_list(tmp_path: Path, rng: np.random.Generator) -> None:
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}_vis.png"), picture(rng, 100, 110, 3))
        cv2.imwrite(str(tmp_path / f"{name}_other.jpg"), picture(rng, 100, 110))
    source = PairFolder(tmp_path, family="lwir")
    assert names(load(source)) == {f"{tmp_path.name}/{name}" for name in "abc"}
    assert len(source.load(True)) == 1
    assert {(p.family, p.group, p.has_colours) for p in load(source)} == {("lwir", "lwir", True)}
    assert {p.group for p in load(PairFolder(tmp_path, family="lwir", group="own"))} == {"own"}
    (tmp_path / "a_other.jpg").unlink()
    with pytest.raises(InputError, match=r"a_vis\.png has 0 partners"):
        source.load(False)


def test_colours_are_red_green_and_blue_in_turn(tmp_path: Path, rng: np.random.Generator) -> None:
    cv2.imwrite(str(tmp_path / "a_vis.png"), picture(rng, 100, 110, 3))
    cv2.imwrite(str(tmp_path / "a_other.png"), picture(rng, 100, 110))
    pair = PairFolder(tmp_path, family="nir").load(False)[0]
    assert np.array_equal(pair.planes[0, 2:].numpy(), cv2.imread(str(tmp_path / "a_vis.png")).transpose(2, 0, 1)[::-1])


def test_large_black_areas_hold_no_data(make_folder: Callable[..., Path]) -> None:
    valid = PairFolder(make_folder(3)).load(False)[0].valid
    assert valid is not None
    assert not valid[:58, :48].any()
    assert valid[64:].all()


def test_families_are_checked_and_unknown_ones_are_looked_at(
    make_folder: Callable[..., Path], rng: np.random.Generator
) -> None:
    with pytest.raises(InputError, match="family 'infra'"):
        PairFolder(make_folder(3, family="infra")).load(False)
    folder = make_folder(3, family="", set="")
    assert {(p.family, p.group) for p in load(PairFolder(folder))} == {("other", "other")}
    speckle = np.sqrt(rng.gamma(1.0, 1.0, (120, 140))) * 60
    cv2.imwrite(str(folder / "other.png"), np.clip(speckle, 1, 255).astype(np.uint8))
    assert {p.family for p in load(PairFolder(folder))} == {"sar"}


def test_rasters_of_any_type_are_read_as_the_program_reads_them(
    make_raster: Callable[..., Path], tmp_path: Path, rng: np.random.Generator
) -> None:
    """16-bit colours beside decibels with nodata."""
    colours = (picture(rng, 120, 130, 3).transpose(2, 0, 1).astype(np.uint16)) * 40
    decibels = picture(rng, 120, 130).astype(np.float32) / 10 - 30
    decibels[:, :30] = -999
    make_raster(colours, "a_vis.tif")
    make_raster(decibels, "a_other.tif", nodata=-999)
    pair = PairFolder(tmp_path).load(False)[0]
    assert pair.family == "sar"
    assert pair.has_colours
    assert pair.valid is not None
    assert not pair.valid[:, :30].any()
    assert pair.valid[:, 30:].all()
    other = pair.planes[0, 1].numpy()[:, 30:].astype(float)
    assert np.corrcoef(other.ravel(), decibels[:, 30:].ravel())[0, 1] > 0.99
    assert pair.points is not None
    assert len(pair.points) > 16
    assert float(pair.points[:, 0].min()) >= 50


def test_rasters_of_unlike_sizes_are_refused(make_raster: Callable[..., Path], tmp_path: Path, rng: Any) -> None:
    make_raster(picture(rng, 90, 90), "a_vis.tif")
    make_raster(picture(rng, 90, 80), "a_other.tif")
    with pytest.raises(InputError, match="90 x 90 px and 80 x 90 px"):
        PairFolder(tmp_path, family="nir").load(False)


def scene(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The ground at UTM coordinates, values about 40 to 210."""
    east, north = x - 500_000, y - 5_000_000
    waves = np.sin(east / 170) * np.cos(north / 210) + 0.7 * np.sin((east + north) / 90)
    return (125 + 50 * waves).astype(np.float32)


def centres(transform: Affine, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return transform.a * columns + transform.c, transform.e * rows + transform.f


@pytest.fixture
def georeferenced(make_raster: Callable[..., Path], tmp_path: Path) -> Path:
    """A fixed raster of 10 m in UTM, and a moving one of about 7 m in degrees that covers most of it."""
    for side in ("fixed", "moving"):
        (tmp_path / side).mkdir()
    fixed = Affine(10, 0, 500_000, 0, -10, 5_002_000)
    make_raster(scene(*centres(fixed, (200, 220))), "fixed/a.tif", transform=fixed, crs=UTM)
    west, north_edge = reproject(UTM, GEOGRAPHIC, [500_150.0], [5_001_900.0])
    moving = Affine(9e-5, 0, west[0], 0, -6.5e-5, north_edge[0])
    x, y = centres(moving, (340, 300))
    east, north = reproject(GEOGRAPHIC, UTM, x.ravel().tolist(), y.ravel().tolist())
    image = scene(np.array(east), np.array(north)).reshape(x.shape)
    make_raster(image, "moving/a.tif", transform=moving, crs=GEOGRAPHIC)
    return tmp_path


def test_georeferenced_rasters_are_brought_onto_one_grid(georeferenced: Path) -> None:
    """Where both hold data, both show the same ground."""
    pair = RasterPairs(georeferenced, family="nir").load(False)[0]
    assert (pair.name, pair.family, pair.group) == (f"{georeferenced.name}/fixed/a", "nir", "nir")
    assert pair.valid is not None
    valid = pair.valid.numpy()
    assert tuple(pair.planes.shape) == (1, 2, 200, 220)
    assert 0.5 < valid.mean() < 0.99
    away = np.abs(pair.planes[0, 0].numpy().astype(float) - pair.planes[0, 1].numpy())[valid]
    assert np.percentile(away, 99) < 4


def test_the_coarser_of_two_resolutions_is_taken(georeferenced: Path, make_raster: Callable[..., Path]) -> None:
    coarse = Affine(20, 0, 500_000, 0, -20, 5_002_000)
    make_raster(scene(*centres(coarse, (100, 110))), "moving/a.tif", transform=coarse, crs=UTM)
    pair = RasterPairs(georeferenced, family="nir").load(False)[0]
    assert tuple(pair.planes.shape) == (1, 2, 100, 110)
    away = np.abs(pair.planes[0, 0].numpy().astype(float) - pair.planes[0, 1].numpy())
    assert np.percentile(away, 99) < 8


def test_rasters_may_be_listed(georeferenced: Path) -> None:
    write_table(georeferenced / "list.csv", [{"fixed": "fixed/a.tif", "moving": "moving/a.tif", "family": "lwir"}])
    pair = RasterPairs(georeferenced / "list.csv", group="own").load(False)[0]
    assert (pair.name, pair.family, pair.group) == ("own/fixed/a", "lwir", "own")


def test_rasters_that_cannot_be_placed_are_named(georeferenced: Path, make_raster: Callable[..., Path]) -> None:
    make_raster(np.arange(6400, dtype=np.float32).reshape(80, 80), "moving/a.tif")
    with pytest.raises(InputError, match=r"moving/a\.tif has no georeference"):
        RasterPairs(georeferenced).load(False)
    with pytest.raises(InputError, match="no two files"):
        RasterPairs(georeferenced / "fixed").load(False)


@pytest.fixture
def arrays(tmp_path: Path, rng: np.random.Generator) -> PatchArrays:
    """60 pairs of patches; the value of the first pixel is the number of the pair, even ones match."""
    images = rng.integers(0, 256, (60, 2, 64, 64), dtype=np.uint8)
    images[:, :, 0, 0] = np.arange(60)[:, None]
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", (np.arange(60) % 2 == 0).astype(np.float64))
    return PatchArrays(tmp_path / "images.npy", tmp_path / "labels.npy", group="country")


def test_only_patches_that_match_are_taken(arrays: PatchArrays) -> None:
    training, validation = arrays.load(False)[0], arrays.load(True)[0]
    numbers = [stack.planes[:, 1, 0, 0].tolist() for stack in (training, validation)]
    assert sorted(numbers[0] + numbers[1]) == list(range(0, 60, 2))
    assert 1 <= len(numbers[1]) < 10
    assert (training.family, training.group, training.points) == ("nir", "country", None)


def test_arrays_of_another_layout_are_refused(arrays: PatchArrays, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.npy holds float64"):
        PatchArrays(arrays.labels, arrays.labels).load(False)
    np.save(tmp_path / "few.npy", np.ones(9))
    with pytest.raises(InputError, match="for 60 pairs"):
        PatchArrays(arrays.images, tmp_path / "few.npy").load(False)
    np.save(tmp_path / "none.npy", np.zeros(60))
    with pytest.raises(InputError, match="has no 1"):
        PatchArrays(arrays.images, tmp_path / "none.npy").load(False)
    with pytest.raises(InputError, match=r"gone\.npy is no array"):
        PatchArrays(tmp_path / "gone.npy", arrays.labels).load(False)


def test_a_recipe_names_data_sets(tmp_path: Path) -> None:
    assert parse_sources(str(tmp_path)) == (PairFolder(tmp_path),)
    listed: list[Any] = [
        {"type": "pairs", "path": "a", "groups": ["x"], "max_residual_px": 2},
        {"type": "rasters", "path": "b", "family": "sar"},
        {"type": "patches", "images": "i.npy", "labels": "l.npy"},
        str(tmp_path),
    ]
    assert parse_sources(listed) == (
        PairFolder(Path("a"), groups=("x",), max_residual_px=2),
        RasterPairs(Path("b"), family="sar"),
        PatchArrays(Path("i.npy"), Path("l.npy")),
        PairFolder(tmp_path),
    )
    assert parse_sources(parse_sources(listed)) == parse_sources(listed)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ({"type": "video", "path": "a"}, "type 'video' is not known"),
        ({"path": "a"}, "type '' is not known"),
        ({"type": "pairs", "path": "a", "colour": 1}, "there is no setting colour"),
        ({"type": "patches", "images": "a"}, "labels: Field required"),
        ([], "empty list"),
        (7, "data is 7"),
    ],
)
def test_what_is_no_data_set_is_refused_in_one_line(value: Any, seen: str) -> None:
    with pytest.raises(InputError, match=seen) as caught:
        parse_sources(value)
    assert "\n" not in str(caught.value)


@pytest.mark.shared_data
def test_the_real_pairs_can_be_read(shared_data: Path) -> None:
    source = PairFolder(shared_data / "train", groups=("nir_naip",))
    pairs = load(source)
    assert len(pairs) == 8
    assert {p.family for p in pairs} == {"nir"}
    assert all(p.has_colours and p.points is not None and len(p.points) > 100 for p in pairs)
