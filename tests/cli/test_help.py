"""What the command line offers: help, completion, near misses, and the same command inside ``rio``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rasterio.rio.main import main_group

from rrl_register.cli import main
from rrl_register.cli.register import register
from rrl_register.config.options import CONFIG_OPTIONS, ConfigOption

REPOSITORY = Path(__file__).resolve().parents[2]
RIO_PLUGINS = "rasterio.rio_plugins"
VERBS = ["register", "info", "apply", "batch", "report", "tie-points", "refit"]
VERBS.extend(["train", "evaluate", "export", "completion"])
FREQUENT = [option for option in CONFIG_OPTIONS if option.frequent]
OTHERS = [option for option in CONFIG_OPTIONS if not option.frequent]


def run(*words: str, **environment: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="rrl-register", env=environment)


def text_of(*words: str) -> str:
    """What is printed, in one line."""
    result = run(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    return " ".join(result.stdout.split())


def described(option: ConfigOption, text: str) -> bool:
    return option.help in text


def test_frequent_verbs_come_first() -> None:
    lines = run("--help").stdout.split("Commands:")[1].splitlines()
    assert [line.split()[0] for line in lines[1 : len(VERBS) + 1]] == VERBS
    assert "..." not in "".join(lines)


@pytest.mark.parametrize("words", [[verb, "--help"] for verb in VERBS] + [["-h"], ["apply", "-h"]])
def test_every_verb_has_help(words: list[str]) -> None:
    assert text_of(*words).startswith("Usage: ")


LEFT_BEHIND = (
    "vouch", "unasked", "asked about", "found back", "searched back", "stiffest", "glance", "held out", "kept out",
    "working px", "go on", "goes on", "anew", "begin anew", "nothing proves", "is told", "likewise", "of which",
)  # fmt: skip


@pytest.mark.parametrize("words", [[verb] for verb in VERBS] + [[], ["evaluate", "patches"], ["evaluate", "vis-nir"]])
def test_help_has_the_words_of_the_field(words: list[str]) -> None:
    full = ["--help-all"] if words and words[0] in ("register", "batch", "info") else ["--help"]
    text = text_of(*words, *full).lower()
    assert [word for word in LEFT_BEHIND if word in text] == []


def test_help_names_both_images_and_the_file_of_a_result() -> None:
    text = text_of("register", "--help")
    assert "bring MOVING (the target) onto the pixel grid of FIXED (the reference)" in text
    for verb in ("register", "apply", "report", "tie-points", "refit"):
        assert "RESULT.json" in text_of(verb, "--help")


def test_the_exit_codes_are_listed() -> None:
    assert "4 not registered" in text_of("--help")


@pytest.mark.parametrize("verb", ["register", "batch"])
def test_brief_help_describes_what_is_frequent_and_names_the_rest(verb: str) -> None:
    brief = text_of(verb, "--help")
    assert all(described(option, brief) for option in FREQUENT)
    assert all(option.flag in brief and not described(option, brief) for option in OTHERS)
    assert brief.index(" Options: ") < brief.index("described by --help-all: Input --fixed-bidx")
    assert len(run(verb, "--help").stdout) < len(run(verb, "--help-all").stdout)


def takes_default(option: ConfigOption) -> bool:
    """Whether help tells a default: a flag's is that it is not given."""
    return option.default is not None and not option.is_flag


@pytest.mark.parametrize("verb", ["register", "batch"])
def test_full_help_describes_everything_with_its_default_under_headings(verb: str) -> None:
    full = text_of(verb, "--help-all")
    assert all(described(option, full) for option in CONFIG_OPTIONS)
    assert all(f"default: {option.default}" in full for option in CONFIG_OPTIONS if takes_default(option))
    places = [full.index(f" {heading}: ") for heading in ("Options", "Input", "Matching", "Model", "Output")]
    assert places == sorted(places)


