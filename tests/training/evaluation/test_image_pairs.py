"""Lists of image pairs: what is kept, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrl_register.errors import InputError, UsageError
from rrl_register.training.evaluation.image_pairs import read_image_pairs

SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9]]


def entry(name: str, family: str = "nir", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "family": family,
        "fixed": f"in/{name}_fixed.tif",
        "moving": f"in/{name}_moving.tif",
        "landmarks_fixed": SQUARE,
        "landmarks_moving": SQUARE,
        **changes,
    }


def stored(folder: Path, entries: object) -> Path:
    path = folder / "pairs.json"
    path.write_text(json.dumps(entries))
    return path


def test_pairs_are_grouped_and_their_paths_are_the_lists(tmp_path: Path) -> None:
    path = stored(tmp_path, [entry("a"), entry("b", "sar"), entry("c")])
    read = read_image_pairs(path)
    assert {family: [pair.name for pair in pairs] for family, pairs in read.items()} == {
        "nir": ["a", "c"],
        "sar": ["b"],
    }
    assert read["sar"][0].fixed == tmp_path / "in/b_fixed.tif"
    assert read["sar"][0].moving == tmp_path / "in/b_moving.tif"
    assert np.array_equal(read["nir"][0].fixed_points, SQUARE)


def test_pairs_without_landmarks_are_passed_over(tmp_path: Path) -> None:
    none = {"landmarks_fixed": None, "landmarks_moving": None}
    missing = {key: value for key, value in entry("d").items() if not key.startswith("landmarks")}
    path = stored(tmp_path, [entry("a"), entry("b", **none), entry("c", landmarks_fixed=[]), missing])
    assert [pair.name for pair in read_image_pairs(path)["nir"]] == ["a"]


def test_families_can_be_chosen(tmp_path: Path) -> None:
    path = stored(tmp_path, [entry("a"), entry("b", "sar"), entry("c", "lwir")])
    assert list(read_image_pairs(path, ["lwir", "nir"])) == ["lwir", "nir"]
    with pytest.raises(UsageError, match=r"no family swir .* nir, sar, lwir"):
        read_image_pairs(path, ["nir", "swir"])


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"a": 1}, "no list of image pairs"),
        ([1, 2], "no list of image pairs"),
        ([{key: value for key, value in entry("a").items() if key != "family"}], "'family'"),
        ([entry("a", landmarks_moving=SQUARE[:3])], r"\(4, 2\) and \(3, 2\)"),
        ([entry("a", landmarks_moving=None)], "landmarks"),
        ([entry("a", landmarks_fixed=None)], "has landmarks"),
        ([], "has landmarks"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, entries: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_image_pairs(stored(tmp_path, entries))


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text("{")
    for name in ("pairs.json", "missing.json"):
        with pytest.raises(InputError, match=name):
            read_image_pairs(tmp_path / name)
