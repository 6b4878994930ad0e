"""Base of the commands: shared options, checks of paths, settings from a file, brief help, one-line errors."""

from __future__ import annotations

import copy
import errno
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from rrl_register.config.files import is_special, printable
from rrl_register.config.option_types import FILE
from rrl_register.config.options import CONFIG_OPTIONS, Decorated, build_config
from rrl_register.errors import RegistrationError, UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Collected = TypeVar("Collected", bound="DataclassInstance")


def require_files(*paths: Path | None) -> None:
    """Check that paths exist; None and GDAL's own names (``/vsizip/...``) pass.

    Raises:
        UsageError: There is no such file.
    """
    for path in filter(None, paths):
        if not path.exists() and not str(path).startswith("/vsi"):
            raise UsageError(f"File {path} does not exist; check the path")
        if is_special(path):
            raise UsageError(f"{path} is a device or a pipe; name a file")


def require_two_images(fixed: Path, moving: Path) -> None:
    """Check that two inputs exist and differ.

    Raises:
        UsageError: A file is missing, or both names lead to one file.
    """
    require_files(fixed, moving)
    if _same(fixed, moving):
        raise UsageError(f"FIXED and MOVING are the same file {fixed}; pass two images")


def require_outputs(outputs: list[Path], inputs: list[Path], overwrite: bool) -> None:
    """Check that outputs can and may be written.

    Raises:
        UsageError: An output is an input or another output, or its folder cannot be written to.
        OutputExistsError: An output exists and may not be replaced.
    """
    from rrl_register.raster.writer import check_not_input, check_output

    for one, other in combinations(outputs, 2):
        if _same(one, other):
            raise UsageError(f"Two outputs have the same name {one}; choose another name")
    for output in outputs:
        check_not_input(output, *inputs)
        check_output(output, overwrite)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def config_options(*names: str) -> Callable[[Decorated], Decorated]:
    """Add options of the configuration to a command, in the order of declaration.

    Args:
        names: Sections of the configuration, or single flags.
    """

    def decorate(function: Decorated) -> Decorated:
        """Add them from last to first, because click reverses the order of decorators."""
        for option in reversed(CONFIG_OPTIONS):
            if option.section in names or option.flag in names:
                function = option.decorate(function)
        return function

    return decorate


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")


def collect(kind: type[Collected], values: Mapping[str, Any]) -> Collected:
    """Build a dataclass from those of click's values that have the names of its fields."""
    return kind(**{item.name: values[item.name] for item in fields(kind) if item.name in values})


def verbosity_options(function: Decorated) -> Decorated:
    """Add ``-v`` and ``-q``, and send the package's log to stderr."""
    common: dict[str, Any] = {"expose_value": False, "callback": _set_verbosity}
    quiet = click.option("-q", "--quiet", is_flag=True, help="Print output paths and errors only.", **common)
    verbose = click.option("-v", "--verbose", count=True, help="Log progress; -vv logs more.", **common)
    return verbose(quiet(function))


def verbosity() -> int:
    """Return the verbosity of the current command: -1 with ``-q``, else the number of ``-v``."""
    given = click.get_current_context().meta.get(__name__, {})
    return -1 if given.get("quiet") else given.get("verbose", 0)


def _set_verbosity(ctx: click.Context, parameter: click.Parameter, value: int) -> None:
    ctx.meta.setdefault(__name__, {})[parameter.name] = value
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", force=True)
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logging.getLogger("rrl_register").setLevel(levels.get(verbosity(), logging.DEBUG))


def refuse_irrelevant_options(ctx: click.Context, irrelevant: Iterable[str], where: str) -> None:
    """Refuse options that would have no effect.

    Args:
        ctx: Context of the command.
        irrelevant: Parameters without effect here; each has the name of its flag.
        where: Condition under which they have one, in words.

    Raises:
        UsageError: One was given.
    """
    for parameter in irrelevant:
        if ctx.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--{parameter.replace('_', '-')} has an effect {where} only; leave it out")


