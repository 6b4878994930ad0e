"""``--config`` and ``--print-config``: which value wins, what is printed, what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from rrl_register.batch import Manifest, Summary, running
from rrl_register.cli import main
from rrl_register.config import Kind, ModelChoice, RegisterConfig, Resampling
from rrl_register.exchange.registration import Registration

SETTINGS = """
keypoints: 100
model: affine
resampling: nearest
co: [COMPRESS=ZSTD, TILED=YES]
"""


@pytest.fixture
def used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_registration: Callable[..., Registration]
) -> list[RegisterConfig]:
    """The configurations that registrations of fixed.tif and moving.tif, in the working folder, were asked for with."""
    configs: list[RegisterConfig] = []

    def register(fixed: Path, moving: Path, config: RegisterConfig, **others: Any) -> Registration:
        configs.append(config)
        return make_registration()

    module = ModuleType("rrl_register.pipeline.register")
    vars(module).update(register=register)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    for name in ("fixed.tif", "moving.tif"):
        Path(name).write_text(name)
    Path("settings.yaml").write_text(SETTINGS)
    return configs


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [word for argument in arguments for word in argument.split()])


def printed(*arguments: str) -> dict[str, Any]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return dict(yaml.safe_load(result.stdout))


def test_flags_win_over_the_file_and_the_file_over_the_defaults(used: list[RegisterConfig]) -> None:
    result = run("fixed.tif moving.tif --json r.json --config settings.yaml --model similarity")
    assert result.exit_code == 0, result.output
    (config,) = used
    assert config.estimate.model is ModelChoice.SIMILARITY
    assert (config.match.n_keypoints, config.warp.resampling) == (100, Resampling.NEAREST)
    assert config.warp.creation_options == (("COMPRESS", "ZSTD"), ("TILED", "YES"))
    assert config.read == RegisterConfig().read


def test_a_repeated_flag_replaces_what_the_file_says(used: list[RegisterConfig]) -> None:
    run("fixed.tif moving.tif --co NBITS=12 --json r.json --config settings.yaml")
    assert used[0].warp.creation_options == (("NBITS", "12"),)


def test_in_a_batch_the_scene_wins_over_the_file(used: list[RegisterConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("scenes.csv").write_text(
        "id,fixed,moving,model\na,fixed.tif,moving.tif,translation\nb,fixed.tif,moving.tif,\n"
    )
    asked: list[Manifest] = []

    def run_batch(manifest: Manifest, folder: Path, *others: Any, **more: Any) -> Summary:
        asked.append(manifest)
        return Summary(folder, manifest.source, ())

    monkeypatch.setattr(running, "run_batch", run_batch)
    assert run("batch scenes.csv -o out --config settings.yaml --fixed-kind optical").exit_code == 0
    one, other = (scene.config for scene in asked[0].scenes)
    assert (one.estimate.model, other.estimate.model) == (ModelChoice.TRANSLATION, ModelChoice.AFFINE)
    assert {config.match.n_keypoints for config in (one, other)} == {100}
    assert {config.read.fixed_kind for config in (one, other)} == {Kind.OPTICAL}


@pytest.mark.parametrize("verb", ["register", "batch", "info"])
def test_printing_needs_no_inputs_and_does_nothing(used: list[RegisterConfig], verb: str) -> None:
    settings = printed(verb, "--print-config")
    assert settings["keypoints"] == RegisterConfig().match.n_keypoints
    assert not used


@pytest.mark.parametrize(
    "arguments", ["--print-config --config settings.yaml", "--config settings.yaml --print-config"]
)
def test_printed_is_what_would_be_used(used: list[RegisterConfig], arguments: str) -> None:
    settings = printed("fixed.tif moving.tif -o out.tif --keypoints 50", arguments)
    assert (settings["keypoints"], settings["model"], settings["co"]) == (50, "affine", ["COMPRESS=ZSTD", "TILED=YES"])
    assert not used


def test_what_was_printed_is_used_alike(used: list[RegisterConfig]) -> None:
    text = run("register --weights moving.tif --rotation 0 --config settings.yaml --print-config").stdout
    Path("elsewhere").mkdir()
    Path("elsewhere/all.yaml").write_text(text)
    assert run("register --config elsewhere/all.yaml --print-config").stdout == text


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("modle: affine", 2, "settings.yaml: unknown setting 'modle': is 'model' meant?"),
        ("keypoints: many", 2, "settings.yaml: keypoints: 'many'"),
        ("model: [", 3, "Cannot read the settings in settings.yaml"),
        (None, 2, "File settings.yaml does not exist"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(used: list[RegisterConfig], text: str | None, code: int, said: str) -> None:
    Path("settings.yaml").unlink()
    if text is not None:
        Path("settings.yaml").write_text(text)
    result = run("fixed.tif moving.tif -o out.tif --config settings.yaml")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert not used


def test_the_printed_settings_load_nothing_heavy() -> None:
    assert heavy_modules(["register", "--print-config"]) == "[]"


def heavy_modules(arguments: Sequence[str]) -> str:
    code = (
        "import sys; from click.testing import CliRunner; from rrl_register.cli import main\n"
        f"assert CliRunner().invoke(main, {list(arguments)!r}).exit_code == 0\n"
        "print([name for name in ('torch', 'cv2', 'rasterio', 'rich') if name in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
