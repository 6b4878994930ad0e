"""The field's own words: those that the project once used instead are found nowhere.

Searched are README and docs, the help of every command, templates, and code, comments and strings of the package, of
benchmarks, pipelines, examples and data. Names are matched as whole identifiers, prose without regard to case.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rrl_register.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = {
    "is_sane": "implausibility",
    "NOT_FOUND_BACK|(was_|is_)?(found|searched)_back": "failed_forward_backward",
    "crew|Crew|by_strips|in_order|side_by_side": "parallel_map, map_row_blocks, ordered_map",
    "LateScorer|_?Turner|_?Workbench": "LazyScorer, RotationCorrelator, HypothesisRefiner",
    "Scene": "MatchingContext, BatchItem, SourcePair",
    "keypoint_pass(es)?|Pass": "descriptor matching",
    "displacement_field": "displacement_grid",
    "_?bumps?|_Free|is_gentle|_?steepness|_?stiff(est|er|ness)?": (
        "kernel, null space, fold check, largest gradient, simplest model"
    ),
    "_?quicken\\w*|halfs|picked|halved": "optimise_for_cpu, fp16_constant, gather, max_pool",
    "Taps|_?NOWHERE|keep_off|Case|Marks|Shown|_?badness": (
        "SamplePoints, OUTSIDE, avoid_nodata, ReportInput, TiePointMarks, ImagePanel, sort_key"
    ),
    "\\w*strangers?|_?enrol\\w*|\\w*vouch\\w*|\\w*unasked\\w*": "irrelevant options, add_scenes, unscored",
    "_?proven|_certain|_sure|_?surer|_?hopeless|_?settled|_?proposals?|\\w*glance\\w*": (
        "Certainty, more confident, below minimum confidence, converged, initial transforms, quick trial"
    ),
}
"""Identifiers, and what they are called instead."""
PROSE = {
    r"(found|searched) back": "forward-backward check",
    r"vouch(ed|es)?|unasked": "scored, unscored",
    r"asked about|ask(ed|s)? the network": "scored",
    r"glances?": "quick trial",
    r"hopeless|surer": "below minimum confidence, more confident",
    r"proposals?": "initial transform",
    r"crew": "thread pool",
    r"keypoint pass(es)?|in all passes|ties keypoints|ties them": "descriptor matching",
    r"displacement fields?": "displacement grid",
    r"bumps?|steepness|stiff(er|est|ness)?": "kernel, largest gradient, simplest model",
    r"quicken(s|ed)?": "optimise for the CPU",
    r"badness|strangers?|manners": "sort key, irrelevant options",
    r"work(s|ed|ing)? off|enrol(s|led)?": "run a batch, add scenes",
    r"told|tells|says?|said": "reports",
    r"look(s|ed)? closely": "guess the kind",
    r"likewise|of which|of whom": "a sentence of its own",
    r"(go|goes|going|gone|went) on": "continue",
    r"nothing proves|prov(en|es) (it|a|the)\b": "too weak evidence",
    r"kept out of the fit|keeps? out of the fit": "cross-validation",
    r"is sane|insane": "implausible",
    r"needed a free name": "choose another name",
    r"MatchingContext (of|that)": "scene, in what a user reads",
}
"""Words of what people read, and what is written instead."""
FORMER_REASON = re.compile('[`"]not found back[`"]')
"""A reason of tie points in result files of schema 1, which are still read."""
OPENINGS = re.compile(r"(What|How|Whether|Where|Whatever|Who|Whose|Why)\b")
"""No docstring begins so."""
ROOMS = sorted(path for path in (REPOSITORY / "rrl_register").iterdir() if path.name != "__pycache__")
FOLDERS = [REPOSITORY / name for name in ("benchmarks", "data", "examples", "pipelines")]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "docs", REPOSITORY / "mkdocs.yml"]

names = re.compile(rf"(?<![\w.])(?:{'|'.join(NAMES)})(?!\w)")
prose = re.compile(rf"(?<![\w-])(?:{'|'.join(PROSE)})(?![\w-])", re.IGNORECASE)


def files(place: Path, *suffixes: str) -> list[Path]:
    """A file, or the files of a folder, that end so."""
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    return [path for path in found if path.suffix in suffixes]


def instead(word: str, table: dict[str, str]) -> str:
    return next(good for bad, good in table.items() if re.fullmatch(bad, word, re.IGNORECASE))


def found_in(text: str, name: str) -> list[str]:
    """What is wrong in a text: place, word and what is written instead."""
    return [
        f"{name}:{number}: {match[0]!r}, better: {instead(match[0], PROSE)}"
        for number, line in enumerate(text.splitlines(), 1)
        for match in prose.finditer(FORMER_REASON.sub("", line))
    ]


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a module names."""
    for node in ast.walk(ast.parse(path.read_text())):
        line = getattr(node, "lineno", 0)
        for field in ("name", "id", "arg", "attr"):
            if isinstance(name := getattr(node, field, None), str):
                yield line, name.rpartition(".")[2]


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of a module, those of attributes included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


@pytest.mark.parametrize("place", [*ROOMS, *FOLDERS, *PAGES], ids=lambda place: place.name)
def test_prose_and_code_use_the_words_of_the_field(place: Path) -> None:
    texts = files(place, ".py", ".md", ".html", ".css", ".js", ".j2", ".yaml", ".yml", ".ipynb")
    wrong = [each for path in texts for each in found_in(path.read_text(), str(path.relative_to(REPOSITORY)))]
    assert wrong == []


@pytest.mark.parametrize("place", [*ROOMS, *FOLDERS], ids=lambda place: place.name)
def test_names_are_those_of_the_field(place: Path) -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line}: {name}, better: {instead(name, NAMES)}"
        for path in files(place, ".py")
        if path.name != "__init__.py"  # public names stay
        for line, name in identifiers(path)
        if names.fullmatch(name)
    ]
    assert wrong == []


@pytest.mark.parametrize("place", [*ROOMS, *FOLDERS], ids=lambda place: place.name)
def test_docstrings_name_a_thing_or_an_action(place: Path) -> None:
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line}: {text[:60]!r}"
        for path in files(place, ".py")
        for line, text in docstrings(path)
        if OPENINGS.match(text)
    ]
    assert wrong == []


def helps(
    command: click.Command, words: tuple[str, ...] = ("rrl-register",), parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """Name and help of a command and of those below it, all options described."""
    context = command.context_class(command, parent, info_name=words[-1], **command.context_settings)
    options = [parameter.help or "" for parameter in command.params if isinstance(parameter, click.Option)]
    yield " ".join(words), "\n".join([command.get_help(context), *options])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, (*words, name), context)


@pytest.mark.parametrize(("name", "text"), list(helps(main)), ids=lambda value: value if value[:4] == "rrl-" else "")
def test_help_uses_the_words_of_the_field(name: str, text: str) -> None:
    assert found_in(re.sub(r"\n +", " ", text), name) == []


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("It is found back.", 1),
        ("The stiffest, of which", 2),
        ("a bumpy road; sayings; a foretold end", 0),
        ("Going on where it was", 1),
    ],
)
def test_words_are_matched_whole(text: str, n: int) -> None:
    assert len(found_in(text, "text")) == n
