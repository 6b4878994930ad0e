"""Plain text tables: words to the left, figures to the right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Cell = str | int | float | None
_ALL_ON_ONE_LINE = 100_000


def text_table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Lay out rows in columns, two spaces apart.

    Args:
        header: Names of the columns.
        rows: Text is shown unchanged, floats with two decimals, None as ``-``; columns of text only are left-aligned.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(header):
        is_text = bool(cells) and all(isinstance(row[number], str) for row in cells)
        table.add_column(Text(name), justify="left" if is_text else "right", no_wrap=True)
    for row in cells:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    console = Console(width=_ALL_ON_ONE_LINE, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
