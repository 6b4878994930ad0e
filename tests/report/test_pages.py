"""The pages as files: what is in them, that nothing in them is markup by accident, that they ask for nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrl_register.batch.journal import FAILED, FIGURES, OK, Outcome, Summary, outputs_of
from rrl_register.batch.manifest import BatchItem
from rrl_register.config import RegisterConfig
from rrl_register.errors import OutputExistsError
from rrl_register.exchange.registration import Registration, failure_record
from rrl_register.raster.writer import write_json
from rrl_register.report import batch_page, write_batch_report, write_report
from rrl_register.report.inputs import ReportInput
from rrl_register.report.pictures import Pictures
from rrl_register.report.scene_page import report_page

Build = Callable[..., Registration]
Write = Callable[..., Path]

VOID = {"meta", "link", "img", "input", "br", "path", "rect", "line", "circle", "polygon"}


class Page(HTMLParser):
    """Tags, texts and attributes of a page; refuses tags that do not close each other."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def case(make_raster: Write, make_registration: Build) -> ReportInput:
    image = np.random.default_rng(0).integers(1, 255, (200, 200), np.uint8)
    return ReportInput(make_raster(image, "fixed.tif"), make_raster(image, "moving.tif"), make_registration())


@pytest.fixture
def failed(case: ReportInput, make_registration: Build) -> ReportInput:
    refused = make_registration(status="failed", reason="too dark: try other bands", matrix=None)
    return replace(case, registration=refused)


def test_the_page_of_a_success_has_all_its_parts(case: ReportInput, tmp_path: Path) -> None:
    write_report(case, tmp_path / "out.html")
    page = read(tmp_path / "out.html")
    for heading in ("Compare", "Tie points", "Evidence", "Transform", "Images", "Processing", "Commands"):
        assert heading in page.text
    assert "rrl-register apply" in page.text
    assert {image["alt"] for image in page.all("img")} == {"Fixed", "Moving", "Moving, aligned"}
    assert "tie points are inliers of a homography" in page.text


def test_similarity_is_a_table_where_it_was_measured(case: ReportInput, make_registration: Build) -> None:
    figures = {"before": {"nmi": 1.0213, "gradient_ssim": 0.11}, "after": {"nmi": 1.0842, "gradient_ssim": 0.354}}
    measured = replace(case, registration=make_registration(similarity=figures))
    text = " ".join(Page(report_page(measured, Pictures(None, None))).text.split())
    assert "Normalised mutual information 1.021 1.084".replace(" ", "") in text.replace(" ", "")
    assert "Structural similarity of gradients 0.110 0.354".replace(" ", "") in text.replace(" ", "")
    assert "mutual information" not in Page(report_page(case, Pictures(None, None))).text


def test_the_page_of_a_failure_shows_both_images_and_what_to_try(failed: ReportInput, tmp_path: Path) -> None:
    write_report(failed, tmp_path / "out.html")
    page = read(tmp_path / "out.html")
    assert "Not registered" in page.text and "Try other bands." in page.text
    assert {image["alt"] for image in page.all("img")} == {"Fixed", "Moving"}
    assert "rrl-register apply" not in page.text
    assert not page.all("canvas")


def test_the_page_of_a_registration_that_did_not_start_shows_the_image_that_can_be_read(
    case: ReportInput, tmp_path: Path
) -> None:
    gone = ReportInput(case.fixed, tmp_path / "gone.tif", None, failure="there is no file gone.tif; check the path")
    write_report(gone, tmp_path / "out.html")
    page = read(tmp_path / "out.html")
    assert "Registration did not start" in page.text and "gone.tif cannot be read" in page.text
    assert [image["alt"] for image in page.all("img")] == ["Fixed"]


