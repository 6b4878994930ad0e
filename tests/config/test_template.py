"""The template of all settings: every option, one by one, from YAML to the configuration and back."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.config import RegisterConfig
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption
from rrl_register.config.yaml_file import read_config, read_settings, template
from rrl_register.errors import UsageError

IDS = [option.name for option in CONFIG_OPTIONS]
OTHER_VALUES: dict[str, Any] = {
    "fixed-kind": "sar",
    "moving-kind": "ir",
    "fixed-bidx": [3, 2, 1],
    "moving-bidx": 4,
    "max-side": 1024,
    "max-shift": "500m",
    "rotation": -90,
    "scale": 0.5,
    "init-points": "/mine.points",
    "support": 96,
    "effort": "fast",
    "keypoints": 800,
    "candidates": 3,
    "min-score": 0.25,
    "device": "cpu",
    "weights": "/mine.safetensors",
    "model": "affine",
    "threshold": 2.5,
    "min-inliers": 20,
    "seed": 7,
    "resampling": "nearest",
    "grid": "moving",
    "crop": "overlap",
    "format": "cog",
    "overviews": True,
    "gcps-only": True,
    "no-alpha": True,
    "nodata": -9999.5,
    "block-size": 256,
    "threads": 3,
    "co": ["COMPRESS=ZSTD", "NAME=A=B"],
    "max-memory": "512MiB",
}
"""A value of each setting that is not its default, as YAML has it."""


def changed(config: RegisterConfig) -> list[str]:
    """Places of the settings that differ from the defaults."""
    pairs = [
        (section.name, getattr(config, section.name), getattr(RegisterConfig(), section.name))
        for section in fields(config)
    ]
    return [
        f"{name}.{field.name}"
        for name, given, default in pairs
        for field in fields(given)
        if getattr(given, field.name) != getattr(default, field.name)
    ]


def read(folder: Path, content: dict[str, Any]) -> RegisterConfig:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_config(path)


def test_there_is_another_value_for_every_setting() -> None:
    assert sorted(OTHER_VALUES) == sorted(IDS)


@pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=IDS)
def test_a_setting_changes_its_own_field_alone(tmp_path: Path, option: ConfigOption) -> None:
    assert changed(read(tmp_path, {option.name: OTHER_VALUES[option.name]})) == [option.place]


@pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=IDS)
def test_a_changed_setting_is_printed_and_read_back(tmp_path: Path, option: ConfigOption) -> None:
    config = read(tmp_path, {option.name: OTHER_VALUES[option.name]})
    text = template(config)
    assert yaml.safe_load(text)[option.name] != option.plain(RegisterConfig())
    (tmp_path / "again.yaml").write_text(text)
    assert read_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("option", CONFIG_OPTIONS, ids=IDS)
def test_null_keeps_the_default(tmp_path: Path, option: ConfigOption) -> None:
    (tmp_path / "settings.yaml").write_text(f"{option.name}:\n")
    assert read_settings(tmp_path / "settings.yaml") == {}


def test_settings_are_grouped_as_in_the_help() -> None:
    headings = [line.removeprefix("# ---- ") for line in template().splitlines() if line.startswith("# ---- ")]
    assert headings == ["Input", "Matching", "Model", "Output", "Resources"]


def test_the_template_names_the_choices_and_the_defaults_that_are_not_values() -> None:
    prose = " ".join(template().replace("# ", "").split())
    assert "One of fast, normal, thorough." in prose
    assert "Default: 128 for SAR, else 64." in prose
    assert "keypoints: 400" in prose


@settings(max_examples=30)
@given(chosen=st.sets(st.sampled_from(IDS)))
def test_settings_are_independent(tmp_path_factory: pytest.TempPathFactory, chosen: set[str]) -> None:
    config = read(tmp_path_factory.getbasetemp(), {name: OTHER_VALUES[name] for name in chosen})
    assert sorted(changed(config)) == sorted(option.place for option in CONFIG_OPTIONS if option.name in chosen)


@pytest.mark.parametrize("name", ["keypoints", "threshold", "model", "overviews", "co", "max-memory", "grid"])
@pytest.mark.parametrize("value", [{"a": 1}, [[1], {}], [None]])
def test_nested_values_are_refused_with_file_and_setting(tmp_path: Path, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"settings\.yaml: {name}") as caught:
        read(tmp_path, {name: value})
    assert "\n" not in str(caught.value)
