"""GDAL's names of files that are no plain files."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rrl_register.errors import InputError
from rrl_register.raster.reader import gdal_name, is_virtual, open_info, read_bands


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/https://host/a.tif",
        "/vsizip//vsicurl/https://host/scenes.zip/a.tif",
        "/vsicurl_streaming/http://host/a.tif",
        "/vsis3/bucket/a.tif",
    ],
)
def test_what_pathlib_folds_is_unfolded(name: str) -> None:
    assert gdal_name(Path(name)) == name
    assert is_virtual(Path(name))


def test_a_plain_path_stays_what_it_is() -> None:
    assert gdal_name(Path("data/a.tif")) == "data/a.tif"
    assert not is_virtual(Path("data/a.tif"))


@pytest.fixture
def raster(make_raster: Callable[..., Path]) -> Path:
    return make_raster(np.arange(1, 4001, dtype=np.uint16).reshape(50, 80))


def test_files_in_archives_are_read(raster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pixels = raster.parent, read_bands(raster).values
    with zipfile.ZipFile(folder / "scenes.zip", "w") as archive:
        archive.write(raster, "in/a.tif")
    (folder / "a.tif.gz").write_bytes(gzip.compress(raster.read_bytes()))
    for name in (f"/vsizip/{folder}/scenes.zip/in/a.tif", f"/vsigzip/{folder}/a.tif.gz"):
        assert np.array_equal(read_bands(Path(name)).values, pixels)
    monkeypatch.chdir(folder)
    assert open_info(Path("/vsizip/scenes.zip/in/a.tif")).grid.shape == (50, 80)


def test_a_name_that_is_no_text_is_refused_in_one_line(raster: Path) -> None:
    path = raster.rename(raster.with_name("\udcff.tif"))
    with pytest.raises(InputError, match="Cannot read"):
        open_info(path)


def test_what_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read /vsizip/") as caught:
        open_info(Path(f"/vsizip/{tmp_path}/none.zip/a.tif"))
    assert "\n" not in str(caught.value)
