"""The documentation holds together: links lead somewhere, what is named exists, Python snippets can be run."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import rrl_register
import rrl_register.config

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
FOLDERS = ("benchmarks", "data", "docs", "examples", "pipelines", "rrl_register", "tests")
GAP = "\0"
NOTEBOOKS = {DOCS / "notebooks" / f"{path.stem}.md" for path in (REPOSITORY / "examples").glob("*.ipynb")}
"""Pages that docs/notebooks.py makes."""
PUBLIC_MODULES = {f"rrl_register.{name}" for name in ("batch", "config", "errors", "report", "xarray")}
MOST_BYTES_OF_A_PICTURE = 300_000

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|^ {4}.*?$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_to_pages_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        if there in NOTEBOOKS:
            continue
        assert there.is_file(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


@every_page
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./*-]+)`", page.read_text())
    missing = [path for path in named if not any(REPOSITORY.glob(path.rstrip("/")))]
    assert missing == []


@every_page
def test_extras_that_are_named_exist(page: Path) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"(?:rrl-register|\.)\[([\w,]+)\]'", page.read_text())
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


@every_page
def test_included_parts_are_there(page: Path) -> None:
    for path, section in re.findall(r'^--8<-- "([^":]+):(\w+)"', page.read_text(), re.MULTILINE):
        source = (REPOSITORY / path).read_text()
        assert f"[start:{section}]" in source
        assert f"[end:{section}]" in source


def snippets() -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 2
            yield pytest.param(match[1], id=f"{page.name}:{line}")


@pytest.mark.parametrize("code", list(snippets()))
def test_python_snippets_compile_and_import_what_is_there(code: str) -> None:
    """Names are looked up; packages of others need only be installable, so their absence is no error."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("rrl_register") or importlib.util.find_spec(alias.name), alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rrl_register"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def documented_names() -> list[str]:
    return [name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("name", documented_names())
def test_names_of_the_api_reference_exist(name: str) -> None:
    home, _, attribute = name.rpartition(".")
    module = importlib.import_module(home)
    assert hasattr(module, attribute) or importlib.util.find_spec(name)


def test_the_api_reference_is_of_public_names_and_of_all_of_them() -> None:
    elsewhere = {*rrl_register.config.__all__, "RegistrationError", "__version__"}
    own = {f"rrl_register.{name}" for name in {*rrl_register.__all__} - elsewhere}
    assert set(documented_names()) == own | PUBLIC_MODULES


def pages_of(nav: Any) -> Iterator[str]:
    for entry in nav:
        value = next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else pages_of(value)


def test_every_page_is_in_the_navigation_once() -> None:
    nav = sorted(pages_of(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]))
    assert nav == sorted(str(page.relative_to(DOCS)) for page in [*PAGES[1:], *NOTEBOOKS])


def test_notebooks_become_pages_with_their_pictures(tmp_path: Path) -> None:
    reason = "needs the extra docs"
    pytest.importorskip("nbconvert", reason=reason)
    load_config = pytest.importorskip("mkdocs.config", reason=reason).load_config
    files = importlib.import_module("mkdocs.structure.files").Files([])
    config = load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path), theme="mkdocs", plugins=[])
    config.plugins.on_files(files, config=config)
    pages = {file.src_uri: file for file in files}
    assert {f"notebooks/{path.name}" for path in NOTEBOOKS} <= set(pages)
    assert any(uri.endswith(".jpg") for uri in pages)


def test_pictures_stay_small() -> None:
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".png", ".jpg")]
    assert pictures
    assert all(path.stat().st_size < MOST_BYTES_OF_A_PICTURE for path in pictures)


@cache
def messages() -> str:
    """All texts of the package, one a line, with a gap where a value comes in."""
    found = []
    for path in (REPOSITORY / "rrl_register").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"\{\}", GAP, node.value))
    return "\n".join(found)


def explained() -> Iterator[str]:
    """What the first columns of the tables of messages say, piece by piece; figures and dots stand for any value."""
    text = (DOCS / "limits.md").read_text().partition("## Refused")[2]
    for cell in re.findall(r"^\| ((?!message|---).+?) \|", text, re.MULTILINE):
        for piece in re.split(r"\.\.\.|;", re.sub(r"(?<![\w.])\d[\d.]*%?|`[^`]*`", "...", cell)):
            if len(piece.split()) > 1:
                yield piece.strip(" ,.()")


@pytest.mark.parametrize("piece", list(explained()))
def test_messages_that_are_explained_are_those_of_the_program(piece: str) -> None:
    assert piece.lower() in messages().lower()


def test_pictures_are_made_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "preview.png"), np.zeros((200, 1600, 3), np.uint8))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["make_pictures.py", str(tmp_path), str(tmp_path)])
    runpy.run_path(str(DOCS / "make_pictures.py"), run_name="__main__")
    assert cv2.imread(str(tmp_path / "demo.jpg")).shape == (150, 1200, 3)
    assert not (tmp_path / "report.jpg").exists()


def test_worked_examples_run_and_are_drawn(tmp_path: Path) -> None:
    """The commands of the page as they are, one after the other, and the pictures of what they wrote."""
    for name in ("data", "examples"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    script = [sys.executable, str(DOCS / "make_example_pictures.py"), "."]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    errors = [float(error) for error in re.findall(r"mean ([\d.]+) px", run.stdout)]
    assert len(errors) == 9
    assert max(errors) < 1
    shown = set(re.findall(r"images/(example_\w+\.jpg)", (DOCS / "examples.md").read_text()))
    assert shown == {path.name for path in tmp_path.glob("*.jpg")} == {p.name for p in DOCS.glob("images/example_*")}
