"""Values of options that are more than a number or a name."""

from __future__ import annotations

import click
import pytest

from rrl_register.config.option_types import size, size_text


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("512MiB", 512 << 20),
        ("2GiB", 2 << 30),
        ("1.5GB", 1_500_000_000),
        ("4096", 4096),
        (1 << 30, 1 << 30),
        ("8K", 8000),
    ],
)
def test_amounts_of_memory(text: str | int, n_bytes: int) -> None:
    assert size(text) == n_bytes


@pytest.mark.parametrize("text", ["", "much", "GiB", "-1GiB", "1 GiB/s", "1XiB"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(click.BadParameter, match="512MiB or 2GiB"):
        size(text)


@pytest.mark.parametrize("text", ["1GiB", "1536MiB", "3KiB", "1000"])
def test_amounts_are_written_as_they_are_read(text: str) -> None:
    assert size_text(size(text)) == text
