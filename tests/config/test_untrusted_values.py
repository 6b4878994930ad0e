"""Values of options, tables and settings that would hang, overflow or pass for numbers: refused in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from rrl_register.batch.manifest import read_manifest
from rrl_register.cli import main
from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.config.yaml_file import read_config
from rrl_register.errors import InputError, UsageError

SECONDS = 20
LONG = "1" * 99_999
VALUES = ["nan", "inf", "-inf", "1e999", LONG, LONG + "x", "." + LONG + "x", "1." + LONG + "x", " " * 99_999 + "x"]
NUMERIC = [
    option
    for option in CONFIG_OPTIONS
    if option.name.endswith(("bidx", "score", "shift", "rotation", "scale", "keypoints", "candidates", "side", "size"))
    or option.name in ("threshold", "min-inliers", "seed", "threads", "max-memory", "support")
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:6])
@pytest.mark.parametrize("option", NUMERIC, ids=lambda option: option.name)
def test_no_flag_takes_what_is_no_number(option: object, value: str, samples: Path) -> None:
    images = [str(samples / f"rgb_nir_{which}.tif") for which in ("fixed", "moving")]
    begun = time.monotonic()
    done = CliRunner().invoke(main, [*images, "--json", "r.json", f"{option.flag}={value}"])  # type: ignore[attr-defined]
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.exception
    assert len(done.stderr) < 5000
    assert time.monotonic() - begun < SECONDS


SETTINGS = {
    "explosion": "a: &a [1,1,1,1]\nb: &b [*a,*a,*a,*a]\nfixed-bidx: [*b,*b]\n",
    "itself": "fixed-bidx: &a [*a]\n",
    "depth": "fixed-bidx: " + "[" * 20_000,
    "nested": "fixed-bidx: " + "[" * 50 + "1" + "]" * 50,
    "digits": "keypoints: " + "9" * 5000,
    "many digits": "keypoints: " + "9" * 4000,
    "nan": "threshold: .nan",
    "infinity": "threshold: .inf",
    "score": "min-score: .nan",
    "date": "keypoints: 2020-01-01",
    "object": "keypoints: !!python/object/apply:os.system [true]",
    "null character": 'weights: "a\\0b"',
    "long": "weights: " + "a" * 100_000,
    "name": "a" * 100_000 + ": 1",
    "key": "? [a]\n: 1",
    "number": "1: 2",
    "large": "#" * 2_000_000,
    "binary": "weights: !!binary AAAA",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_do_harm_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SETTINGS[name])
    begun = time.monotonic()
    with pytest.raises((InputError, UsageError)) as caught:
        read_config(tmp_path / "s.yaml")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - begun < SECONDS


HEADER = "id,fixed,moving"
TABLES = {
    "columns.csv": ",".join(["id"] * 100_000),
    "cell.csv": f"{HEADER}\n{'a' * 200_000},b,c\n",
    "quote.csv": f'{HEADER}\n"' + "a,b,c\n" * 100_000,
    "null.csv": f"{HEADER}\na,b\0,c\n",
    "path.csv": f"{HEADER}\na,{'b' * 10_000},c\n",
    "nan.csv": f"{HEADER},threshold\na,b,c,nan\n",
    "digits.csv": f"{HEADER},keypoints\na,b,c,{'9' * 5000}\n",
    "latin.csv": f"{HEADER}\n\xe4,b,c\n",
    "depth.jsonl": "[" * 100_000,
    "list.jsonl": "[1]",
    "nested.jsonl": json.dumps({"id": "a", "fixed": "b", "moving": "c", "fixed-bidx": [[[1]]]}),
    "number.jsonl": '{"id": "a", "fixed": "b", "moving": "c", "keypoints": ' + "9" * 5000 + "}",
    "null.jsonl": '{"id": "a", "fixed": "b\\u0000", "moving": "c"}',
    "object.jsonl": '{"id": {"a": 1}, "fixed": "b", "moving": "c"}',
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_do_harm_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(TABLES[name].encode("latin-1"))
    begun = time.monotonic()
    with pytest.raises((InputError, UsageError)):
        read_manifest(tmp_path / name)
    assert time.monotonic() - begun < SECONDS
