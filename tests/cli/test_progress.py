"""The line that tells a person what is being done: where it is shown, where it is not."""

from __future__ import annotations

import os
import sys

import click
import pytest
from click.testing import CliRunner

from rrl_register.cli.progress import stages
from rrl_register.pipeline.timing import StageClock

PROGRAM = """
import click
from rrl_register.cli.progress import stages

@click.command()
@click.option("-q", "--quiet", is_flag=True)
@click.option("-v", "--verbose", count=True)
def work(quiet, verbose):
    with stages("load") as tell:
        tell("coarse")
    click.echo("out.tif")

work()
"""


def on_a_terminal(*flags: str, **environment: str) -> str:
    """What a command shows whose output and errors both go to one terminal."""
    pty = pytest.importorskip("pty")
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update({"TERM": "xterm", **environment})
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, *flags])
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode()


def test_a_terminal_shows_the_stage_and_keeps_only_the_output() -> None:
    shown = on_a_terminal()
    assert "Searching for rotation, scale and shift" in shown
    assert "\x1b[32m" in shown
    assert shown.endswith("\x1b[2Kout.tif\r\n")


def test_no_colour_where_none_is_wanted() -> None:
    shown = on_a_terminal(NO_COLOR="1")
    assert "Searching for rotation, scale and shift" in shown
    assert "\x1b[32m" not in shown


@pytest.mark.parametrize(("flags", "environment"), [(["-q"], {}), (["-v"], {}), ([], {"TERM": "dumb"})])
def test_nothing_but_the_output_otherwise(flags: list[str], environment: dict[str, str]) -> None:
    assert on_a_terminal(*flags, **environment) == "out.tif\r\n"


def test_nothing_is_shown_without_a_terminal() -> None:
    @click.command()
    def work() -> None:
        with stages("load") as tell:
            tell("coarse")
        click.echo("out.tif")

    assert CliRunner().invoke(work).output == "out.tif\n"


def test_the_clock_tells_each_stage_as_it_begins() -> None:
    told: list[str] = []
    clock = StageClock(told.append)
    with clock("read"):
        assert told == ["read"]
    with clock("coarse"):
        pass
    assert told == ["read", "coarse"]
    assert set(clock.seconds) == {"read", "coarse"}
