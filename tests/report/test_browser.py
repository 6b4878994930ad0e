"""The pages in a real browser: they move, sort and filter, complain of nothing and load nothing."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from rrl_register.batch.journal import FAILED, FIGURES, OK, Outcome, Summary
from rrl_register.batch.manifest import BatchItem
from rrl_register.exchange.registration import Registration
from rrl_register.raster.writer import write_json
from rrl_register.report import batch_page, write_batch_report, write_report
from rrl_register.report.inputs import ReportInput

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
GOOD, BAD = "<b>good & #1", "bad"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium; the tests are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed; `make browser` tries to")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file and holds it, at the end, to have complained of nothing and asked for nothing."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: Path, may_load: tuple[str, ...] = (), **options: object) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        allowed = (path.as_uri(), "data:", *may_load)
        page.on("request", lambda r: None if r.url.startswith(allowed) else complaints.append(f"request: {r.url}"))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def case(make_raster: Callable[..., Path], make_registration: Callable[..., Registration]) -> ReportInput:
    """A bright image on a dark one, 1 px off: whichever is shown is plain to see."""
    rng = np.random.default_rng(0)
    bright, dark = rng.integers(180, 255, (200, 200), np.uint8), rng.integers(1, 60, (200, 200), np.uint8)
    bright[:10], dark[:10] = 1, 255  # so that the stretch leaves them as they are
    found = make_registration(matrix=np.array([[1.0, 0, 1], [0, 1, 0.5], [0, 0, 1]]))
    return ReportInput(make_raster(bright, "bright <i>.tif"), make_raster(dark, "dark.tif"), found)


@pytest.fixture
def report(case: ReportInput, tmp_path: Path) -> Path:
    write_report(case, tmp_path / "out.html")
    return tmp_path / "out.html"


def state(page: Page, name: str) -> str:
    """What the viewer says of itself, once it has drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return str(page.get_attribute("#viewer", f"data-{name}"))


def drawn(page: Page) -> np.ndarray:
    """What the canvas shows."""
    state(page, "mode")
    address = page.evaluate("document.getElementById('stage').toDataURL()")
    return cv2.imdecode(np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8), cv2.IMREAD_GRAYSCALE)


def drag(page: Page, start: float, end: float) -> None:
    """From one share of the canvas's width to another."""
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + start * box["width"], box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], box["y"] + box["height"] * 0.4, steps=3)
    page.mouse.up()


def test_the_swipe_moves_with_mouse_and_keyboard(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report, viewport={"width": 420, "height": 900})
    assert state(page, "swipe") == "0.500"
    drag(page, 0.5, 0.8)
    dragged = float(state(page, "swipe"))
    assert dragged > 0.7
    assert page.input_value("#swipe") == str(round(100 * dragged))
    page.focus("#stage")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert float(state(page, "swipe")) == pytest.approx(dragged - 0.1, abs=0.002)
    page.focus("#swipe")
    page.keyboard.press("Home")
    assert state(page, "swipe") == "0.000"
    page.keyboard.press("ArrowRight")
    assert state(page, "swipe") == "0.010"


def test_each_way_to_compare_shows_what_it_says(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report, viewport={"width": 420, "height": 900})
    page.evaluate("Promise.all(Array.from(document.images, image => image.decode()))")
    left, right = np.array_split(drawn(page), 2, axis=1)
    assert left.mean() > right.mean() + 40
    page.check("[value=checks]", force=True)
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert (state(page, "mode"), state(page, "checks")) == ("checks", "9")
    page.check("[value=flicker]", force=True)
    page.click("#flip")
    assert page.inner_text("#play") == "Play"
    shown = {state(page, "shown")}
    page.focus("#stage")
    page.keyboard.press("ArrowRight")
    assert shown | {state(page, "shown")} == {"fixed", "aligned"}


def test_flicker_goes_by_itself_until_it_is_stopped(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report)
    page.check("[value=flicker]", force=True)
    page.wait_for_selector("#viewer[data-shown=aligned]")
    page.wait_for_selector("#viewer[data-shown=fixed]")
    page.focus("#stage")
    page.keyboard.press("Space")
    assert page.get_attribute("#play", "aria-pressed") == "false"


