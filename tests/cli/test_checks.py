"""Checks of paths before any work, and options that commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rrl_register.cli.command import (
    OneLineErrors,
    config_options,
    refuse_irrelevant_options,
    require_files,
    require_outputs,
    require_two_images,
    verbosity,
    verbosity_options,
)
from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.errors import (
    InputError,
    NotRegisteredError,
    OutputExistsError,
    RegistrationError,
    UsageError,
    WriteError,
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    path.write_text("pixels")
    return path


def test_a_missing_file_is_named(image: Path) -> None:
    require_files(image)
    require_files(None)
    with pytest.raises(UsageError, match=f"^File {image}x does not exist; check the path$"):
        require_files(Path(f"{image}x"))


@pytest.mark.parametrize("name", ["/vsizip/a.zip/b.tif", "/vsicurl/https://host/a.tif", "/vsis3/bucket/a.tif"])
def test_names_of_gdal_are_left_to_gdal(name: str, image: Path) -> None:
    require_files(Path(name))
    require_two_images(image, Path(name))


def test_one_file_by_two_names_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    hard, soft = tmp_path / "hard.tif", tmp_path / "soft.tif"
    hard.hardlink_to(image)
    soft.symlink_to(image)
    for other in (image, hard, soft, tmp_path / "sub" / ".." / "a.tif"):
        with pytest.raises(UsageError, match="are the same file"):
            require_two_images(image, other)


def test_outputs_have_names_of_their_own(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    require_outputs([out, tmp_path / "out.json"], [image], overwrite=False)
    with pytest.raises(UsageError, match="Two outputs have the same name"):
        require_outputs([out, tmp_path / "x" / ".." / "out.tif"], [image], overwrite=False)


def test_an_output_replaces_no_input_and_no_file_without_being_asked(image: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="input"):
        require_outputs([image], [image], overwrite=True)
    out = tmp_path / "out.tif"
    out.write_text("precious")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        require_outputs([out], [image], overwrite=False)
    require_outputs([out], [image], overwrite=True)
    assert out.read_text() == "precious"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RegistrationError("a\nb"), 1),
        (UsageError("a\nb"), 2),
        (InputError("a\nb"), 3),
        (WriteError("a\nb"), 3),
        (NotRegisteredError("a\nb"), 4),
        (OutputExistsError("a\nb"), 5),
    ],
)
def test_errors_are_one_line_and_an_exit_code(error: Exception, code: int) -> None:
    @click.command(cls=OneLineErrors)
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "Error: a b\n")


def test_ctrl_c_is_one_line_and_bugs_keep_their_traceback() -> None:
    @click.command(cls=OneLineErrors)
    @click.argument("error")
    def command(error: str) -> None:
        raise {"interrupt": KeyboardInterrupt, "bug": ZeroDivisionError}[error]

    result = CliRunner().invoke(command, ["interrupt"])
    assert (result.exit_code, result.stderr) == (130, "Error: Interrupted; unfinished outputs were removed\n")
    assert isinstance(CliRunner().invoke(command, ["bug"]).exception, ZeroDivisionError)


@pytest.fixture
def run_verbose() -> Callable[..., Result]:
    @click.command()
    @verbosity_options
    def command() -> None:
        click.echo(verbosity())
        log = logging.getLogger("rrl_register.test")
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)(name)

    return lambda *flags: CliRunner().invoke(command, flags)


@pytest.mark.parametrize(
    ("flags", "level", "logged"),
    [
        ([], 0, ["warning", "error"]),
        (["-q"], -1, ["error"]),
        (["-v"], 1, ["info", "warning", "error"]),
        (["-vv"], 2, ["debug", "info", "warning", "error"]),
        (["-v", "-v", "-v"], 3, ["debug", "info", "warning", "error"]),
        (["-q", "-vv"], -1, ["error"]),
    ],
)
def test_verbosity_sets_what_the_log_shows(
    run_verbose: Callable[..., Result], flags: list[str], level: int, logged: list[str]
) -> None:
    result = run_verbose(*flags)
    assert result.stdout == f"{level}\n"
    assert result.stderr.splitlines() == [f"{name.upper()} rrl_register.test: {name}" for name in logged]


def test_a_command_takes_sections_and_single_flags_in_the_order_of_declaration() -> None:
    @click.command()
    @config_options("--device", "estimate", "--max-side")
    def command(**values: object) -> None: ...

    flags = [option.flag for option in CONFIG_OPTIONS]
    expected = [
        f for f in flags if f in ("--max-side", "--device", "--model", "--threshold", "--min-inliers", "--seed")
    ]
    assert [parameter.opts[0] for parameter in command.params] == expected


def test_an_irrelevant_option_is_refused_only_if_it_was_given() -> None:
    @click.command(cls=OneLineErrors)
    @click.option("--one-more", default=1)
    @click.pass_context
    def command(ctx: click.Context, one_more: int) -> None:
        refuse_irrelevant_options(ctx, ["one_more"], "with --other")

    assert CliRunner().invoke(command).exit_code == 0
    result = CliRunner().invoke(command, ["--one-more", "1"])
    assert (result.exit_code, result.stderr) == (2, "Error: --one-more has an effect with --other only; leave it out\n")
