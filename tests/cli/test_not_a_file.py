"""Names that lead to devices, pipes, sockets and folders: refused in one line, before anything is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from rrl_register.cli import main

POINTS = ("csv", "points", "geojson", "gpkg", "gcp", "json")
COMMANDS = {
    "result": "apply X.json M -o O",
    "result of points": "tie-points X.json -o O.csv",
    "result of a report": "report X.json F M -o O.html",
    "fixed": "F X.tif -o O",
    "moving": "X.tif M -o O",
    "info": "info X.tif M",
    "grid": "F M -o O --grid X.tif",
    "settings": "F M -o O --config X.yaml",
    "weights": "F M -o O --weights X.safetensors",
    "quantised weights": "F M -o O --weights X.onnx",
    "start": "F M -o O --init-points X.csv",
    "table": "batch X.csv -o O",
    "JSON lines": "batch X.jsonl -o O",
    "items": "batch X.json -o O --moving-asset m --fixed-asset f",
    **{
        f"points {suffix}": f"refit X.{suffix} F M -o O"
        for suffix in ("csv", "points", "geojson", "gpkg", "gcp", "json")
    },
}


@pytest.fixture
def words(
    request: pytest.FixtureRequest, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The words of a command whose name X leads to no file."""
    kind, command = request.param
    monkeypatch.chdir(tmp_path)
    images = {"F": str(samples / "rgb_nir_fixed.tif"), "M": str(samples / "rgb_nir_moving.tif"), "O": "out"}
    given = [images.get(word, word) for word in command.split()]
    name = next(word for word in given if word.startswith("X."))
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "folder":
            Path(name).mkdir()
        elif kind == "pipe":
            os.mkfifo(name)
        elif kind == "socket":
            listener.bind(name)
        else:
            Path(name).symlink_to(f"/dev/{kind}")
        yield given


CASES = [(kind, command) for command in COMMANDS.values() for kind in ("zero", "urandom", "pipe", "socket", "folder")]


@pytest.mark.parametrize("words", CASES, indirect=True, ids=lambda case: f"{case[0]}-{case[1]}")
def test_what_is_no_file_is_refused_at_once(words: list[str]) -> None:
    before = set(Path().iterdir())
    done = CliRunner().invoke(main, words)
    assert done.exit_code in (2, 3), done.exception
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert set(Path().iterdir()) == before
