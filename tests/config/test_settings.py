"""Settings of every stage: public names, equality, and values that are also text."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum

import pytest

import rrl_register.config as config
from rrl_register.config import BatchConfig, RegisterConfig

ENUMS = {
    "Crop": ["overlap", "fixed", "union"],
    "Device": ["auto", "cpu", "cuda"],
    "Effort": ["fast", "normal", "thorough"],
    "Kind": ["auto", "optical", "ir", "sar"],
    "ModelChoice": [
        "auto",
        "translation",
        "similarity",
        "affine",
        "homography",
        "polynomial2",
        "polynomial3",
        "thin-plate",
    ],
    "OutputGrid": ["fixed", "moving"],
    "RasterFormat": ["gtiff", "cog"],
    "Resampling": ["nearest", "bilinear", "cubic"],
}
SECTIONS = [
    "ReadConfig",
    "MatchConfig",
    "EstimateConfig",
    "WarpConfig",
    "ResourceConfig",
    "RegisterConfig",
    "BatchConfig",
]


def test_all_settings_are_public() -> None:
    assert sorted(config.__all__) == sorted([*ENUMS, *SECTIONS])


@pytest.mark.parametrize(("name", "values"), ENUMS.items())
def test_values_of_an_enum_are_part_of_the_interface(name: str, values: list[str]) -> None:
    enum = getattr(config, name)
    assert issubclass(enum, StrEnum)
    assert [str(value) for value in enum] == values


@pytest.mark.parametrize("name", SECTIONS)
def test_settings_have_defaults_and_can_be_compared_hashed_and_sent(name: str) -> None:
    section = getattr(config, name)
    assert is_dataclass(section)
    one, other = section(), section()
    assert one == other
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == one


def test_sections_of_a_registration_stay_in_their_order() -> None:
    assert [field.name for field in fields(RegisterConfig)] == ["read", "match", "estimate", "warp", "resources"]
    assert list(asdict(BatchConfig())) == ["workers", "resume", "retry_failed", "overwrite", "scheduler"]


def test_a_batch_has_one_worker_and_touches_no_earlier_run_by_default() -> None:
    assert BatchConfig() == BatchConfig(1, resume=False, retry_failed=False, overwrite=False, scheduler=None)


def test_settings_are_imported_without_click_and_numpy() -> None:
    code = "import sys, rrl_register.config; print([m for m in ('click', 'numpy', 'yaml') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
