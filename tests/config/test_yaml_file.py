"""Settings in a YAML file: the template of all of them, what is read back, what is refused in which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rrl_register.config import (
    Device,
    EstimateConfig,
    Kind,
    MatchConfig,
    ModelChoice,
    ReadConfig,
    RegisterConfig,
    Resampling,
    WarpConfig,
)
from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.config.yaml_file import read_config, read_settings, template
from rrl_register.errors import InputError, UsageError

BANDS = st.lists(st.integers(1, 20), max_size=3).map(tuple)
NUMBERS = st.integers(-99, 99).map(str)
CONFIGS = st.builds(
    RegisterConfig,
    read=st.builds(
        ReadConfig,
        fixed_bands=BANDS,
        moving_bands=BANDS,
        fixed_kind=st.sampled_from(Kind),
        moving_kind=st.sampled_from(Kind),
        max_side=st.integers(256, 9999),
    ),
    match=st.builds(
        MatchConfig,
        n_keypoints=st.integers(16, 9999),
        support=st.sampled_from([None, 64, 96, 128]),
        max_shift=st.sampled_from([None, "80px", "0.5m"]),
        rotation=st.one_of(st.sampled_from(["auto", "none"]), NUMBERS),
        scale=st.sampled_from(["auto", "none", "0.5", "2"]),
        n_candidates=st.integers(1, 9),
        min_score=st.floats(0, 1),
        device=st.sampled_from(Device),
        weights=st.sampled_from([None, Path("/weights/mine: the #1.safetensors")]),
    ),
    estimate=st.builds(
        EstimateConfig,
        model=st.sampled_from(ModelChoice),
        threshold=st.floats(0.5, 99),
        min_inliers=st.integers(4, 99),
        seed=st.integers(0, 99),
    ),
    warp=st.builds(
        WarpConfig,
        resampling=st.sampled_from(Resampling),
        nodata=st.one_of(st.none(), st.floats(-9999, 9999)),
        block_size=st.integers(1, 99).map(lambda n: 16 * n),
        creation_options=st.sampled_from([(), (("COMPRESS", "ZSTD"),), (("NAME", "A=B"), ("TILED", "YES"))]),
    ),
)


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=25)
@given(CONFIGS)
def test_what_is_printed_is_read_back(tmp_path_factory: pytest.TempPathFactory, config: RegisterConfig) -> None:
    assert read_config(write(tmp_path_factory.getbasetemp(), template(config))) == config


def test_the_template_holds_every_setting_with_its_help_and_default(tmp_path: Path) -> None:
    text = template()
    assert set(yaml.safe_load(text)) == {option.name for option in CONFIG_OPTIONS}
    prose = " ".join(text.replace("# ", "").split())
    assert all(option.help in prose for option in CONFIG_OPTIONS)
    assert all(option.default_text in prose for option in CONFIG_OPTIONS if option.default is None)
    assert read_config(write(tmp_path, text)) == RegisterConfig()
    assert max(map(len, text.splitlines())) <= 112


def test_settings_left_out_or_null_keep_their_defaults(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "")) == RegisterConfig()
    found = read_config(write(tmp_path, "model: affine\nkeypoints: null\n"))
    assert found == replace(RegisterConfig(), estimate=EstimateConfig(model=ModelChoice.AFFINE))


def test_lists_and_numbers_are_taken_as_yaml_has_them(tmp_path: Path) -> None:
    path = write(tmp_path, "fixed-bidx: [3, 2, 1]\nmoving-bidx: 4\nrotation: -90\nscale: 2\nco: [COMPRESS=ZSTD, A=B]\n")
    found = read_config(path)
    assert (found.read.fixed_bands, found.read.moving_bands) == ((3, 2, 1), (4,))
    assert (found.match.rotation, found.match.scale) == ("-90", "2")
    assert found.warp.creation_options == (("COMPRESS", "ZSTD"), ("A", "B"))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "weights: mine.safetensors")).match.weights == tmp_path / "mine.safetensors"
    assert read_config(write(tmp_path, "weights: /far/mine.st")).match.weights == Path("/far/mine.st")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle: affine", "unknown setting 'modle': is 'model' meant?"),
        ("max_shift: 80px", "is 'max-shift' meant?"),
        ("model:\nmodle:", "is 'model' meant?"),
        ("zzz: 1", "--print-config lists all"),
        ("1: 2", "unknown setting '1'"),
        ("keypoints: many", "keypoints: 'many' is not a valid integer"),
        ("keypoints: 3", "keypoints: 3 is not in the range"),
        ("keypoints: [1, 2]", "keypoints: '1,2'"),
        ("model: rigid", "model: 'rigid' is not one of 'auto', 'translation'"),
        ("max-shift: 80", "max-shift: '80' is no distance"),
        ("rotation: off", "rotation is False; use a text, a number or a list"),
        ("model: {affine: true}", "model is {'affine': True}"),
        ("co: COMPRESS", "co: 'COMPRESS' is no creation option"),
        ("- model", "has no settings such as"),
        ("model", "has no settings such as"),
    ],
)
def test_what_does_not_fit_is_told_with_the_file_and_the_setting(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_settings(write(tmp_path, text))
    assert said in str(raised.value)
    assert str(tmp_path / "settings.yaml") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["model: [affine", "model: a: b", "\tmodel: affine"])
def test_what_is_no_yaml_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"Cannot read the settings in .*settings\.yaml"):
        read_settings(write(tmp_path, text))


def test_a_folder_or_another_encoding_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        read_settings(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"model: \xe4ffin")
    with pytest.raises(InputError, match="Cannot read"):
        read_settings(tmp_path / "latin.yaml")
