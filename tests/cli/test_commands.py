"""The command line: what it asks of the package, what it says, what it leaves behind, how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import rrl_register.report  # noqa: F401  # the true one, before the modules that it builds on are replaced
from rrl_register.cli import main
from rrl_register.config import (
    Crop,
    Device,
    Effort,
    Kind,
    ModelChoice,
    OutputGrid,
    RasterFormat,
    RegisterConfig,
    Resampling,
)
from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.errors import InputError
from rrl_register.exchange.registration import Registration

OPTIONS = [
    ("--fixed-kind sar", "read.fixed_kind", Kind.SAR),
    ("--moving-kind ir", "read.moving_kind", Kind.IR),
    ("--fixed-bidx 3,2,1", "read.fixed_bands", (3, 2, 1)),
    ("--moving-bidx 4", "read.moving_bands", (4,)),
    ("--no-alpha", "read.no_alpha", True),
    ("--max-shift 500m", "match.max_shift", "500m"),
    ("--max-shift 12.5px", "match.max_shift", "12.5px"),
    ("--rotation none", "match.rotation", "none"),
    ("--rotation -90", "match.rotation", "-90"),
    ("--scale 0.5", "match.scale", "0.5"),
    ("--max-side 1024", "read.max_side", 1024),
    ("--candidates 3", "match.n_candidates", 3),
    ("--threshold 2", "estimate.threshold", 2.0),
    ("--min-inliers 20", "estimate.min_inliers", 20),
    ("--block-size 256", "warp.block_size", 256),
    ("--init-points {weights}", "match.init_points", None),
    ("--support 96", "match.support", 96),
    ("--keypoints 800", "match.n_keypoints", 800),
    ("--effort thorough", "match.effort", Effort.THOROUGH),
    ("--min-score 0", "match.min_score", 0.0),
    ("--device cuda", "match.device", Device.CUDA),
    ("--weights {weights}", "match.weights", None),
    ("--model similarity", "estimate.model", ModelChoice.SIMILARITY),
    ("--seed 7", "estimate.seed", 7),
    ("--resampling nearest", "warp.resampling", Resampling.NEAREST),
    ("--grid moving", "warp.grid", OutputGrid.MOVING),
    ("--grid {weights}", "warp.grid", None),
    ("--crop overlap", "warp.crop", Crop.OVERLAP),
    ("--crop union", "warp.crop", Crop.UNION),
    ("--format cog", "warp.format", RasterFormat.COG),
    ("--overviews", "warp.overviews", True),
    ("--gcps-only", "warp.gcps_only", True),
    ("--nodata -9999", "warp.nodata", -9999.0),
    ("--threads 3", "warp.threads", 3),
    ("--co COMPRESS=ZSTD --co NAME=A=B", "warp.creation_options", (("COMPRESS", "ZSTD"), ("NAME", "A=B"))),
    ("--max-memory 512MiB", "resources.max_memory", 512 * 1024**2),
]
WRONG_VALUES = [
    "--max-shift 80",
    "--max-shift 0px",
    "--max-shift -5m",
    "--support 65",
    "--keypoints 3",
    "--min-score 1.5",
    "--fixed-kind OPTICAL2",
    "--fixed-bidx 0",
    "--fixed-bidx 1;2",
    "--crop all",
    "--format png",
    "--co COMPRESS",
    "--co =ZSTD",
    "--max-memory much",
    "--max-memory 1GiB/s",
    "--max-memory -1GiB",
    "--model rigid",
    "--seed -1",
    "--min-inliers 3",
    "--block-size 100",
    "--nodata none",
    "--no-such-option",
    "third-file",
]


class Desk:
    """A folder with two inputs, and a pipeline that notes what it is asked for instead of matching."""

    def __init__(self, folder: Path, answer: Registration | BaseException) -> None:
        self.folder = folder
        self.calls: list[tuple[Path, Path, RegisterConfig]] = []
        self.warps: list[tuple[Any, ...]] = []
        self.answer = answer
        self.grids_checked = 0
        for name in ("fixed.tif", "moving.tif", "weights.safetensors"):
            self.path(name).write_bytes(name.encode())

    def path(self, name: str) -> Path:
        return self.folder / name

    def register(self, fixed: Path, moving: Path, config: RegisterConfig, *, watch: Any, similarity: bool) -> Any:
        watch("load")
        self.calls.append((fixed, moving, config))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def apply_transform(
        self, registration: Registration, image: Path, output: Path, config: Any, overwrite: bool
    ) -> None:
        self.warps.append((registration, image, config, overwrite))
        output.write_text("aligned")

    def require_writable_grid(self, fixed: Path, config: Any) -> None:
        self.grids_checked += 1

    def run(self, *arguments: str) -> Result:
        """Call the command line; {fixed}, {json} and the like stand for files on the desk."""
        names = {
            "fixed": "fixed.tif",
            "moving": "moving.tif",
            "out": "out.tif",
            "json": "result.json",
            "png": "preview.png",
            "html": "report.html",
            "weights": "weights.safetensors",
        }
        known = {key: str(self.path(name)) for key, name in names.items()}
        words = [word.format(**known) for argument in arguments for word in argument.split()]
        return CliRunner().invoke(main, words)

    def leftovers(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"fixed.tif", "moving.tif", "weights.safetensors"}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_registration: Callable[..., Registration]) -> Desk:
    made = Desk(tmp_path, make_registration())
    monkeypatch.setattr("rrl_register.pipeline.register.register", made.register)
    monkeypatch.setattr("rrl_register.exchange.registration.apply_transform", made.apply_transform)
    monkeypatch.setattr("rrl_register.warping.apply.require_writable_grid", made.require_writable_grid)
    return made


def flat(config: RegisterConfig) -> dict[str, Any]:
    return {
        f"{section}.{field}": value for section, fields in asdict(config).items() for field, value in fields.items()
    }


@pytest.mark.parametrize(("option", "field", "value"), OPTIONS, ids=[option for option, *_ in OPTIONS])
def test_every_option_changes_exactly_its_own_field(desk: Desk, option: str, field: str, value: object) -> None:
    result = desk.run("{fixed} {moving} -o {out}", option)
    assert result.exit_code == 0, result.output
    default, given = flat(RegisterConfig()), flat(desk.calls[0][2])
    expected = desk.path("weights.safetensors") if value is None else value
    assert {name: given[name] for name in given if given[name] != default[name]} == {field: expected}
    assert type(given[field]) is type(expected)


def test_every_field_has_a_flag() -> None:
    with_flag = {f"{option.section}.{option.field}" for option in CONFIG_OPTIONS}
    assert {field for _, field, _ in OPTIONS} == with_flag == set(flat(RegisterConfig()))


def test_without_options_the_defaults_hold(desk: Desk) -> None:
    desk.run("{fixed} {moving} -o {out}")
    assert desk.calls == [(desk.path("fixed.tif"), desk.path("moving.tif"), RegisterConfig())]


@pytest.mark.parametrize(
    "arguments", ["{fixed} {moving} -o {out}", "-o {out} {fixed} {moving}", "register {fixed} {moving} -o {out}"]
)
def test_the_verb_register_may_be_left_out(desk: Desk, arguments: str) -> None:
    assert desk.run(arguments).exit_code == 0
    assert len(desk.calls) == 1


def test_the_moving_image_is_warped_and_every_path_printed(desk: Desk) -> None:
    result = desk.run("{fixed} {moving} -o {out} --json {json} --resampling nearest")
    assert result.exit_code == 0
    assert result.stdout.split() == [str(desk.path("result.json")), str(desk.path("out.tif"))]
    assert "homography: 3 inliers of 5 tie points" in result.stderr
    config = replace(RegisterConfig().warp, resampling=Resampling.NEAREST)
    assert desk.warps == [(desk.answer, desk.path("moving.tif"), config, False)]
    assert json.loads(desk.path("result.json").read_text()) == desk.answer.to_json()


def test_json_alone_writes_no_raster(desk: Desk) -> None:
    assert desk.run("{fixed} {moving} --json {json}").exit_code == 0
    assert desk.leftovers() == {"result.json"}


@pytest.mark.parametrize(("option", "times"), [("", 0), ("--grid {weights}", 1), ("--gcps-only", 1)])
def test_georeferences_that_the_output_needs_are_asked_for_before_the_work(desk: Desk, option: str, times: int) -> None:
    desk.run("{fixed} {moving} -o {out}", option)
    assert desk.grids_checked == times


def test_quiet_prints_the_paths_only(desk: Desk) -> None:
    result = desk.run("{fixed} {moving} -o {out} -q")
    assert result.output.strip() == str(desk.path("out.tif"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("{fixed} nowhere.tif -o {out}", 2, "File nowhere.tif"),
        ("nowhere.tif {moving} -o {out}", 2, "File nowhere.tif"),
        ("{fixed} {fixed} -o {out}", 2, "the same file"),
        ("{fixed} {moving}", 2, "Neither -o nor --json"),
        ("{fixed} -o {out}", 2, "MOVING"),
        ("{fixed} {moving} -o no/folder/out.tif", 2, "no/folder does not exist"),
        ("{fixed} {moving} -o {moving} --overwrite", 2, "the input"),
        ("{fixed} {moving} -o {out} --json {out}", 2, "the same name"),
        ("{fixed} {moving} -o {out} --weights nowhere.safetensors", 2, "File nowhere.safetensors"),
        ("{fixed} {moving} -o {out} --grid nowhere.tif", 2, "File nowhere.tif"),
        ("{fixed} {moving} -o {weights} --grid {weights} --overwrite", 2, "the input"),
        ("{fixed} {moving} -o {weights} --weights {weights} --overwrite", 2, "the input"),
        *((f"{{fixed}} {{moving}} -o {{out}} {wrong}", 2, wrong.split()[0]) for wrong in WRONG_VALUES),
    ],
)
def test_wrong_use_is_told_in_one_line_before_any_work(desk: Desk, arguments: str, code: int, said: str) -> None:
    result = desk.run(arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert_one_line(result, said)
    assert not desk.calls
    assert not desk.leftovers()


def test_two_names_of_one_file_are_the_same_file(desk: Desk) -> None:
    desk.path("link.tif").symlink_to(desk.path("fixed.tif"))
    result = desk.run("{fixed}", str(desk.path("link.tif")), "-o {out}")
    assert result.exit_code == 2
    assert_one_line(result, "the same file")


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("out.tif", "-o {out}"),
        ("result.json", "--json {json}"),
        ("preview.png", "--preview {png}"),
        ("report.html", "--report {html}"),
    ],
)
def test_an_output_that_exists_is_kept_unless_told_otherwise(desk: Desk, name: str, flag: str) -> None:
    desk.path(name).write_text("precious")
    rest = "" if name in ("out.tif", "result.json") else "-o {out}"
    result = desk.run("{fixed} {moving}", flag, rest)
    assert result.exit_code == 5
    assert_one_line(result, "--overwrite")
    assert desk.path(name).read_text() == "precious"
    assert not desk.calls


def test_overwrite_replaces(desk: Desk) -> None:
    for name in ("out.tif", "result.json"):
        desk.path(name).write_text("old")
    assert desk.run("{fixed} {moving} -o {out} --json {json} --overwrite").exit_code == 0
    assert desk.path("out.tif").read_text() == "aligned"
    assert json.loads(desk.path("result.json").read_text())["status"] == "ok"


def test_a_failed_registration_leaves_json_and_no_raster(desk: Desk) -> None:
    reason = "5 tie points were found, 12 are needed; try --max-shift 200px"
    desk.answer = replace(desk.answer, status="failed", reason=reason, matrix=None)
    result = desk.run("{fixed} {moving} -o {out} --json {json}")
    assert result.exit_code == 4
    assert_one_line(result, "5 tie points were found")
    assert desk.leftovers() == {"result.json"}
    assert result.stdout.split() == [str(desk.path("result.json"))]


def test_an_unusable_input_is_written_down_too(desk: Desk) -> None:
    complete = desk.answer.to_json()
    desk.answer = InputError("fixed.tif is no image;\nneeded a raster; try another file")
    result = desk.run("{fixed} {moving} -o {out} --json {json}")
    assert result.exit_code == 3
    assert_one_line(result, "fixed.tif is no image; needed a raster")
    written = json.loads(desk.path("result.json").read_text())
    assert set(written) == set(complete)
    assert (written["schema"], written["status"], written["matrix"]) == (2, "failed", None)
    assert "no image" in written["reason"]


def test_an_interruption_has_an_exit_code_of_its_own(desk: Desk) -> None:
    desk.answer = KeyboardInterrupt()
    result = desk.run("{fixed} {moving} -o {out} --json {json}")
    assert result.exit_code == 130
    assert_one_line(result, "Interrupted")
    assert not desk.leftovers()


def test_a_report_is_written_of_what_could_not_begin_too(desk: Desk) -> None:
    desk.answer = InputError("fixed.tif is no image; needed a raster; try another file")
    result = desk.run("{fixed} {moving} -o {out} --report {html} --support 96")
    assert result.exit_code == 3
    assert result.stdout.split() == [str(desk.path("report.html"))]
    page = desk.path("report.html").read_text()
    assert "Fixed.tif is no image." in page
    assert f"-o {desk.path('out.tif')} --json result.json --support 96" in page


def test_a_report_is_made_from_a_result_file(desk: Desk) -> None:
    failed = replace(desk.answer, status="failed", reason="too dark; try other bands", matrix=None)
    desk.path("result.json").write_text(json.dumps(failed.to_json()))
    result = desk.run("report {json} {fixed} {moving} -o {html}")
    assert (result.exit_code, result.stdout.split()) == (0, [str(desk.path("report.html"))])
    assert "Too dark." in desk.path("report.html").read_text()
    assert desk.run("report {json} {fixed} {moving} -o {html}").exit_code == 5
    desk.path("result.json").unlink()


def test_a_bug_is_not_dressed_up(desk: Desk) -> None:
    desk.answer = ZeroDivisionError("a bug")
    result = desk.run("{fixed} {moving} -o {out}")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("apply nowhere.json {moving} -o {out}", 2, "File nowhere.json"),
        ("apply {weights} nowhere.tif -o {out}", 2, "File nowhere.tif"),
        ("apply {weights} {moving}", 2, "--output"),
        ("apply {weights} {moving} -o {out} --grid nowhere.tif", 2, "File nowhere.tif"),
        ("apply {weights} {moving} -o {moving} --overwrite", 2, "the input"),
        ("apply {weights} {moving} -o {out} --support 64", 2, "--support"),
        ("report nowhere.json {fixed} {moving} -o {html}", 2, "File nowhere.json"),
        ("report {weights} {fixed} {moving} -o {html}", 3, "is no RESULT.json of a registration"),
        ("report {weights} {fixed} {moving} -o {fixed}", 2, "the input"),
    ],
)
def test_wrong_use_of_apply(desk: Desk, arguments: str, code: int, said: str) -> None:
    result = desk.run(arguments)
    assert result.exit_code == code
    assert_one_line(result, said)
    assert not desk.leftovers()


def test_help_tells_the_exit_codes() -> None:
    assert "4 not registered" in " ".join(CliRunner().invoke(main, ["--help"]).output.split())


def assert_one_line(result: Result, said: str) -> None:
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