@pytest.mark.parametrize("make", ["case", "failed"])
def test_nothing_is_loaded_and_nothing_runs_but_what_the_policy_names(
    make: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_report(request.getfixturevalue(make), tmp_path / "out.html")
    page = read(tmp_path / "out.html")
    addresses = [a[name] or "" for _, a in page.tags for name in ("src", "href") if name in a]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_names_and_reasons_are_text_never_markup(case: ReportInput) -> None:
    nasty = "</script><img src=x onerror=alert(1)>\"'&"
    config = RegisterConfig()
    odd = ReportInput(Path(f"/{nasty[9:]}"), Path("b<i>.tif"), None, config, failure=nasty)
    page = Page(report_page(odd, Pictures(None, None)))
    assert not page.all("img") and not page.all("i")
    assert "<img src=x onerror=alert(1)>" in page.text and "b<i>.tif" in page.text


def test_a_report_is_replaced_only_when_told_to(case: ReportInput, tmp_path: Path) -> None:
    output = tmp_path / "out.html"
    output.write_text("precious")
    with pytest.raises(OutputExistsError):
        write_report(case, output)
    assert output.read_text() == "precious"
    write_report(case, output, overwrite=True)
    assert read(output).all("canvas")


def test_the_same_case_gives_the_same_page(case: ReportInput, tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_report(case, tmp_path / name)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


# A batch


@pytest.fixture
def summary(case: ReportInput, tmp_path: Path) -> Summary:
    """Four scenes: registered, registered with doubt, an image that is gone, a process that died."""
    folder = tmp_path / "batch"
    folder.mkdir()
    found = case.registration
    assert found is not None

    def scene(name: str, moving: Path = case.moving) -> BatchItem:
        return BatchItem(name, case.fixed, moving)

    def done(name: str, **changes: Any) -> tuple[BatchItem, Outcome]:
        result = replace(found, **changes)
        write_json(outputs_of(name, folder)[1], result.to_json())
        return scene(name), Outcome(name, OK, seconds=3.0, figures={f: getattr(result, f) for f in FIGURES})

    write_json(folder / "gone.json", failure_record("there is no file x.tif; check the path"))
    gone = Outcome("gone", FAILED, "there is no file x.tif; check the path", 3)
    died = Outcome("died", FAILED, "the process died & <b>; try fewer --workers", 1)
    return Summary(
        folder,
        "scenes.csv",
        (
            done("good #1 & co"),
            done("doubtful", confidence=0.6),
            (scene("gone", tmp_path / "x.tif"), gone),
            (scene("died"), died),
        ),
    )


def ids(page: Page) -> list[str | None]:
    return [row["data-id"] for row in page.all("tr") if "data-id" in row]


def test_a_batch_report_lists_the_worst_first_and_links_to_each(summary: Summary) -> None:
    output = write_batch_report(summary)
    page = read(output)
    assert output == summary.folder / "report.html"
    assert ids(page) == ["died", "gone", "doubtful", "good #1 & co"]
    links = [a["href"] or "" for a in page.all("a") if (a["href"] or "").startswith("reports/")]
    assert links == [
        "reports/died.html",
        "reports/gone.html",
        "reports/doubtful.html",
        "reports/good%20%231%20%26%20co.html",
    ]
    assert len([image for image in page.all("img") if (image["src"] or "").startswith("data:image/webp")]) == 4
    assert "The process died & <b>." in page.text and not page.all("b")[5:]
    own = read(summary.folder / "reports" / "died.html")
    assert "../report.html" in [a["href"] for a in own.all("a")]
    assert "Registration did not start" in own.text


def test_reports_that_are_newer_than_their_results_are_kept(summary: Summary) -> None:
    write_batch_report(summary)
    kept = summary.folder / "reports" / "doubtful.html"
    kept.write_text("kept")
    write_batch_report(summary)
    assert kept.read_text() == "kept"
    result = outputs_of("doubtful", summary.folder)[1]
    later = kept.stat().st_mtime_ns + 10**9
    os.utime(result, ns=(later, later))
    write_batch_report(summary)
    assert kept.read_text() != "kept"


def test_a_scene_whose_images_are_gone_is_listed_without_a_report(summary: Summary) -> None:
    scene, outcome = summary.pairs[0]
    lost = replace(scene, moving=scene.moving.with_name("lost.tif"))
    page = read(write_batch_report(replace(summary, pairs=((lost, outcome),))))
    assert ids(page) == ["good #1 & co"]
    assert not [a for a in page.all("a") if (a["href"] or "").startswith("reports/")]


def test_many_thumbnails_are_files_of_their_own(summary: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_page, "MAX_INLINE", 3)
    monkeypatch.setattr(batch_page, "ROWS_SHOWN", 2)
    page = read(write_batch_report(summary))
    assert page.all("img")[0]["src"] == "reports/died.webp"
    assert all(image["loading"] == "lazy" for image in page.all("img"))
    rows = [row for row in page.all("tr") if "data-id" in row]
    assert ["hidden" in row for row in rows] == [False, False, True, True]
    source = (summary.folder / "report.html").read_text()
    assert re.search(r"img-src &#39;self&#39; file: data:", source)
