"""The command lines that README and docs show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SHELLS = ("", "bash", "console", "sh")
"""Languages of a fenced block that holds commands; a block without one is taken for commands."""


@dataclass(frozen=True)
class Line:
    """A command of a page.

    Attributes:
        place: ``page:line``.
        text: The command, continuation lines joined, comments included.
    """

    place: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words of the shell, without comments, redirections and ``[placeholders]``; of ``$(...)``, the inside."""
        inner = re.search(r"\$\((rrl-register [^)]*)\)", self.text)
        words = shlex.split(inner[1] if inner else self.text, comments=True)
        ends = [i for i, word in enumerate(words) if word in (">", "|") or word.startswith("[")]
        return [word.removesuffix("...") for word in words[: min(ends, default=None)]]


def lines_of(page: Path) -> Iterator[Line]:
    """The commands in the blocks of a page: fenced or indented by four spaces.

    What is indented under ``:::`` are settings of the API reference, under ``===`` and ``!!!`` it is text.
    """
    fence, begun, outside = None, "", False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fence = None if fence is not None else line.strip().strip("`").partition(" ")[0]
            continue
        outside = line.startswith((":::", "===", "!!!", "???")) or (outside and (line[:4].isspace() or not line))
        indented = fence is None and not outside and line.startswith("    ")
        shown = line.strip().removeprefix("$ ") if fence in SHELLS or indented else ""
        text = begun + shown
        begun = text[:-1] if text.endswith("\\") else ""
        if text and not begun and not text.startswith("#"):
            yield Line(f"{page.name}:{number}", text)


def python_blocks(page: Path) -> list[str]:
    """The Python snippets of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
