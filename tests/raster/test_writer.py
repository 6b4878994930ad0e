"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from rrl_register.errors import OutputExistsError, UsageError
from rrl_register.raster.writer import atomic_path, check_not_input, check_output, write_json, write_png


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    output = tmp_path / "out.tif"
    with atomic_path(output) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        temporary.write_text("done")
        assert not output.exists()
    assert output.read_text() == "done"
    assert names(tmp_path) == ["out.tif"]


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "out.tif") as temporary:
        temporary.write_text("half")
        temporary.with_name(temporary.name + ".aux.xml").write_text("beside")
        raise RuntimeError
    assert names(tmp_path) == []


def test_an_error_keeps_the_file_that_was_to_be_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out.tif"
    output.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(output, overwrite=True) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert output.read_text() == "old"


def test_existing_files_are_replaced_on_demand_only(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    write_json(output, {"a": 1})
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_json(output, {"a": 2})
    write_json(output, {"a": 2}, overwrite=True)
    assert json.loads(output.read_text()) == {"a": 2}


def test_a_file_that_appears_meanwhile_is_not_lost(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    with pytest.raises(OutputExistsError), atomic_path(output) as temporary:
        temporary.write_text("mine")
        output.write_text("theirs")
    assert output.read_text() == "theirs"
    assert names(tmp_path) == ["out.txt"]


def test_places_that_cannot_be_written_are_refused_early(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        check_output(tmp_path / "nowhere" / "out.tif")
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_write_access_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="write access"):
        check_output(tmp_path / "out.tif")


def test_an_input_is_never_the_output(tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    image.write_text("pixels")
    link = tmp_path / "link.tif"
    link.symlink_to(image)
    twin = tmp_path / "twin.tif"
    twin.hardlink_to(image)
    for output in (image, link, twin, tmp_path / "." / "image.tif"):
        with pytest.raises(UsageError, match="is the input"):
            check_not_input(output, tmp_path / "other.tif", image)
    check_not_input(tmp_path / "new.tif", image)


def test_json_holds_plain_values(tmp_path: Path) -> None:
    data = {"n": np.int64(3), "m": np.eye(2), "nan": np.nan, "inf": [np.float32("inf")], "p": Path("a"), "b": np.True_}
    write_json(tmp_path / "out.json", data)
    read = json.loads((tmp_path / "out.json").read_text())
    assert read == {"n": 3, "m": [[1, 0], [0, 1]], "nan": None, "inf": [None], "p": "a", "b": True}


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4)])
def test_png_keeps_pixels_and_colours(tmp_path: Path, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    write_png(tmp_path / "out.png", image)
    read = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    order = {2: ..., 3: (..., [2, 1, 0]), 4: (..., [2, 1, 0, 3])}[2 if image.ndim == 2 else shape[2]]
    assert np.array_equal(read[order], image)


def test_only_bytes_make_a_png(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float64"):
        write_png(tmp_path / "out.png", np.zeros((3, 3)))
    assert names(tmp_path) == []
