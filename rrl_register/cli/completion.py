"""``rrl-register completion``: script for completion by a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_PROGRAM = "rrl-register"
_VARIABLE = "_RRL_REGISTER_COMPLETE"


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
    click.echo(completer(ctx.find_root().command, {}, _PROGRAM, _VARIABLE).source())
