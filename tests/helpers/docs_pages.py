"""The commands that README and docs show, as the pages give them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PROGRAMS = ("rrl-register", "rio", "make", "python")


def commands_of(page: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the commands in a page's blocks: indented ones, and fenced ones of no other language.

    What is indented under ``:::`` are settings of the API reference.
    """
    fence, begun, reference = None, "", False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            fence = None if fence is not None else line[3:]
            continue
        reference = line.startswith(":::") or (reference and line.startswith("    "))
        shown = line if fence in ("", "bash", "console") else line[4:] if line.startswith("    ") else ""
        if not reference and (fence is None or fence in ("", "bash", "console")):
            text = begun + shown.strip()
            begun = text[:-1] if text.endswith("\\") else ""
            if not begun and text:
                yield number, text


def all_commands() -> Iterator[tuple[str, str]]:
    """Place, as ``page:line``, and text of the commands of all pages."""
    for page in PAGES:
        for number, text in commands_of(page):
            yield f"{page.name}:{number}", text


def shown_commands() -> Iterator[Any]:
    """The commands of ``PROGRAMS``, as words, but for those of a Dask cluster: parameters of tests."""
    for place, text in all_commands():
        inner = re.search(r"\$\((rrl-register [^)]*)\)", text)
        words = words_of(inner[1] if inner else text)
        if words and words[0] in PROGRAMS and "--scheduler" not in words:
            yield pytest.param(words, id=place)


def words_of(text: str) -> list[str]:
    """A command as the shell splits it, without comments, redirections, and what stands for more of the kind."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        return []
    words = words[: words.index(">")] if ">" in words else words
    words = words[: next((i for i, word in enumerate(words) if word.startswith("[")), len(words))]
    return [word.removesuffix("...") for word in words if "=" not in word or word != words[0]]


def scripts_shown(folder: str) -> set[str]:
    """The scripts of a folder of the repository that the pages run."""
    commands = (each.values[0] for each in shown_commands())
    return {words[1] for words in commands if words[0] == "python" and words[1].startswith(f"{folder}/")}


def lines_of(script: str) -> Any:
    """Runs a test with the words of each line that shows a script."""
    lines = [each for each in shown_commands() if each.values[0][:2] == ["python", script]]
    return pytest.mark.parametrize("words", lines)
