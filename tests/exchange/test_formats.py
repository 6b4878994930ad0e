"""Files of tie points: what other programs read in them, and that they come back."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import GCPTransformer, from_gcps

from rrl_register.errors import InputError, OutputExistsError, UsageError, WriteError
from rrl_register.exchange import formats
from rrl_register.exchange.formats import FORMATS, point_format, read_points, write_points
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import Grids, PointTable, Reason, to_lon_lat
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.geometry.transforms import project
from rrl_register.raster.grid import Grid
from rrl_register.raster.writer import write_json

Build = Callable[..., Registration]

UTM = Grid(200, 150, CRS.from_epsg(32631), Affine(10, 0, 500_000, 0, -10, 5_000_000))
NEXT_ZONE = Grid(180, 160, CRS.from_epsg(32630), Affine(9, 0, 970_000, 0, -9, 5_010_000))
PICTURE = Grid(180, 160)
BOTH = Grids(UTM, NEXT_ZONE)
GRIDS = {"georeferenced": BOTH, "pictures": Grids(Grid(200, 150), PICTURE), "one of them": Grids(UTM, PICTURE)}
AFFINE = np.array([[1.05, 0.1, -12.3], [-0.08, 0.97, 5.6], [0, 0, 1]])
EVERY = [".geojson", ".csv", ".points", ".gpkg", ".gcp"]
WITH_REJECTED = EVERY[:-1]


@pytest.fixture(scope="module")
def table(make_registration: Build) -> PointTable:
    """Inliers of an affine transform, an outlier, and a candidate that the network refused."""
    moving = np.random.default_rng(3).uniform(20, 130, (13, 2)).round(3)
    fixed = project(AFFINE, moving).round(3)
    fixed[11] += 40
    tied = TiePoints(fixed[:12], moving[:12], np.linspace(0.5, 0.9, 12).round(3))
    rejected = TiePoints(fixed[12:], moving[12:], np.array([0.125]))
    inlier = np.arange(12) < 11
    return PointTable.of(make_registration(matrix=AFFINE, tie_points=tied, inlier=inlier, rejected=rejected))


@pytest.fixture
def written(tmp_path: Path, table: PointTable) -> Callable[..., Path]:
    def write(suffix: str, grids: Grids = BOTH) -> Path:
        if FORMATS[suffix].package:
            pytest.importorskip(FORMATS[suffix].package)
        write_points(tmp_path / f"points{suffix}", table, grids)
        return tmp_path / f"points{suffix}"

    return write


def given_gcps(path: Path) -> list[GroundControlPoint]:
    """Ground control points out of GeoJSON as rasterio has them: its properties are their arguments."""
    names = ("row", "col", "x", "y", "z", "id", "info")
    features = json.loads(path.read_text())["features"]
    return [GroundControlPoint(**{name: f["properties"][name] for name in names}) for f in features]


@pytest.mark.parametrize("grids", GRIDS.values(), ids=list(GRIDS))
@pytest.mark.parametrize("suffix", EVERY)
def test_points_come_back(written: Callable[..., Path], table: PointTable, suffix: str, grids: Grids) -> None:
    back = read_points(written(suffix, grids), grids).enabled
    expected = table.enabled
    np.testing.assert_allclose(back.fixed, expected.fixed, atol=1e-5)
    np.testing.assert_allclose(back.moving, expected.moving, atol=1e-5)


@pytest.mark.parametrize("suffix", WITH_REJECTED)
def test_rejected_points_are_there_and_switched_off(
    written: Callable[..., Path], table: PointTable, suffix: str
) -> None:
    back = read_points(written(suffix), BOTH)
    assert len(back) == 13
    assert back.enable.tolist() == [True] * 11 + [False] * 2
    np.testing.assert_allclose(back.fixed, table.fixed, atol=1e-5)


@pytest.mark.parametrize("suffix", [".geojson", ".csv", ".gpkg"])
def test_scores_come_back(written: Callable[..., Path], table: PointTable, suffix: str) -> None:
    assert read_points(written(suffix), BOTH).score.tolist() == table.score.tolist()


def test_geojson_tells_everything(written: Callable[..., Path]) -> None:
    features = json.loads(written(".geojson").read_text())["features"]
    outlier, refused = (feature["properties"] for feature in features[-2:])
    assert (outlier["reason"], refused["reason"]) == (Reason.OUTLIER, Reason.REFUSED)
    assert outlier["residual_px"] == pytest.approx(40 * np.sqrt(2), abs=0.01)
    assert (refused["score"], refused["inlier"], refused["enable"], refused["info"]) == (0.125, False, False, "refused")
    lon, lat = features[0]["geometry"]["coordinates"]
    assert 3 < lon < 3.1 and 45.1 < lat < 45.2
    assert features[0]["properties"]["crs"] == "EPSG:32631"


def test_what_is_unknown_is_null(tmp_path: Path, make_registration: Build) -> None:
    table = PointTable.of(make_registration(status="failed", matrix=None))
    for suffix in (".geojson", ".csv", ".points"):
        write_points(tmp_path / f"points{suffix}", table, BOTH)
    properties = json.loads((tmp_path / "points.geojson").read_text())["features"][0]["properties"]
    assert properties["residual_px"] is None
    assert (tmp_path / "points.csv").read_text().splitlines()[1].endswith(",1,0.9,,1,")
    assert (tmp_path / "points.points").read_text().splitlines()[2].endswith(",1,0.0,0.0,0.0")


def test_no_points_at_all(tmp_path: Path, make_registration: Build) -> None:
    none = TiePoints(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))
    table = PointTable.of(make_registration(tie_points=none, inlier=np.empty(0, bool)))
    for suffix in (".geojson", ".csv", ".points"):
        path = tmp_path / f"points{suffix}"
        write_points(path, table, BOTH)
        assert len(read_points(path, BOTH)) == 0


def test_rasterio_reads_the_control_points(written: Callable[..., Path], table: PointTable) -> None:
    """The transform that rasterio fits to them puts moving pixels where ours puts them."""
    points = [gcp for gcp, enabled in zip(given_gcps(written(".geojson")), table.enable, strict=True) if enabled]
    assert_same_places(lambda corners: np.array([from_gcps(points) @ tuple(corner) for corner in corners]))
    with GCPTransformer(points) as transformer:
        assert_same_places(lambda corners: np.column_stack(transformer.xy(*corners.T[::-1], offset="ul")))


def assert_same_places(placed: Callable[[np.ndarray], np.ndarray]) -> None:
    """Whether a transform of corners of moving pixels to the fixed map agrees with ours, within 0.01 px."""
    moving = np.array([(0.0, 0.0), (179, 0), (179, 159), (0, 159), (88.5, 70.25)])
    assert np.abs(placed(moving + 0.5) - UTM.pixel_to_map(project(AFFINE, moving))).max() < 0.01 * 10


def test_qgis_reads_the_raster_in_its_own_coordinates(written: Callable[..., Path], table: PointTable) -> None:
    lines = written(".points", BOTH).read_text().splitlines()
    assert lines[0].startswith('#CRS: PROJCRS["WGS 84 / UTM zone 31N"')
    assert lines[1] == "mapX,mapY,sourceX,sourceY,enable,dX,dY,residual"
    first = [float(cell) for cell in lines[2].split(",")]
    assert first[:2] == pytest.approx(UTM.pixel_to_map(table.fixed[:1])[0])
    assert first[2:4] == pytest.approx(NEXT_ZONE.pixel_to_map(table.moving[:1])[0])
    assert first[4:] == pytest.approx([1, 0, 0, 0], abs=0.01)


def test_a_crs_is_spelt_alike_whatever_file_it_came_from(tmp_path: Path, table: PointTable) -> None:
    texts = set()
    for number, wkt in enumerate((UTM.crs.to_wkt(), UTM.crs.to_wkt(version="WKT2_2019"))):
        path = tmp_path / f"{number}.points"
        write_points(path, table, Grids(Grid(200, 150, CRS.from_wkt(wkt), UTM.transform), PICTURE))
        texts.add(path.read_text())
    assert len(texts) == 1


def test_qgis_counts_rows_of_a_picture_downwards(written: Callable[..., Path], table: PointTable) -> None:
    lines = written(".points", GRIDS["pictures"]).read_text().splitlines()
    cells = [float(cell) for cell in lines[2].split(",")]
    assert lines[0].strip() == "#CRS:"
    x, y = table.moving[0]
    assert cells[2:4] == pytest.approx([x + 0.5, -y - 0.5])


def test_qgis_gives_residuals_in_pixels_of_the_raster(written: Callable[..., Path], table: PointTable) -> None:
    outlier = [float(cell) for cell in written(".points").read_text().splitlines()[2 + 11].split(",")]
    would_be = project(np.linalg.inv(AFFINE), table.fixed[11:12])[0]
    assert outlier[5:7] == pytest.approx(would_be - table.moving[11], abs=0.002)
    assert outlier[7] == pytest.approx(np.hypot(*outlier[5:7]), abs=1e-6)


@pytest.mark.parametrize("separator", [",", "\t"])
@pytest.mark.parametrize("head", ["mapX,mapY,sourceX,sourceY,enable", "mapX,mapY,pixelX,pixelY"])
def test_points_files_of_older_qgis_are_read(tmp_path: Path, head: str, separator: str) -> None:
    path = tmp_path / "old.points"
    row = separator.join(["500105", "4999895", "20.5", "-30.5"])
    path.write_text(f"{head}\n{row}\n\n")
    back = read_points(path, GRIDS["one of them"])
    assert (back.fixed.tolist(), back.moving.tolist(), back.enable.tolist()) == ([[10, 10]], [[20, 30]], [True])


def test_points_in_another_crs_are_brought_over(tmp_path: Path, table: PointTable) -> None:
    path, elsewhere = tmp_path / "utm.points", Grids(NEXT_ZONE, PICTURE)
    write_points(path, table, GRIDS["one of them"])
    back = read_points(path, elsewhere)
    np.testing.assert_allclose(to_lon_lat(NEXT_ZONE, back.fixed), to_lon_lat(UTM, table.fixed), atol=1e-9)


def test_gdal_gets_the_fitted_points_only(written: Callable[..., Path], table: PointTable) -> None:
    lines = written(".gcp").read_text().splitlines()
    assert len(lines) == 11
    x, y = table.moving[0]
    easting, northing = UTM.pixel_to_map(table.fixed[:1])[0]
    flag, *numbers = lines[0].split()
    assert flag == "-gcp"
    assert [float(number) for number in numbers] == pytest.approx([x + 0.5, y + 0.5, easting, northing])


def test_gdal_puts_points_where_the_transform_does(written: Callable[..., Path]) -> None:
    if shutil.which("gdaltransform") is None:
        pytest.skip("no gdaltransform on PATH")
    options = written(".gcp").read_text().split()

    def placed(corners: np.ndarray) -> np.ndarray:
        lines = "\n".join(f"{x} {y}" for x, y in corners.tolist())
        command = ["gdaltransform", "-order", "1", "-output_xy", *options]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
        return np.array([line.split() for line in done.stdout.splitlines()], float)

    assert_same_places(placed)


def test_gdal_takes_the_file_as_options(
    written: Callable[..., Path], make_raster: Callable[..., Path], tmp_path: Path
) -> None:
    if shutil.which("gdal_translate") is None:
        pytest.skip("no gdal_translate on PATH")
    moving = make_raster(np.zeros((160, 180), np.uint8), "moving.tif")
    command = ["gdal_translate", "-q", "--optfile", written(".gcp"), "-a_srs", "EPSG:32631", moving, tmp_path / "g.tif"]
    subprocess.run([str(part) for part in command], check=True)
    info = json.loads(subprocess.run(["gdalinfo", "-json", tmp_path / "g.tif"], capture_output=True, check=True).stdout)
    assert len(info["gcps"]["gcpList"]) == 11


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_vector_programs_open_it(written: Callable[..., Path], suffix: str) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    info = pyogrio.read_info(written(suffix))
    assert (info["geometry_type"], info["features"]) == ("Point", 13)
    assert {"id", "row", "col", "x", "y", "fixed_x", "moving_y", "score", "residual_px", "inlier", "reason"} <= set(
        info["fields"]
    )
    assert CRS.from_user_input(info["crs"]) == CRS.from_epsg(32631 if suffix == ".gpkg" else 4326)
    expected = UTM.bounds if suffix == ".gpkg" else (2.9, 45.1, 3.1, 45.2)
    left, bottom, right, top = info["total_bounds"]
    assert expected[0] <= left <= right <= expected[2] + 0.1
    assert expected[1] <= bottom <= top <= expected[3] + 0.1


def test_points_moved_in_a_geopackage_count(written: Callable[..., Path], table: PointTable) -> None:
    """A person drags points of the layer: its fields still tell the old place."""
    raw = pytest.importorskip("pyogrio.raw")
    path = written(".gpkg")
    meta, _, geometry, values = raw.read(path)
    moved = np.array([shape[:5] + np.add(np.frombuffer(shape[5:]), [100.0, 0]).tobytes() for shape in geometry], object)
    raw.write(
        path, moved, values, meta["fields"], layer="tie_points", driver="GPKG", geometry_type="Point", crs=meta["crs"]
    )
    np.testing.assert_allclose(read_points(path, BOTH).fixed, np.add(table.fixed, [10, 0]), atol=1e-5)


def test_a_feature_a_line_is_read(tmp_path: Path, written: Callable[..., Path], table: PointTable) -> None:
    """As ``rio gcps`` prints them, with nothing but its own properties."""
    features = json.loads(written(".geojson").read_text())["features"]
    for feature in features:
        feature["properties"] = {name: feature["properties"][name] for name in ("id", "row", "col", "x", "y", "z")}
    path = tmp_path / "rio.geojson"
    path.write_text("\n".join("\x1e" + json.dumps(feature) for feature in features))
    back = read_points(path, BOTH)
    np.testing.assert_allclose(back.moving, table.moving, atol=1e-9)
    np.testing.assert_allclose(back.fixed, table.fixed, atol=1e-5)
    assert back.enable.all()


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
def test_files_with_the_earlier_name_of_a_reason_are_read(tmp_path: Path, suffix: str, judged: Registration) -> None:
    """Earlier versions wrote "not found back"."""
    path = tmp_path / f"old{suffix}"
    write_points(path, PointTable.of(judged), BOTH)
    text = path.read_text()
    assert (
        Reason.FAILED_FORWARD_BACKWARD == "failed forward-backward check"
        and str(Reason.FAILED_FORWARD_BACKWARD) in text
    )
    path.write_text(text.replace(Reason.FAILED_FORWARD_BACKWARD, "not found back"))
    back = read_points(path, BOTH)
    assert back.enable.tolist() == [True, False]
    np.testing.assert_allclose(back.moving, [(10, 20), (70, 80)], atol=1e-5)


@pytest.fixture
def judged(make_registration: Build) -> Registration:
    """A point that passes the forward-backward check, and one that fails it."""
    places = np.array([(10.0, 20.0), (70.0, 80.0)])
    tied = TiePoints(places, places, np.array([0.9, 0.6]), np.array([0.2, 4.0]))
    return make_registration(tie_points=tied, inlier=np.array([True, True]), matrix=np.eye(3))


def test_a_table_by_hand_needs_four_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("fixed_x, fixed_y, moving_x, moving_y\n10, 20, 30, 40\n1.5, 2, 3, 4\n")
    back = read_points(path, BOTH)
    assert (back.fixed.tolist(), back.moving.tolist()) == ([[10, 20], [1.5, 2]], [[30, 40], [3, 4]])
    assert back.enable.all()
    assert np.isnan(back.score).all()


@pytest.mark.parametrize(("text", "enabled"), [("1", True), ("", True), ("true", True), ("0", False), ("FALSE", False)])
def test_ways_to_switch_a_point_off(tmp_path: Path, text: str, enabled: bool) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"fixed_x,fixed_y,moving_x,moving_y,enable\n1,2,3,4,{text}\n")
    assert read_points(path, BOTH).enable.tolist() == [enabled]


def test_a_result_is_a_source_of_points(tmp_path: Path, make_registration: Build) -> None:
    result = make_registration()
    write_json(tmp_path / "result.json", result.to_json())
    back = read_points(tmp_path / "result.json", Grids(result.fixed_grid, result.moving_grid))
    assert back.fixed.tolist() == result.tie_points.fixed.tolist()
    assert back.enable.tolist() == [True, True, True, False, False]
    with pytest.raises(InputError, match="200 x 200 px, this one 200 x 150 px"):
        read_points(tmp_path / "result.json", BOTH)


WRONG = {
    "a.points": ("mapX,mapY,sourceX,sourceY\n1,2,x,4\n", "line 2"),
    "b.points": ("mapX,mapY,sourceX,sourceY\n1,2\n", "line 2"),
    "c.points": ("id,x\n", "mapX"),
    "d.points": ("", "mapX"),
    "e.points": ("#CRS: nonsense\nmapX,mapY,sourceX,sourceY\n1,2,3,4\n", "line 1: the CRS"),
    "a.csv": ("fixed_x,fixed_y\n1,2\n", "moving_x"),
    "b.csv": ("moving_x,moving_y\n1,2\n", "fixed_x"),
    "c.csv": ("fixed_x,fixed_y,moving_x,moving_y\n1,2,3,far\n", "moving_y is 'far'"),
    "d.csv": ("fixed_x,fixed_y,moving_x,moving_y,enable\n1,2,3,4,perhaps\n", "point 1: enable is 'perhaps'"),
    "a.geojson": ("no json", "Cannot read"),
    "b.geojson": ('{"type": "FeatureCollection"}', "no features"),
    "c.geojson": ('{"type": "Feature", "geometry": null, "properties": {}}', "is incomplete"),
    "d.geojson": ('{"geometry": {"type": "LineString", "coordinates": []}, "properties": {}}', "LineString"),
    "e.geojson": ('{"geometry": {"type": "Point", "coordinates": [3, 45]}, "properties": {}}', "moving_x"),
    "a.gcp": ("-gcp 1 2 3\n", "-gcp"),
    "a.json": ("{}", "Cannot use"),
}


@pytest.mark.parametrize(("name", "text", "said"), [(n, *w) for n, w in WRONG.items()], ids=list(WRONG))
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_points(path, BOTH)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".points", ".gpkg", ".geojson"])
def test_a_file_that_is_not_there(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip(FORMATS[suffix].package or "csv")
    with pytest.raises(InputError, match="nowhere"):
        read_points(tmp_path / f"nowhere{suffix}", BOTH)


def test_unknown_suffixes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\.geojson, \.csv, \.points, \.gpkg, \.gcp, \.txt$"):
        point_format(Path("points.shp"))
    with pytest.raises(UsageError, match="no suffix of a format"):
        point_format(Path("result.json"))
    assert point_format(Path("RESULT.JSON"), to_write=False).name == "RESULT.json"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(
        UsageError, match=r"needs pyogrio, which is not installed.*pip install 'rrl-register\[vector\]'"
    ):
        point_format(Path("points.gpkg"))
    assert point_format(Path("points.csv")).name == "CSV"


def test_files_that_exist_are_kept(tmp_path: Path, table: PointTable) -> None:
    path = tmp_path / "points.csv"
    path.write_text("precious")
    with pytest.raises(OutputExistsError):
        write_points(path, table, BOTH)
    assert path.read_text() == "precious"
    write_points(path, table, BOTH, overwrite=True)
    assert path.read_text().startswith("id,")


def test_what_fails_on_the_way_leaves_nothing(
    tmp_path: Path, table: PointTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WriteError, match="no space left"):
        write_points(tmp_path / "points.points", table, BOTH)
    assert not list(tmp_path.iterdir())
