"""Command line: ``rrl-register FIXED MOVING -o OUT`` and its commands."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from rrl_register.cli.batch import batch
from rrl_register.cli.command import CONTEXT, OneLineErrors
from rrl_register.cli.evaluate import evaluate
from rrl_register.cli.from_result import apply, report, tie_points
from rrl_register.cli.info import info
from rrl_register.cli.network import export, train
from rrl_register.cli.register import refit, register
from rrl_register.config import __version__

DEFAULT_COMMAND = "register"


class CommandGroup(OneLineErrors, click.Group):
    """A group whose first command may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the default command before arguments that name none, but refuse a misspelt command."""
        own_flags = {flag for parameter in self.get_params(ctx) for flag in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own_flags:
            close = get_close_matches(args[0].lower(), self.commands, n=1, cutoff=0.75)
            if close and args[0].isidentifier() and not Path(args[0]).exists() and not ctx.resilient_parsing:
                raise click.UsageError(f"No command or file {args[0]!r} exists. Did you mean {close[0]!r}?", ctx)
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands, frequent ones first."""
        return list(self.commands)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer commands and files, because the first argument may be an image.

        Files come first, because click's script for bash drops everything before them.
        """
        return [CompletionItem(incomplete, type="file"), *super().shell_complete(ctx, incomplete)]


@click.command(no_args_is_help=True, short_help="Print the script for shell completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print a script that lets SHELL complete commands, options, their values and file names.

    For bash and zsh add this line to ~/.bashrc or ~/.zshrc:

        eval "$(rrl-register completion bash)"

    For fish: rrl-register completion fish > ~/.config/fish/completions/rrl-register.fish
    """
    completer = get_completion_class(shell)
    if completer is None:
        raise click.UsageError(f"This version of click has no completion for {shell}; try another shell")
    click.echo(completer(ctx.find_root().command, {}, "rrl-register", "_RRL_REGISTER_COMPLETE").source())


@click.group(
    cls=CommandGroup,
    commands=[register, info, apply, batch, report, tie_points, refit, train, evaluate, export, completion],
    context_settings=CONTEXT,
    epilog=(
        "Exit codes: 0 success; 1 bug; 2 wrong use; 3 input unreadable or unusable; 4 not registered, because the "
        "evidence is too weak; 5 output exists; 130 interrupted."
    ),
)
@click.version_option(__version__)
def main() -> None:
    """Co-register images of different spectra (visible, infrared, SAR): bring one onto the pixel grid of the other.

    'rrl-register FIXED MOVING -o OUT.tif' is short for 'rrl-register register FIXED MOVING -o OUT.tif'.
    """