def test_nothing_flickers_for_those_who_asked_for_less_motion(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report, reduced_motion="reduce")
    page.check("[value=flicker]", force=True)
    assert page.inner_text("#play") == "Play"


def test_zoom_and_pan(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report, viewport={"width": 900, "height": 900})
    page.click("#zoom-in")
    assert state(page, "zoom") == "1.500"
    page.focus("#stage")
    page.keyboard.press("+")
    assert state(page, "zoom") == "2.250"
    page.hover("#stage")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    assert float(state(page, "zoom")) > 4
    page.check("[value=flicker]", force=True)
    page.click("#flip")
    before = drawn(page)
    drag(page, 0.6, 0.3)
    assert not np.array_equal(drawn(page), before)
    page.click("#fit")
    assert state(page, "zoom") == "1.000"


def test_tie_points_and_arrows_are_drawn_and_described(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report, viewport={"width": 420, "height": 900})
    pictures = [drawn(page)]
    for box_id in ("#points", "#arrows"):
        page.check(box_id)
        pictures.append(drawn(page))
    assert not any(np.array_equal(one, other) for one, other in pairwise(pictures))
    assert page.inner_text("#arrow-scale").endswith("px")
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 150.5 / 200, box["y"] + box["height"] * 30.5 / 200)
    assert "(150.0, 30.0), residual 1.12 px" in page.inner_text("#tip")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["ok", "failed", "batch"])
