"""Progress on stderr: shown on a terminal, and nowhere else."""

from __future__ import annotations

import os
import sys

import click
import pytest
from click.testing import CliRunner

from rrl_register.cli.progress import progress_bar, stages
from rrl_register.pipeline.register import StageClock

PROGRAM = """
import click
from rrl_register.cli.command import verbosity_options
from rrl_register.cli.progress import progress_bar, stages

@click.command()
@click.argument("kind")
@verbosity_options
def work(kind):
    if kind == "bar":
        with progress_bar(4, "steps") as bar:
            bar.show(1, "scenes, [0] failed")
            bar.print("a [red]b[/]: registered")
            bar.advance(2)
    else:
        with stages("load") as report_stage:
            report_stage("coarse")
    click.echo("out.tif")

work()
"""


def on_a_terminal(kind: str, *flags: str, **environment: str) -> str:
    """Text of a command whose output and errors both go to one terminal."""
    pty = pytest.importorskip("pty")
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update({"TERM": "xterm", **environment})
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, kind, *flags])
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
    shown = on_a_terminal("stages")
    assert "Searching for rotation, scale and shift" in shown
    assert "\x1b[32m" in shown
    assert shown.endswith("\x1b[2Kout.tif\r\n")


def test_no_colour_where_none_is_wanted() -> None:
    shown = on_a_terminal("stages", NO_COLOR="1")
    assert "Searching for rotation, scale and shift" in shown
    assert "\x1b[32m" not in shown


@pytest.mark.parametrize(("flags", "environment"), [(["-q"], {}), (["-v"], {}), ([], {"TERM": "dumb"})])
def test_nothing_but_the_output_otherwise(flags: list[str], environment: dict[str, str]) -> None:
    assert on_a_terminal("stages", *flags, **environment) == "out.tif\r\n"


def test_a_bar_shows_steps_and_text_and_prints_above_itself() -> None:
    shown = on_a_terminal("bar", NO_COLOR="1")
    assert "3/4 scenes, [0] failed" in shown
    assert "a [red]b[/]: registered\r\n" in shown
    assert shown.endswith("\x1b[2Kout.tif\r\n")


def test_a_bar_is_shown_with_verbose_too() -> None:
    assert "3/4" in on_a_terminal("bar", "-v", NO_COLOR="1")


@pytest.mark.parametrize(("flags", "environment"), [(["-q"], {}), ([], {"TERM": "dumb"})])
def test_a_bar_that_is_not_shown_still_prints(flags: list[str], environment: dict[str, str]) -> None:
    assert on_a_terminal("bar", *flags, **environment) == "a [red]b[/]: registered\r\nout.tif\r\n"


def test_nothing_is_shown_without_a_terminal() -> None:
    @click.command()
    def work() -> None:
        with stages("load") as report_stage:
            report_stage("coarse")
        with progress_bar(3) as bar:
            bar.show(1, "one")
            bar.advance(1)
        click.echo("out.tif")

    assert CliRunner().invoke(work).output == "out.tif\n"


def test_the_clock_reports_each_stage_as_it_begins() -> None:
    reported: list[str] = []
    clock = StageClock(reported.append)
    with clock("read"):
        assert reported == ["read"]
    with clock("coarse"):
        pass
    assert reported == ["read", "coarse"]
    assert set(clock.seconds) == {"read", "coarse"}
