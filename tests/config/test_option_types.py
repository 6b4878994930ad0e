"""Types of options: texts that are read, texts that are refused, and the words of the refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import Kind, MatchConfig, OutputGrid, RegisterConfig, Resampling
from rrl_register.config import option_types as types
from rrl_register.config.options import CONFIG_OPTIONS, as_text, build_config, nearest
from rrl_register.errors import UsageError

OPTIONS = {option.name: option for option in CONFIG_OPTIONS}

every_option = pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=lambda option: option.name)


@given(st.lists(st.integers(1, 999), min_size=1, max_size=8))
def test_band_numbers_keep_their_order(bands: list[int]) -> None:
    assert types.band_list(",".join(map(str, bands))) == tuple(bands)


@given(st.floats(0.01, 1e6).map(lambda value: f"{value:.3f}"), st.sampled_from(["px", "m"]))
def test_a_distance_is_kept_as_it_is_written(number: str, unit: str) -> None:
    assert types.distance(number + unit) == number + unit


@given(st.floats(-360, 360).map(lambda value: f"{value:.4f}"))
def test_a_rotation_may_be_any_number_of_degrees_of_a_turn(text: str) -> None:
    assert types.rotation(text) == text


@given(st.floats(0.3, 3.5).map(lambda value: f"{value:.4f}"))
def test_a_scale_may_be_any_factor_that_is_searched(text: str) -> None:
    assert types.scale(text) == text


@given(st.text(st.characters(categories=("Lu",)), min_size=1), st.text())
def test_a_creation_option_is_split_at_its_first_equals_sign(name: str, value: str) -> None:
    assert types.creation_option(f"{name}={value}") == (name, value)


@given(st.integers(1, 500).map(lambda n: 16 * n))
def test_a_block_may_have_any_multiple_of_16(side: int) -> None:
    assert types.block_side(str(side)) == types.block_side(side) == side


@given(st.integers(0, 1 << 45))
def test_an_amount_of_memory_is_written_as_it_is_read(n_bytes: int) -> None:
    assert types.size(types.size_text(n_bytes)) == n_bytes


@pytest.mark.parametrize(
    ("read", "text", "example"),
    [
        (types.band_list, "0", "4 or 3,2,1"),
        (types.band_list, "1;2", "4 or 3,2,1"),
        (types.band_list, "1,,2", "4 or 3,2,1"),
        (types.band_list, "-1", "4 or 3,2,1"),
        (types.distance, "80", "80px or 500m"),
        (types.distance, "0px", "80px or 500m"),
        (types.distance, "-5m", "80px or 500m"),
        (types.distance, "5 km", "80px or 500m"),
        (types.rotation, "361", "-360 to 360"),
        (types.rotation, "a quarter", "auto, none or degrees"),
        (types.rotation, "nan", "auto, none or degrees"),
        (types.rotation, "1e2", "auto, none or degrees"),
        (types.scale, "0.29", "0.3 to 3.5"),
        (types.scale, "4", "0.3 to 3.5"),
        (types.scale, "inf", "auto, none or a factor"),
        (types.creation_option, "COMPRESS", "COMPRESS=ZSTD"),
        (types.creation_option, "=ZSTD", "COMPRESS=ZSTD"),
        (types.block_side, "100", "multiple of 16"),
        (types.block_side, "0", "multiple of 16"),
        (types.block_side, "-16", "multiple of 16"),
    ],
)
def test_a_refusal_names_the_text_and_shows_a_right_one(read: Callable[[str], Any], text: str, example: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        read(text)
    assert repr(text) in raised.value.message
    assert example in raised.value.message
    assert "\n" not in raised.value.message


def test_an_output_grid_is_a_word_or_a_path() -> None:
    assert types.output_grid("moving") is OutputGrid.MOVING
    assert types.output_grid("moving.tif") == Path("moving.tif")


@every_option
def test_a_default_is_read_back_as_the_field(option: Any) -> None:
    """The text that help and template show gives the field that it is the default of."""
    plain = option.plain(RegisterConfig())
    if plain is None:
        assert option.default_text
        return
    text = as_text(option.name, plain)
    assert build_config({option.parameter: option.parse(text)}) == RegisterConfig()


@every_option
def test_every_option_fills_a_field_of_its_own(option: Any) -> None:
    section = getattr(RegisterConfig(), option.section)
    assert hasattr(section, option.field)
    assert [other.flag for other in CONFIG_OPTIONS if other.place == option.place] == [option.flag]
    assert option.help.endswith(".")
    assert option.flag == f"--{option.name}"


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        RegisterConfig().match.n_keypoints = 5  # type: ignore[misc]


def test_values_that_are_not_given_keep_those_of_the_base() -> None:
    base = RegisterConfig(match=MatchConfig(n_keypoints=77, rotation="90"))
    found = build_config({"match_n_keypoints": 99, "read_moving_kind": "sar", "match_rotation": None}, base)
    assert found == replace(
        base, match=replace(base.match, n_keypoints=99), read=replace(base.read, moving_kind=Kind.SAR)
    )


def test_an_option_that_may_be_repeated_takes_semicolons() -> None:
    parsed = OPTIONS["co"].parse("COMPRESS=ZSTD; TILED=YES;")
    assert parsed == (("COMPRESS", "ZSTD"), ("TILED", "YES"))
    assert build_config({"warp_creation_options": parsed}).warp.creation_options == parsed


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("keypoints", "3", "keypoints: 3 is not in the range"),
        ("min-score", "1.5", "min-score: 1.5 is not in the range"),
        ("resampling", "sharp", "resampling: 'sharp' is not one of"),
        ("seed", "-1", "seed: -1 is not in the range"),
        ("nodata", "none", "nodata: 'none' is not a valid float"),
        ("support", "65", "support: '65' is not one of '64', '96', '128'"),
    ],
)
def test_a_value_out_of_range_is_an_error_of_usage(name: str, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        OPTIONS[name].parse(text)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("model", "affine", "affine"),
        ("seed", 3, "3"),
        ("fixed-bidx", [3, 2, 1], "3,2,1"),
        ("co", ["A=B", "C=D"], "A=B;C=D"),
        ("overviews", True, "yes"),
        ("gcps-only", False, "no"),
        ("id", "scene-1", "scene-1"),
    ],
)
def test_plain_values_become_the_text_of_a_cell(name: str, value: Any, text: str) -> None:
    assert as_text(name, value) == text


@pytest.mark.parametrize("value", [None, {"a": 1}, True, [True], [None]])
def test_other_values_are_no_text(value: Any) -> None:
    with pytest.raises(UsageError, match="use a text, a number or a list of them"):
        as_text("model", value)


@pytest.mark.parametrize(
    ("name", "hint"), [("modle", "is 'model' meant?"), ("max-shfit", "is 'max-shift' meant?"), ("qqqqqq", None)]
)
def test_the_nearest_name_is_suggested(name: str, hint: str | None) -> None:
    assert nearest(name, OPTIONS) == hint


def test_an_enum_is_offered_by_its_values() -> None:
    assert list(types.one_of(Resampling).choices) == [value.value for value in Resampling]
