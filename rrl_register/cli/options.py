"""Options that commands share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


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


def overwrite_option(function: Decorated) -> Decorated:
    """Add ``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Replace existing outputs.")(function)


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


def refuse_irrelevant_options(ctx: click.Context, irrelevant: dict[str, str], where: str) -> None:
    """Refuse options that would have no effect.

    Args:
        ctx: Context of the command.
        irrelevant: Parameters without effect here, and their flags.
        where: Condition under which they have one, in words.

    Raises:
        UsageError: One was given.
    """
    for parameter, flag in irrelevant.items():
        if ctx.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{flag} has an effect {where} only; leave it out")