def test_pages_fit_a_phone_and_wear_both_colours(
    visit: Callable[..., Page], case: ReportInput, batch: Path, tmp_path: Path, kind: str, scheme: str
) -> None:
    shown = batch
    if kind != "batch":
        shown, found = tmp_path / "phone.html", case.registration
        assert found is not None
        refused = replace(found, status="failed", reason="too dark: try other bands", matrix=None)
        write_report(case if kind == "ok" else replace(case, registration=refused), shown)
    page = visit(shown, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
    assert (int(paper[0]) > 128) == (scheme == "light")


def test_focus_is_seen_and_goes_through_the_viewer_in_order(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report)
    order = []
    for _ in range(9):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.value || 'skip'"))
        assert page.evaluate("(e => e.matches(':focus-visible'))(document.activeElement)")
    assert order[:7] == ["skip", "swipe", "swipe", "zoom-out", "zoom-in", "fit", "stage"]


@pytest.fixture
def batch(case: ReportInput, tmp_path: Path) -> Path:
    """Two scenes, one of them with a name that looks like markup."""
    folder = tmp_path / "batch"
    folder.mkdir()
    found = case.registration
    assert found is not None
    pairs = []
    for name, result in ((GOOD, found), (BAD, replace(found, status="failed", reason="too dark", matrix=None))):
        # Such an id is refused in a manifest; the page must not rely on that.
        write_json(folder / f"{name}.json", result.to_json())
        figures = {figure: getattr(result, figure) for figure in FIGURES}
        status, code = (OK, 0) if result.matrix is not None else (FAILED, 4)
        outcome = Outcome(name, status, result.reason, code, 9.0 if status == OK else 1.0, figures)
        pairs.append((BatchItem(name, case.fixed, case.moving), outcome))
    return write_batch_report(Summary(folder, "scenes.csv", tuple(pairs)))


EVIL = "<img src=x onerror=alert(1)>\"' {{ 7 * 7 }}</script><script>alert(2)</script> \u202efdp.exe\x1b[2J\udcff &amp;"
SEEN = EVIL.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b").replace("\udcff", "\\udcff")


def test_names_and_reasons_are_text_whatever_they_hold(
    visit: Callable[..., Page], case: ReportInput, tmp_path: Path
) -> None:
    found = case.registration
    assert found is not None
    folder = tmp_path / "evil"
    folder.mkdir()
    name = EVIL.replace("/", "|").replace("\udcff", "")
    images = [path.rename(tmp_path / f"{which}{name}.tif") for which, path in (("F", case.fixed), ("M", case.moving))]
    refused = replace(found, status="failed", reason=EVIL, matrix=None, model=EVIL, weights=EVIL, device=EVIL)
    for result in (replace(found, model=EVIL, weights=EVIL, device=EVIL), refused):
        write_report(replace(case, fixed=images[0], moving=images[1], registration=result), folder / "one.html", True)
        page = visit(folder / "one.html")
        shown = page.inner_text("body")
        assert SEEN.replace("/", "|").replace(r"\udcff", "") in shown
        assert result is not refused or SEEN in shown
        assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0
        assert not set(shown) & set("\u202e\x1b\ufffd")
    outcome = Outcome(EVIL, FAILED, EVIL, 4, 1.0, {**dict.fromkeys(FIGURES), "model": EVIL})
    index = folder / "index.html"
    summary = Summary(folder, EVIL, ((BatchItem(EVIL, *images), outcome),))
    index.write_text(batch_page.list_page(summary), encoding="utf-8")
    page = visit(index)
    assert page.locator("#scenes tbody th").inner_text().strip() == SEEN
    assert page.evaluate("document.querySelectorAll('[onerror]').length") == 0


def test_a_name_from_right_to_left_moves_nothing_beside_it(
    visit: Callable[..., Page], case: ReportInput, tmp_path: Path
) -> None:
    fixed = case.fixed.rename(tmp_path / "\u05e9\u05dc\u05d5\u05dd.tif")
    write_report(replace(case, fixed=fixed), tmp_path / "page.html")
    page = visit(tmp_path / "page.html")
    for text in ("h1", "figcaption"):
        assert page.evaluate(f"getComputedStyle(document.querySelector('{text} bdi')).unicodeBidi") == "isolate"


def shown_ids(page: Page) -> list[str]:
    return [text.strip() for text in page.locator("#scenes tbody tr:visible th").all_inner_texts()]


def test_a_batch_is_sorted_and_filtered(visit: Callable[..., Page], batch: Path) -> None:
    page = visit(batch)
    assert shown_ids(page) == [BAD, GOOD]
    page.focus("[data-sort=seconds]")
    page.keyboard.press("Enter")
    assert shown_ids(page) == [BAD, GOOD]
    page.keyboard.press("Enter")
    assert shown_ids(page) == [GOOD, BAD]
    assert page.get_attribute("th:has([data-sort=seconds])", "aria-sort") == "descending"
    page.fill("#filter", "DARK")
    assert (shown_ids(page), page.inner_text("#count")) == ([BAD], "1 of 2")
    page.fill("#filter", "")
    page.select_option("#state", "good")
    assert shown_ids(page) == [GOOD]
    page.fill("#filter", "nothing of the kind")
    assert page.is_visible("#none")


def test_a_scene_leads_to_its_report_and_back(visit: Callable[..., Page], batch: Path) -> None:
    page = visit(batch, may_load=((batch.parent / "reports").as_uri(),))
    page.click("#scenes tbody tr:nth-child(2) a")
    page.wait_for_selector("#stage")
    page.click(".back a")
    page.wait_for_selector("#scenes")


def test_more_scenes_are_shown_when_asked_for_and_their_pictures_loaded(
    visit: Callable[..., Page], case: ReportInput, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_page, "ROWS_SHOWN", 1)
    monkeypatch.setattr(batch_page, "MAX_INLINE", 1)
    outcome = Outcome(BAD, FAILED, "too dark", 4)
    scenes = [(BatchItem(BAD, case.fixed, case.moving), replace(outcome, id=BAD))] * 2
    batch.write_text(batch_page.list_page(Summary(batch.parent, "scenes.csv", tuple(scenes))), encoding="utf-8")
    page = visit(batch, may_load=((batch.parent / "reports").as_uri(),))
    assert len(shown_ids(page)) == 1
    assert page.evaluate("document.querySelector('.thumb img').decode().then(() => true)")
    page.click("#more")
    assert len(shown_ids(page)) == 2
    assert not page.is_visible("#more")
