"""The command line: ``rrl-register FIXED MOVING -o OUT`` and its verbs."""

from __future__ import annotations

from typing import Any, NoReturn

import click

from rrl_register import __version__
from rrl_register.cli.apply import apply
from rrl_register.cli.batch import batch
from rrl_register.cli.evaluate import evaluate
from rrl_register.cli.export import export
from rrl_register.cli.register import register
from rrl_register.cli.train import train
from rrl_register.errors import RegistrationError, UsageError

DEFAULT_VERB = "register"


class CommandGroup(click.Group):
    """A group whose first verb may be left out, and whose errors take one line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default verb in front of arguments that begin with none."""
        own_flags = {flag for parameter in self.get_params(ctx) for flag in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own_flags:
            args = [DEFAULT_VERB, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error that a person can act on becomes one line and its exit code."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command = (error.ctx or ctx).command_path
            _fail(ctx, f"{error.format_message()} See '{command} --help'.", UsageError.exit_code)
        except RegistrationError as error:
            _fail(ctx, str(error), error.exit_code)


def _fail(ctx: click.Context, message: str, exit_code: int) -> NoReturn:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    ctx.exit(exit_code)


@click.group(
    cls=CommandGroup,
    commands=[register, apply, batch, train, evaluate, export],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 done; 1 a bug; 2 wrong use; 3 input unreadable or unusable; 4 could not be registered; "
        "5 output exists."
    ),
)
@click.version_option(__version__)
def main() -> None:
    """Bring images of different spectra (visible, infrared, SAR) onto one pixel grid.

    'rrl-register FIXED MOVING -o OUT.tif' is short for 'rrl-register register FIXED MOVING -o OUT.tif'.
    """
