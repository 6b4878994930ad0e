"""Texts at the border: what is no file is not opened, and what is too much is not read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rrl_register.config.files import is_special, parse_json, printable, read_text, require_regular_file
from rrl_register.config.yaml_file import parse_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.fixture(params=["device", "pipe", "socket"])
def special(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Something in the file system that never ends."""
    if request.param == "device":
        return Path("/dev/zero")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    if request.param == "pipe":
        os.mkfifo("it")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("it")
        request.addfinalizer(listener.close)
    return Path("it")


def test_what_never_ends_is_not_opened(special: Path) -> None:
    assert is_special(special)
    for use in (require_regular_file, read_text):
        with pytest.raises(OSError, match="a device or a pipe, not a file"):
            use(special)


def test_files_folders_and_missing_ones_are_not_special(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "link").symlink_to("a")
    names = ("a", "link", ".", "missing", "x" * 100_000, "\0")
    assert not any(is_special(tmp_path / name) for name in names)
    require_regular_file(tmp_path / "a")
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path)


def test_a_text_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "ä\r\n".encode())
    assert read_text(path, 7) == "ä\r\n"
    with pytest.raises(OSError, match="too many here"):
        read_text(path, 6)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "", "{", "[1,]", "\ud800"])
def test_json_is_parsed_or_refused_by_one_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_long_integers_of_json_are_floats() -> None:
    assert parse_json("[1, -3, 123456789012345678]") == [1, -3, 123456789012345678]
    assert parse_json(f"[{'9' * 20}, -{'9' * 5000}]") == [1e20, float("-inf")]


@pytest.mark.parametrize(
    "text",
    [BOMB, "a: &a [*a]", "a: &a {b: *a}", "<<: &a {<<: *a}", "[" * 50_000, "a: " + "{b: " * 20_000, "- " * 20_000,
     "a: " + "9" * 5000, "a: !!python/object:os.system {}", "a: 1999-99-99", "a: [", "\t\0", "a: &x 1\nb: *x"],
)  # fmt: skip
def test_yaml_is_parsed_or_refused_by_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a b\tc\nd", "äß 北京 שלום 👩\u200d🚀", ""])
def test_text_is_printed_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_steers_a_terminal_is_printed_as_escapes() -> None:
    assert printable("\x1b[2J\r\x00\u202e\u2066\udcff\x85") == r"\x1b[2J\r\x00\u202e\u2066\udcff\x85"


@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_ordinary_values_are_parsed(parse: Callable[[str], object]) -> None:
    assert parse('{"a": [1, 2.5, "x", null, true]}') == {"a": [1, 2.5, "x", None, True]}
