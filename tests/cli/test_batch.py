"""``rrl-register batch``: what it asks of the package, what it says, how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rrl_register.batch import Manifest, Outcome, Progress, Summary, running
from rrl_register.batch.executors import in_turn
from rrl_register.batch.journal import FAILED, OK
from rrl_register.cli import main
from rrl_register.cli.batch import INTERRUPTED, _watch
from rrl_register.cli.progress import Bar
from rrl_register.config import BatchConfig, Kind, ModelChoice
from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.errors import OutputExistsError


class Desk:
    """A folder with images and a manifest, and a batch whose scenes are done by a word."""

    def __init__(self, folder: Path, true_run: Callable[..., Summary]) -> None:
        self.folder = folder
        self.calls: list[tuple[Manifest, Path, BatchConfig]] = []
        self.trouble: BaseException | None = None
        self.failing: set[str] = set()
        self._true_run = true_run
        for name in ("ref.tif", "opt/a.tif", "opt/b.tif", "sar/a_sar.tif", "sar/b_sar.tif"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        self.write("items.json", json.dumps({"type": "FeatureCollection", "features": [_item("a"), _item("b")]}))
        self.write("scenes.csv", "id,fixed,moving\na,opt/a.tif,sar/a_sar.tif\nb,opt/b.tif,sar/b_sar.tif\n")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def run_batch(
        self, manifest: Manifest, folder: Path, config: BatchConfig, watch: Callable[[Progress], None]
    ) -> Summary:
        self.calls.append((manifest, folder, config))
        if self.trouble:
            raise self.trouble
        return self._true_run(manifest, folder, config, executor=in_turn(self.work), watch=watch)

    def work(self, scene: Any) -> Outcome:
        if scene.id in self.failing:
            return Outcome(scene.id, FAILED, "no overlap; try another", 3)
        figures = {"model": "affine", "n_inliers": 30, "check_rmse_px": 0.5, "confidence": 0.9}
        return Outcome(scene.id, OK, seconds=2.0, figures=figures)

    def run(self, *arguments: str) -> Result:
        words = [word.replace("@", str(self.folder)) for argument in arguments for word in argument.split()]
        return CliRunner().invoke(main, ["batch", *words])


def _item(name: str) -> dict[str, Any]:
    where = {"geometry": {"type": "Point", "coordinates": [8.0, 47.0]}, "bbox": [8.0, 47.0, 8.0, 47.0]}
    assets = {"red": {"href": f"opt/{name}.tif"}, "vv": {"href": f"sar/{name}_sar.tif"}}
    rest = {"properties": {"datetime": "2026-05-03T00:00:00Z"}, "links": [], "stac_version": "1.0.0"}
    return {"type": "Feature", "id": name, "assets": assets, **where, **rest}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = Desk(tmp_path, running.run_batch)
    monkeypatch.setattr(running, "run_batch", made.run_batch)
    return made


def test_the_summary_is_printed_and_the_rest_told_apart(desk: Desk) -> None:
    result = desk.run("@/scenes.csv -o @/out")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{desk.folder / 'out' / 'summary.json'}\n"
    header, *rows = result.stderr.splitlines()
    assert " ".join(header.split()) == "id status model inliers check px confidence seconds reason"
    assert [row.split() for row in rows] == [[name, "ok", "affine", "30", "0.50", "0.90", "2.00"] for name in "ab"]


def test_a_failure_is_told_and_gives_exit_code_4(desk: Desk) -> None:
    desk.failing = {"b"}
    result = desk.run("@/scenes.csv -o @/out")
    assert result.exit_code == 4
    assert result.stdout.splitlines() == [str(desk.folder / "out" / "summary.json")]
    assert "no overlap; try another" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: 1 of 2 scenes could not be registered (b);")
    written = json.loads((desk.folder / "out" / "summary.json").read_text())
    assert written["counts"] == {"total": 2, "ok": 1, "failed": 1}


def test_a_report_is_written_where_it_is_asked_for(desk: Desk) -> None:
    desk.failing = {"b"}
    result = desk.run("@/scenes.csv -o @/out --report")
    assert result.exit_code == 4
    assert result.stdout.split() == [str(desk.folder / "out" / name) for name in ("summary.json", "report.html")]
    page = (desk.folder / "out" / "report.html").read_text()
    assert page.index('data-id="b"') < page.index('data-id="a"')
    assert "No overlap." in (desk.folder / "out" / "reports" / "b.html").read_text()


def test_quiet_says_nothing_but_errors(desk: Desk) -> None:
    assert desk.run("@/scenes.csv -o @/out -q").stderr == ""
    desk.failing = {"b"}
    assert desk.run("@/scenes.csv -o @/out2 -q").stderr.count("\n") == 1


def test_verbose_tells_every_scene(desk: Desk) -> None:
    desk.failing = {"b"}
    lines = desk.run("@/scenes.csv -o @/out -v").stderr.splitlines()
    assert lines[:2] == ["a: registered (2.0 s)", "b: failed: no overlap; try another (0.0 s)"]


def test_settings_reach_the_batch(desk: Desk) -> None:
    desk.run("@/scenes.csv -o @/out --workers 3 --overwrite")
    desk.run("@/scenes.csv -o @/out --resume")
    desk.run("@/scenes.csv -o @/out --retry-failed")
    desk.run("@/scenes.csv -o @/out --resume --scheduler tcp://head:8786")
    assert [config for _, _, config in desk.calls] == [
        BatchConfig(workers=3, overwrite=True),
        BatchConfig(resume=True),
        BatchConfig(retry_failed=True),
        BatchConfig(resume=True, scheduler="tcp://head:8786"),
    ]


def test_options_of_register_hold_for_all_scenes_that_do_not_differ(desk: Desk) -> None:
    desk.write("scenes.csv", "id,fixed,moving,model\na,f.tif,m.tif,affine\nb,f.tif,n.tif,\n")
    desk.run("@/scenes.csv -o @/out --moving-kind sar --model similarity")
    one, other = (scene.config for scene in desk.calls[0][0].scenes)
    assert (one.read.moving_kind, one.estimate.model) == (Kind.SAR, ModelChoice.AFFINE)
    assert (other.read.moving_kind, other.estimate.model) == (Kind.SAR, ModelChoice.SIMILARITY)


@pytest.mark.parametrize(
    "arguments",
    [
        "@/scenes.csv",
        "--fixed @/opt/{id}.tif --moving @/sar/{id}_sar.tif",
        "@/items.json --fixed-asset red --moving-asset vv",
        "@/items.json --fixed @/items.json --fixed-asset red --moving-asset vv",
    ],
)
def test_all_sources_name_the_same_scenes(desk: Desk, arguments: str) -> None:
    assert desk.run(arguments, "-o @/out").exit_code == 0
    assert [(s.id, s.fixed, s.moving) for s in desk.calls[0][0].scenes] == [
        (name, desk.folder / f"opt/{name}.tif", desk.folder / f"sar/{name}_sar.tif") for name in "ab"
    ]


@pytest.mark.parametrize("arguments", ["@/series.csv", "--moving @/sar/{id}_sar.tif", "@/items.json --moving-asset vv"])
def test_a_series_goes_onto_one_reference(desk: Desk, arguments: str) -> None:
    desk.write("series.csv", "id,moving\na,sar/a_sar.tif\nb,sar/b_sar.tif\n")
    assert desk.run(arguments, "--fixed @/ref.tif -o @/out").exit_code == 0
    assert {scene.fixed for scene in desk.calls[0][0].scenes} == {desk.folder / "ref.tif"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-o @/out", "Pass either MANIFEST"),
        ("@/scenes.csv", "--output"),
        ("@/nowhere.csv -o @/out", "nowhere.csv"),
        ("@/scenes.csv --moving @/sar/{id}_sar.tif -o @/out", "Pass either MANIFEST"),
        ("@/scenes.csv --fixed @/opt/{id}.tif -o @/out", "must be one image for all scenes"),
        ("@/scenes.csv --fixed @/nowhere.tif -o @/out", "does not exist"),
        ("@/scenes.csv --weights @/nowhere.safetensors -o @/out", "does not exist"),
        ("--moving @/sar/{id}_sar.tif -o @/out", "Pass either MANIFEST"),
        ("--fixed @/ref.tif --moving @/sar/a_sar.tif -o @/out", "has no {id}"),
        ("--fixed @/ref.tif --moving @/nir/{id}.tif -o @/out", "No file matches"),
        ("@/scenes.csv -o @/out --workers 0", "--workers"),
        ("@/scenes.csv -o @/out --resume --overwrite", "choose"),
        ("@/scenes.csv -o @/out --support 65", "--support"),
        ("@/scenes.csv -o @/out --scheduler tcp://head:8786 --workers 2", "--workers are processes of this machine"),
        ("@/scenes.csv -o @/out --moving-asset vv", "Assets need STAC items (.json), not "),
        ("--fixed @/ref.tif --moving @/sar/{id}_sar.tif --fixed-asset red -o @/out", "not --moving"),
        ("@/items.json -o @/out", "--moving-asset is missing"),
        ("@/items.json --moving-asset vv -o @/out", "pass --fixed-asset KEY"),
        ("@/scenes.csv -o @/ref.tif", "Cannot make the output folder"),
    ],
)
def test_wrong_use_is_told_in_one_line(desk: Desk, arguments: str, said: str) -> None:
    result = desk.run(arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert not (desk.folder / "out").exists()


def test_what_exists_is_kept(desk: Desk) -> None:
    desk.trouble = OutputExistsError("Output a.tif exists; choose another folder or pass --overwrite")
    result = desk.run("@/scenes.csv -o @/out")
    assert (result.exit_code, result.stderr) == (
        5,
        "Error: Output a.tif exists; choose another folder or pass --overwrite\n",
    )


def test_ctrl_c_tells_how_to_go_on(desk: Desk) -> None:
    desk.trouble = KeyboardInterrupt()
    result = desk.run("@/scenes.csv -o @/out")
    assert result.exit_code == INTERRUPTED
    assert result.stderr.splitlines()[-1].startswith("Interrupted;")
    assert "--resume" in result.stderr


def test_help_names_every_option_of_register(desk: Desk) -> None:
    text = desk.run("--help").output
    assert all(option.flag in text for option in CONFIG_OPTIONS)
    assert "--resume" in text


STEPS = [Progress(4, 1, 0), Progress(4, 2, 1, 1, 30.0, Outcome("b", FAILED, "no", 3)), Progress(4, 3, 1, 2, 60.0)]


class BarStub(Bar):
    """A bar that keeps its texts."""

    def __init__(self) -> None:
        super().__init__(4, "", None)
        self.shown: list[tuple[int, str]] = []

    def show(self, finished: int, text: str) -> None:
        self.shown.append((finished, text))


def test_the_bar_shows_scenes_failures_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    bar = BarStub()
    report = _watch(bar, every_scene=False)
    for step in STEPS:
        report(step)
    assert bar.shown == [
        (1, "scenes, 0 failed"),
        (2, "scenes, 1 failed, 2.0 a minute"),
        (3, "scenes, 1 failed, 2.0 a minute"),
    ]
    assert capsys.readouterr() == ("", "")


def test_every_scene_is_printed_to_stderr_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    report = _watch(BarStub(), every_scene=True)
    for step in STEPS:
        report(step)
    assert capsys.readouterr() == ("", "b: failed: no (0.0 s)\n")


def test_without_a_terminal_a_batch_prints_its_table_only(desk: Desk) -> None:
    lines = desk.run("@/scenes.csv -o @/out").stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["id", "a", "b"]
