"""Plain text tables: words to the left, figures to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Cell = str | int | float | None


def text_table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Lay out rows so that columns line up, two spaces between.

    Args:
        header: Names of the columns.
        rows: Text is shown as it is, floats with two decimals, None as ``-``; a column of text only goes to the left.
    """
    table = [list(row) for row in rows]
    cells = [list(header), *([_shown(cell) for cell in row] for row in table)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    to_left = [bool(table) and all(isinstance(row[i], str) for row in table) for i in range(len(header))]
    return "\n".join(_line(row, widths, to_left) for row in cells)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def _line(row: Sequence[str], widths: Sequence[int], to_left: Sequence[bool]) -> str:
    padded = (
        cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(row, widths, to_left, strict=True)
    )
    return "  ".join(padded).rstrip()
