"""Options that verbs share, and how much they say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rrl_register.config.options import CONFIG_OPTIONS

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def config_options(*sections: str) -> Callable[[Decorated], Decorated]:
    """Add the flags of some sections of the configuration to a command."""

    def decorate(function: Decorated) -> Decorated:
        """Add them in the order in which they are declared."""
        for option in reversed(CONFIG_OPTIONS):
            if option.section in sections:
                function = option.decorate(function)
        return function

    return decorate


def overwrite_option(function: Decorated) -> Decorated:
    """Add ``--overwrite``."""
    return click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")(function)


def verbosity_options(function: Decorated) -> Decorated:
    """Add ``-v`` and ``-q``."""
    quiet = click.option("-q", "--quiet", is_flag=True, help="Print output paths and errors only.")
    verbose = click.option("-v", "--verbose", count=True, help="Say what is being done; -vv says more.")
    return verbose(quiet(function))


def set_up_logging(verbose: int, quiet: bool) -> None:
    """Send the package's log to stderr: warnings, with -v progress too, with -vv details too, with -q errors only."""
    level = logging.ERROR if quiet else {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("rrl_register").setLevel(level)
