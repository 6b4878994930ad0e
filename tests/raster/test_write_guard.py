"""What GDAL reports while it writes, and files that are not complete."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

from rrl_register.errors import UsageError, WriteError
from rrl_register.raster.write_guard import refused_options, require_complete, write_guard

GDAL_LOG = logging.getLogger("rasterio._env")
NOISE = np.random.default_rng(8).integers(0, 255, (3, 300, 400), dtype=np.uint8)


def store(path: Path, **options: object) -> Path:
    with rasterio.open(path, "w", driver="GTiff", width=400, height=300, count=3, dtype="uint8", **options) as target:
        target.write(NOISE)
    return path


def test_an_error_takes_one_line_and_hides_the_warnings_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(WriteError, match=r"Cannot write .*out\.tif \(broken pipe\)") as caught,
        write_guard(tmp_path / "out.tif"),
    ):
        GDAL_LOG.warning("something is odd")
        raise RasterioIOError("broken\n  pipe")
    assert "\n" not in str(caught.value)
    assert not caplog.records


def test_warnings_are_passed_on_when_all_went_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with write_guard(tmp_path / "out.tif"):
        GDAL_LOG.warning("something is odd")
        GDAL_LOG.info("nothing to report")
        assert not caplog.records
    assert [record.getMessage() for record in caplog.records] == ["something is odd"]


def test_other_errors_pass_and_the_log_is_as_before(tmp_path: Path) -> None:
    handlers = list(GDAL_LOG.handlers)
    with pytest.raises(ZeroDivisionError), write_guard(tmp_path / "out.tif"):
        raise ZeroDivisionError
    assert GDAL_LOG.propagate
    assert GDAL_LOG.handlers == handlers


@pytest.mark.parametrize("options", [{"NONSENSE": "1"}, {"COMPRESS": "NONSENSE"}, {"ZLEVEL": "99"}])
def test_options_that_gdal_ignores_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="GTiff driver refuses a creation option"), refused_options("GTiff"):
        store(tmp_path / "out.tif", **{"compress": "deflate", **options})


def test_options_that_gdal_takes_pass(tmp_path: Path) -> None:
    with refused_options("GTiff"):
        store(tmp_path / "out.tif", compress="lzw", predictor="2")


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("tiled", [True, False])
def test_a_file_that_lost_its_end_is_not_complete(tmp_path: Path, interleave: str, tiled: bool) -> None:
    shape = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    path = store(tmp_path / "out.tif", interleave=interleave, **shape)
    require_complete(path, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WriteError, match=r"the file ended at \d+ bytes"):
        require_complete(path, path)


def test_overviews_and_masks_are_checked_too(tmp_path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = store(tmp_path / "out.tif")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(NOISE[0] > 9)
            dataset.build_overviews([2, 4])
    require_complete(path, path)
    with rasterio.open(path, overview_level=1) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    path.write_bytes(path.read_bytes()[: start + 10])
    with pytest.raises(WriteError, match=r"out\.tif"):
        require_complete(path, path)


def test_what_is_no_tiff_is_an_error_of_gdal(tmp_path: Path) -> None:
    (tmp_path / "out.tif").write_text("no TIFF")
    with pytest.raises(WriteError, match="Cannot write"), write_guard(tmp_path / "out.tif"):
        require_complete(tmp_path / "out.tif", tmp_path / "out.tif")