def test_the_full_help_is_that_of_register_unless_told_otherwise() -> None:
    assert text_of("--help-all") == text_of("register", "--help-all")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["aply", "r.json", "b.tif"], "No command or file 'aply' exists. Did you mean 'apply'?"),
        (["Batch", "scenes.csv"], "Did you mean 'batch'?"),
        (["a.tif", "b.tif", "--modle", "affine"], "Did you mean '--model'?"),
        (["evaluate", "patchs"], "Did you mean 'patches'?"),
        (["a.tif", "b.tif", "out.tif"], "Unexpected name 'out.tif'. Outputs need a flag, such as -o."),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_near_misses_are_answered_with_what_was_meant(words: list[str], said: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_called_like_a_verb_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("aply").touch()
    assert "File b.tif does not exist" in run("aply", "b.tif", "-o", "out.tif").stderr
    assert "File sar does not exist" in run("sar", "optical", "-o", "out.tif").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_RRL_REGISTER_COMPLETE={shell}_complete" in result.stdout


def completions(line: str) -> list[str]:
    """What bash would be told for a line whose last word is begun: ``type,value``."""
    words = line.split(" ")
    result = run(_RRL_REGISTER_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return result.stdout.split()


def test_verbs_and_files_are_completed_in_the_first_place() -> None:
    assert set(completions("rrl-register ")) >= {*(f"plain,{verb}" for verb in VERBS), "file,"}
    assert completions("rrl-register app") == ["file,app", "plain,apply"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rrl-register register opt", ["file,opt"]),
        ("rrl-register opt.tif sa", ["file,sa"]),
        ("rrl-register a.tif b.tif -o al", ["file,al"]),
        ("rrl-register a.tif b.tif --config se", ["file,se"]),
        ("rrl-register a.tif b.tif --mov", ["plain,--moving-kind", "plain,--moving-bidx"]),
        ("rrl-register a.tif b.tif --model poly", ["plain,polynomial2", "plain,polynomial3"]),
        ("rrl-register info a.tif --json b", ["file,b"]),
        ("rrl-register completion f", ["plain,fish"]),
    ],
)
def test_options_values_and_files_are_completed(line: str, offered: list[str]) -> None:
    assert completions(line) == offered


def test_rio_lists_the_command_and_loads_nothing_heavy_for_it(tmp_path: Path) -> None:
    """With the entry points of pyproject.toml installed, whatever else is."""
    plugins = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"][RIO_PLUGINS]
    folder = tmp_path / "rrl_plugin-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rrl-plugin\nVersion: 0\n")
    lines = [f"{name} = {target}" for name, target in plugins.items()]
    (folder / "entry_points.txt").write_text("\n".join([f"[{RIO_PLUGINS}]", *lines]))
    code = (
        "import sys; from rasterio.rio.main import main_group\n"
        "print(main_group.commands['register'].get_short_help_str())\n"
        "print([name for name in ('torch', 'cv2', 'scipy', 'rich') if name in sys.modules])"
    )
    paths = [str(REPOSITORY), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.splitlines() == ["Bring MOVING onto FIXED's pixel grid.", "[]"], result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("a.tif nowhere.tif -o out.tif", 2, "File nowhere.tif does not exist"),
        ("a.tif b.tif --modle affine", 2, "Did you mean '--model'? See 'rio register --help'."),
        ("a.tif b.tif -o out.tif --config broken.yaml", 3, "Cannot read the settings in broken.yaml"),
        ("a.tif b.tif -o broken.yaml", 5, "Output broken.yaml exists"),
    ],
)
def test_rio_ends_with_our_exit_codes_and_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(main_group.commands, "register", register)
    for name, text in {"a.tif": "a", "b.tif": "b", "broken.yaml": "["}.items():
        Path(name).write_text(text)
    result = CliRunner().invoke(main_group, ["register", *arguments.split()], prog_name="rio")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/command_line.md"])
def test_flags_that_are_written_about_exist(page: str) -> None:
    known = {flag for command in walk(main) for parameter in command.params for flag in parameter.opts}
    text = (REPOSITORY / page).read_text()
    written = set(re.findall(r"(?<=[ `(])--[a-z][a-z-]+", text))
    assert written - known - {"--help", "--extra-index-url"} == set()


def walk(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for part in command.commands.values():
            yield from walk(part)