INTERRUPTED = 130
"""Exit code that shells return for a program that Ctrl-C ended."""
CONTEXT: Mapping[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_LONGEST_LINE = 4000
"""Characters of an error; ten problems of a table take half of it."""
_FREQUENT = "Options"
_PRINT = "--print-config"
_ALL = "--help-all"


class OneLineErrors(click.Command):
    """A command whose errors, except bugs, become one line and an exit code, also inside ``rio``."""

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Read the command line."""
        with _one_line_errors():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _one_line_errors():
            return super().invoke(ctx)


class RegistrationCommand(OneLineErrors):
    """A command with the settings of a registration.

    Its help describes the frequent options and names the others, which ``--help-all`` describes. ``--config`` reads
    settings, which flags override; ``--print-config`` prints all settings and stops.
    """

    def __init__(self, *arguments: Any, **others: Any) -> None:
        settings = {**CONTEXT, "allow_extra_args": True}  # parse_args refuses them with a better message
        super().__init__(*arguments, **{"context_settings": settings, **others})
        self.params += [
            click.Option(
                ["--config"],
                type=FILE,
                metavar="FILE.yaml",
                is_eager=True,
                expose_value=False,
                callback=_use_config,
                help="Read settings from this file; flags override them.",
            ),
            click.Option([_PRINT], is_flag=True, help="Print all settings in the format of that file, and stop."),
            click.Option(
                [_ALL],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_help_all,
                help="Describe all options and stop.",
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; nothing is required if the settings are only printed."""
        ctx.meta[_PRINT] = _PRINT in args
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            raise click.UsageError(f"Unexpected name {extra[0]!r}. Outputs need a flag, such as -o.", ctx)
        return extra

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """List arguments and options."""
        parameters = super().get_params(ctx)
        if ctx.meta.get(_PRINT):
            parameters = [copy.copy(parameter) for parameter in parameters]
            for parameter in parameters:
                parameter.required = False
        return parameters

    def invoke(self, ctx: click.Context) -> Any:
        """Print the settings, or run the command."""
        if ctx.params.pop("print_config"):
            from rrl_register.config.yaml_file import template

            click.echo(template(build_config(ctx.params)), nl=False)
            return None
        with _one_line_errors():
            return click.Command.invoke(self, ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the frequent options, then the others under their headings or, in the brief help, their names."""
        groups: dict[str, list[click.Option]] = {_FREQUENT: []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", None) or _FREQUENT, []).append(parameter)
        _write_options(ctx, formatter, _FREQUENT, groups.pop(_FREQUENT))
        if ctx.meta.get(_ALL):
            for heading, options in groups.items():
                _write_options(ctx, formatter, heading, options)
        elif groups:
            with formatter.section(f"More options, described by {_ALL}"):
                margin, column = " " * formatter.current_indent, max(map(len, groups)) + 2
                # click's own lists would break flags at their hyphens.
                wrapper = TextWrapper(formatter.width, break_on_hyphens=False, subsequent_indent=margin + " " * column)
                for heading, options in groups.items():
                    flags = ", ".join(option.opts[-1] for option in options)
                    formatter.write(wrapper.fill(f"{margin}{heading:<{column}}{flags}") + "\n")


def fail(message: str, exit_code: int) -> NoReturn:
    """Print an error in one line of bounded length, and exit."""
    line = printable(" ".join(message.split()))
    shown = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
    click.echo(f"Error: {shown}", err=True)
    raise click.exceptions.Exit(exit_code)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        hint = f" See '{error.ctx.command_path} --help'." if error.ctx else ""
        fail(f"{error.format_message()}{hint}", UsageError.exit_code)
    except RegistrationError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        fail(f"The path {error.filename} is too long; choose a shorter one", UsageError.exit_code)
    except KeyboardInterrupt:
        fail("Interrupted; unfinished outputs were removed", INTERRUPTED)


def _use_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    from rrl_register.config.yaml_file import read_settings

    require_files(path)
    settings = read_settings(path)
    ctx.default_map = {
        option.parameter: text.split(";") if option.multiple else text for option, text in settings.items()
    }


def _help_all(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _write_options(
    ctx: click.Context, formatter: click.HelpFormatter, heading: str, options: Iterable[click.Option]
) -> None:
    records = [record for option in options if (record := option.get_help_record(ctx))]
    if records:
        with formatter.section(heading):
            formatter.write_dl(records)
