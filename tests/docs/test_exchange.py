"""The page on exchanges tells of every format, field and reason that there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rrl_register.exchange.formats import FORMATS
from rrl_register.exchange.named_fields import columns
from rrl_register.exchange.registration import Registration
from rrl_register.exchange.table import Grids, PointTable, Reason


@pytest.fixture(scope="module")
def page(samples: Path) -> str:
    return (samples.parent / "docs" / "exchange.md").read_text()


def test_every_format_and_reason_is_told(page: str) -> None:
    for word in [*FORMATS, *Reason]:
        assert f"`{word}`" in page


def test_every_field_is_told(page: str, make_registration: Callable[..., Registration]) -> None:
    result = make_registration()
    fields = columns(PointTable.of(result), Grids(result.fixed_grid, result.moving_grid))
    assert [name for name in fields if f"`{name}`" not in page] == []
