"""Options of a registration: their values as text, their defaults, and the configuration that they build."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import (
    Device,
    EstimateConfig,
    Kind,
    MatchConfig,
    ModelChoice,
    OutputGrid,
    ReadConfig,
    RegisterConfig,
    WarpConfig,
)
from rrl_register.config.option_types import (
    band_list,
    block_side,
    creation_option,
    distance,
    output_grid,
    rotation,
    scale,
    size,
    size_text,
)
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption, as_text, build_config, nearest
from rrl_register.errors import UsageError

BY_NAME = {option.name: option for option in CONFIG_OPTIONS}
IDS = list(BY_NAME)
CHOICES = [option for option in CONFIG_OPTIONS if isinstance(option.type, click.Choice)]


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
def test_invalid_amounts_of_memory(text: str) -> None:
    with pytest.raises(click.BadParameter, match="512MiB or 2GiB"):
        size(text)


@pytest.mark.parametrize("text", ["1GiB", "1536MiB", "3KiB", "1000"])
def test_amounts_are_written_as_they_are_read(text: str) -> None:
    assert size_text(size(text)) == text


@given(st.integers(0, 1 << 50))
def test_every_amount_comes_back(n_bytes: int) -> None:
    assert size(size_text(n_bytes)) == n_bytes


@given(st.lists(st.integers(1, 999), min_size=1, max_size=9))
def test_bands_come_back_in_their_order(bands: list[int]) -> None:
    assert band_list(",".join(map(str, bands))) == tuple(bands)


@pytest.mark.parametrize("text", ["", "0", "1,0", "1;2", "1, 2", "01", "-1", "red", "1,", ",1"])
def test_invalid_bands(text: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(f"{text!r} is no list of bands; use numbers from 1 on")):
        band_list(text)


@pytest.mark.parametrize("text", ["80px", "500m", "0.5m", ".5px", "12.px"])
def test_distances_are_kept_as_text(text: str) -> None:
    assert distance(text) == text


@pytest.mark.parametrize("text", ["", "80", "px", "0px", "0.0m", "-5m", "5km", "5 px", "1e3px", "inf m", "nanpx"])
def test_invalid_distances(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no distance; use a positive number with its unit"):
        distance(text)


@pytest.mark.parametrize(
    ("check", "texts"),
    [(rotation, ["auto", "none", "-90", "+12.5", "360", "0"]), (scale, ["auto", "none", "0.3", "2", "3.5"])],
)
def test_rotations_and_scales_are_kept_as_text(check: Any, texts: list[str]) -> None:
    assert [check(text) for text in texts] == texts


@pytest.mark.parametrize("text", ["", "AUTO", "361", "-360.5", "90deg", "nan", "inf", "1e2"])
def test_invalid_rotations(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no rotation; use auto, none or degrees"):
        rotation(text)


@pytest.mark.parametrize("text", ["", "0", "0.29", "3.51", "-1", "two", "nan", "50%"])
def test_invalid_scales(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no scale; use auto, none or a factor"):
        scale(text)


def test_a_creation_option_is_split_at_its_first_equals_sign() -> None:
    assert creation_option("NAME=A=B") == ("NAME", "A=B")
    for text in ("", "COMPRESS", "=ZSTD"):
        with pytest.raises(click.BadParameter, match="use NAME=VALUE"):
            creation_option(text)


def test_the_side_of_a_block_is_a_multiple_of_16() -> None:
    assert [block_side("16"), block_side(512)] == [16, 512]
    for text in ("0", "8", "100", "-16", "16.0", "big"):
        with pytest.raises(click.BadParameter, match="multiple of 16"):
            block_side(text)


def test_an_output_grid_is_a_name_or_a_path() -> None:
    assert output_grid("fixed") is OutputGrid.FIXED
    assert output_grid("moving") is OutputGrid.MOVING
    assert output_grid("like.tif") == Path("like.tif")


def test_every_field_of_the_configuration_has_one_option() -> None:
    places = [
        f"{section.name}.{field.name}"
        for section in fields(RegisterConfig())
        for field in fields(getattr(RegisterConfig(), section.name))
    ]
    assert sorted(option.place for option in CONFIG_OPTIONS) == sorted(places)


def test_flags_and_parameters_are_unique() -> None:
    assert len({option.flag for option in CONFIG_OPTIONS}) == len(CONFIG_OPTIONS)
    assert len({option.parameter for option in CONFIG_OPTIONS}) == len(CONFIG_OPTIONS)


@pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=IDS)
def test_help_is_one_sentence_or_more_and_names_a_default(option: ConfigOption) -> None:
    assert option.help[0].isupper() and option.help.endswith(".")
    assert option.default is not None or option.default_text
    assert option.group in ("Input", "Matching", "Model", "Output", "Resources")


@pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=IDS)
def test_the_default_of_an_option_builds_the_default_configuration(option: ConfigOption) -> None:
    default = option.parse(option.default) if isinstance(option.default, str) else option.default
    assert build_config({option.parameter: default}) == RegisterConfig()


@pytest.mark.parametrize("option", [o for o in CONFIG_OPTIONS if o.default is not None], ids=lambda o: o.name)
def test_the_default_is_read_back_from_its_text(option: ConfigOption) -> None:
    text = as_text(option.name, option.plain(RegisterConfig()))
    assert build_config({option.parameter: option.parse(text)}) == RegisterConfig()


@pytest.mark.parametrize("option", CHOICES, ids=lambda o: o.name)
def test_every_choice_reaches_its_field_with_the_right_type(option: ConfigOption) -> None:
    for text in option.type.choices:
        config = build_config({option.parameter: option.parse(text)})
        value = getattr(getattr(config, option.section), option.field)
        assert str(value) == text
        assert isinstance(value, StrEnum if option.name != "support" else int)
        assert option.parse(str(option.plain(config))) == option.parse(text)


@pytest.mark.parametrize("option", CHOICES, ids=lambda o: o.name)
def test_another_choice_is_refused_with_the_valid_ones(option: ConfigOption) -> None:
    with pytest.raises(UsageError, match=f"^{option.name}: 'other' is not one of") as caught:
        option.parse("other")
    assert all(repr(choice) in str(caught.value) for choice in option.type.choices)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("keypoints", "15", "keypoints: 15 is not in the range"),
        ("keypoints", "many", "keypoints: 'many' is not a valid integer"),
        ("max-side", "255", "max-side: 255 is not in the range"),
        ("candidates", "0", "candidates: 0 is not in the range"),
        ("min-score", "1.01", "min-score: 1.01 is not in the range"),
        ("min-score", "-0.01", "min-score: -0.01 is not in the range"),
        ("threshold", "0.4", "threshold: 0.4 is not in the range"),
        ("min-inliers", "3", "min-inliers: 3 is not in the range"),
        ("seed", "-1", "seed: -1 is not in the range"),
        ("threads", "0", "threads: 0 is not in the range"),
        ("nodata", "none", "nodata: 'none' is not a valid float"),
        ("overviews", "perhaps", "overviews: 'perhaps' is not a valid boolean"),
        ("max-shift", "80", "max-shift: '80' is no distance"),
        ("co", "COMPRESS=ZSTD;BAD", "co: 'BAD' is no creation option"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_name_of_its_option(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        BY_NAME[name].parse(text)


def test_an_option_that_may_be_repeated_takes_several_values() -> None:
    assert BY_NAME["co"].parse("A=1; B=2;;") == (("A", "1"), ("B", "2"))
    assert BY_NAME["co"].parse("") == ()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("fixed-bidx", [3, 2, 1], "3,2,1"),
        ("co", ["A=1", "B=2"], "A=1;B=2"),
        ("overviews", True, "yes"),
        ("gcps-only", False, "no"),
        ("keypoints", 400, "400"),
        ("threshold", 2.5, "2.5"),
        ("id", "a", "a"),
        ("id", 7, "7"),
    ],
)
def test_plain_values_become_text(name: str, value: Any, text: str) -> None:
    assert as_text(name, value) == text


@pytest.mark.parametrize("value", [None, {"a": 1}, True, [True], [None], [[{}]]])
def test_other_values_have_no_text(value: Any) -> None:
    with pytest.raises(UsageError, match=r"model is .*; use a text, a number or a list of them"):
        as_text("model", value)


def test_a_configuration_is_built_on_a_base() -> None:
    base = RegisterConfig(ReadConfig(fixed_kind=Kind.SAR), MatchConfig(device=Device.CPU), EstimateConfig(seed=3))
    built = build_config({"estimate_model": "affine", "match_device": None, "unknown": 1}, base)
    assert built == replace(base, estimate=EstimateConfig(ModelChoice.AFFINE, seed=3))
    assert build_config({}) == RegisterConfig()


def test_values_are_plain_for_yaml(tmp_path: Path) -> None:
    config = RegisterConfig(
        ReadConfig(fixed_bands=(3, 1)),
        MatchConfig(weights=Path("mine.safetensors")),
        warp=WarpConfig(grid=tmp_path / "like.tif", creation_options=(("A", "1"), ("B", "x=y"))),
    )
    plain = {option.name: option.plain(config) for option in CONFIG_OPTIONS}
    assert plain["fixed-bidx"] == [3, 1]
    assert plain["moving-bidx"] is None
    assert plain["weights"] == str(Path("mine.safetensors").absolute())
    assert plain["grid"] == str(tmp_path / "like.tif")
    assert plain["co"] == ["A=1", "B=x=y"]
    assert plain["model"] == "auto"
    assert plain["max-memory"] == "1GiB"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("modle", "is 'model' meant?"),
        ("max_shift", "is 'max-shift' meant?"),
        ("keypoint", "is 'keypoints' meant?"),
        ("zzz", None),
    ],
)
def test_the_nearest_name_is_suggested(name: str, answer: str | None) -> None:
    assert nearest(name, BY_NAME) == answer


@pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=IDS)
def test_a_flag_passes_its_default_to_a_command(option: ConfigOption) -> None:
    seen: dict[str, Any] = {}

    @click.command()
    @option.decorate
    def command(**values: Any) -> None:
        seen.update(values)

    assert CliRunner().invoke(command, []).exit_code == 0
    assert list(seen) == [option.parameter]
    assert build_config(seen) == RegisterConfig()
    assert option.flag in CliRunner().invoke(command, ["--help"]).output


def test_settings_cannot_be_changed_by_accident() -> None:
    config = RegisterConfig()
    for section in fields(config):
        with pytest.raises(AttributeError):
            setattr(config, section.name, None)
        first = fields(getattr(config, section.name))[0].name
        with pytest.raises(AttributeError):
            setattr(getattr(config, section.name), first, None)
