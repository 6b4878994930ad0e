"""Markdown tables for the benchmarks' output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows of text as a Markdown table whose columns line up: words to the left, figures to the right."""
    table = [list(row) for row in rows]
    widths = [max(3, *(len(row[i]) for row in [list(header), *table])) for i in range(len(header))]
    right = [bool(table) and all(_is_figure(row[i]) for row in table) for i in range(len(header))]
    rule = ["-" * (width - 1) + ":" if to_right else "-" * width for width, to_right in zip(widths, right, strict=True)]
    return "\n".join(_line(cells, widths, right) for cells in (header, rule, *table))


def _is_figure(cell: str) -> bool:
    return cell == "-" or cell[:1].isdigit()


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
    return f"| {' | '.join(padded)} |"
