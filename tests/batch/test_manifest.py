"""What a manifest says, what is wrong with it, and which files fit a pattern."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rrl_register.batch import BatchItem, Manifest, match_files, read_manifest
from rrl_register.config import (
    Crop,
    Device,
    Effort,
    Kind,
    MatchConfig,
    ModelChoice,
    OutputGrid,
    RasterFormat,
    ReadConfig,
    RegisterConfig,
    Resampling,
    WarpConfig,
)
from rrl_register.config.options import CONFIG_OPTIONS
from rrl_register.errors import InputError, UsageError

VALUES = [
    ("fixed-kind", "sar", "read.fixed_kind", Kind.SAR),
    ("moving-kind", "ir", "read.moving_kind", Kind.IR),
    ("fixed-bidx", '"3,2,1"', "read.fixed_bands", (3, 2, 1)),
    ("moving-bidx", "4", "read.moving_bands", (4,)),
    ("max-shift", "500m", "match.max_shift", "500m"),
    ("rotation", "-90", "match.rotation", "-90"),
    ("scale", "0.5", "match.scale", "0.5"),
    ("init-points", "/mine.points", "match.init_points", Path("/mine.points")),
    ("support", "96", "match.support", 96),
    ("keypoints", "800", "match.n_keypoints", 800),
    ("effort", "fast", "match.effort", Effort.FAST),
    ("min-score", "0", "match.min_score", 0.0),
    ("max-side", "1024", "read.max_side", 1024),
    ("candidates", "3", "match.n_candidates", 3),
    ("threshold", "2.5", "estimate.threshold", 2.5),
    ("min-inliers", "20", "estimate.min_inliers", 20),
    ("block-size", "256", "warp.block_size", 256),
    ("device", "cuda", "match.device", Device.CUDA),
    ("weights", "/mine.safetensors", "match.weights", Path("/mine.safetensors")),
    ("model", "similarity", "estimate.model", ModelChoice.SIMILARITY),
    ("seed", "7", "estimate.seed", 7),
    ("resampling", "nearest", "warp.resampling", Resampling.NEAREST),
    ("grid", "moving", "warp.grid", OutputGrid.MOVING),
    ("grid", "/far/like.tif", "warp.grid", Path("/far/like.tif")),
    ("crop", "overlap", "warp.crop", Crop.OVERLAP),
    ("format", "cog", "warp.format", RasterFormat.COG),
    ("no-alpha", "yes", "read.no_alpha", True),
    ("overviews", "yes", "warp.overviews", True),
    ("gcps-only", "true", "warp.gcps_only", True),
    ("nodata", "-9999", "warp.nodata", -9999.0),
    ("threads", "3", "warp.threads", 3),
    ("co", "COMPRESS=ZSTD; NAME=A=B", "warp.creation_options", (("COMPRESS", "ZSTD"), ("NAME", "A=B"))),
    ("max-memory", "1.5GB", "resources.max_memory", 1_500_000_000),
]


def write(folder: Path, text: str, name: str = "scenes.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def flat(config: RegisterConfig) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, fields in asdict(config).items() for name, value in fields.items()}


def test_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path, "id,fixed,moving\na,opt/a.tif,/far/a.tif\nb,/vsizip/x.zip/b.tif,../b.tif\n")
    assert read_manifest(path).scenes == (
        BatchItem("a", tmp_path / "opt/a.tif", Path("/far/a.tif")),
        BatchItem("b", Path("/vsizip/x.zip/b.tif"), tmp_path / "../b.tif"),
    )


def test_every_option_of_register_has_an_example_here() -> None:
    assert {name for name, *_ in VALUES} == {option.name for option in CONFIG_OPTIONS}


@pytest.mark.parametrize(("column", "text", "field", "value"), VALUES, ids=[column for column, *_ in VALUES])
def test_a_column_changes_exactly_its_own_field(
    tmp_path: Path, column: str, text: str, field: str, value: object
) -> None:
    path = write(tmp_path, f"id,fixed,moving,{column}\na,f.tif,m.tif,{text}\nb,f.tif,n.tif,\n")
    changed, unchanged = (flat(scene.config) for scene in read_manifest(path).scenes)
    default = flat(RegisterConfig())
    assert unchanged == default
    assert {name: changed[name] for name in changed if changed[name] != default[name]} == {field: value}
    assert type(changed[field]) is type(value)


def test_flags_are_true_or_false_in_json_lines(tmp_path: Path) -> None:
    row = {"id": "a", "fixed": "f", "moving": "m"}
    rows = [row | {"overviews": True, "grid": "like.tif"}, row | {"id": "b", "overviews": False}]
    everywhere = RegisterConfig(warp=WarpConfig(overviews=True))
    lines = write(tmp_path, "\n".join(map(json.dumps, rows)), "scenes.jsonl")
    first, second = (scene.config.warp for scene in read_manifest(lines, everywhere).scenes)
    assert (first.overviews, first.grid, second.overviews) == (True, tmp_path / "like.tif", False)


def test_a_scene_overrides_what_holds_for_all(tmp_path: Path) -> None:
    path = write(tmp_path, "id,fixed,moving,moving-kind\na,f.tif,m.tif,ir\nb,f.tif,n.tif,\n")
    common = RegisterConfig(read=ReadConfig(moving_kind=Kind.SAR), match=MatchConfig(n_keypoints=100))
    one, other = (scene.config for scene in read_manifest(path, common).scenes)
    assert (one.read.moving_kind, other.read.moving_kind) == (Kind.IR, Kind.SAR)
    assert one.match == other.match == common.match


def test_weights_are_relative_to_the_manifest_too(tmp_path: Path) -> None:
    path = write(tmp_path, "id,fixed,moving,weights\na,f.tif,m.tif,mine.safetensors\n")
    assert read_manifest(path).scenes[0].config.match.weights == tmp_path / "mine.safetensors"


def test_spreadsheets_leave_their_marks(tmp_path: Path) -> None:
    """A byte order mark, Windows' line ends, spaces after commas, lines of commas."""
    path = write(tmp_path, "\ufeffid, fixed, moving,co\r\n\r\na , f.tif, m.tif\r\n,,,\r\n")
    assert read_manifest(path).scenes == (BatchItem("a", tmp_path / "f.tif", tmp_path / "m.tif"),)


def test_semicolons_separate_cells_if_they_do_in_the_header(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b'\xef\xbb\xbfid;fixed;moving;fixed-bidx\r\na;"x;1, b.tif";y.tif;1,2\r\n')
    (scene,) = read_manifest(tmp_path / "s.csv").scenes
    assert (scene.id, scene.fixed.name, scene.moving.name) == ("a", "x;1, b.tif", "y.tif")
    assert scene.config.read.fixed_bands == (1, 2)


def test_json_lines_say_the_same_as_csv(tmp_path: Path) -> None:
    table = 'id,fixed,moving,fixed-bidx,keypoints,co\na,f.tif,m.tif,"3,2",800,A=1;B=2\n7,f.tif,n.tif,,,\n'
    rows = [
        {"id": "a", "fixed": "f.tif", "moving": "m.tif", "fixed-bidx": [3, 2], "keypoints": 800, "co": ["A=1", "B=2"]},
        {"id": 7, "fixed": "f.tif", "moving": "n.tif", "keypoints": None},
    ]
    lines = write(tmp_path, "\n\n".join(map(json.dumps, rows)), "scenes.jsonl")
    assert read_manifest(lines).scenes == read_manifest(write(tmp_path, table)).scenes


def test_one_reference_for_all(tmp_path: Path) -> None:
    path = write(tmp_path, "id,moving\na,m.tif\nb,n.tif\n")
    scenes = read_manifest(path, fixed=Path("/ref.tif")).scenes
    assert [(scene.fixed, scene.moving.name) for scene in scenes] == [
        (Path("/ref.tif"), "m.tif"),
        (Path("/ref.tif"), "n.tif"),
    ]


def test_a_reference_named_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "id,fixed,moving\na,f.tif,m.tif\n")
    with pytest.raises(UsageError, match="line 2: column 'fixed' beside --fixed"):
        read_manifest(path, fixed=Path("/ref.tif"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "has no scene"),
        ("id,fixed,moving\n", "has no scene"),
        ("id,fixed,moving,moving-kid\na,f,m,sar", "line 1: unknown column 'moving-kid': is 'moving-kind' meant?"),
        ("id,fixed,moving,zzz\na,f,m,1", "line 1: unknown column 'zzz': use id, fixed, moving or an option"),
        ("id,fixed,moving,fixed\na,f,m,g", "line 1: column 'fixed' twice"),
        ("name,fixed,moving\na,f,m", "line 1: unknown column 'name'"),
        ("id,moving\na,m", "line 2: no value for fixed"),
        ("id,fixed,moving\n,f,m", "line 2: no value for id"),
        ("id,fixed,moving\na,f", "line 2: no value for moving"),
        ("id,fixed,moving\na,f,m,x", "line 2: 4 cells, but 3 columns"),
        ("id,fixed,moving\na,f,m\nA,f,n", "line 3: the id 'A' is also the id of line 2"),
        ("id,fixed,moving\n../a,f,m", "line 2: the id '../a' cannot name files"),
        ("id,fixed,moving\nsummary,f,m", "line 2: the id 'summary' cannot"),
        ("id,fixed,moving,support\na,f,m,65", "line 2: support: '65' is not one of '64', '96', '128'"),
        ("id,fixed,moving,max-shift\na,f,m,far", "line 2: max-shift: 'far' is no distance"),
        ("id,fixed,moving,co\na,f,m,COMPRESS", "line 2: co: 'COMPRESS' is no creation option"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, rows: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_manifest(write(tmp_path, rows))
    assert said in str(caught.value)
    assert "scenes.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1, 2]", "line 1: no JSON object"),
        ("{", "line 1: no JSON object"),
        ('{"id": "a", "fixed": "f", "moving": true}', "moving is True"),
        ('{"id": "a", "fixed": "f", "moving": {"path": "m"}}', "moving is {'path': 'm'}"),
        ('{"id": "a", "fixed": "f", "moving": "m", "modle": "affine"}', "is 'model' meant?"),
    ],
)
def test_what_is_wrong_with_a_json_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_manifest(write(tmp_path, line, "scenes.jsonl"))
    assert said in str(caught.value)


def test_all_problems_are_told_at_once_but_not_hundreds(tmp_path: Path) -> None:
    path = write(tmp_path, "id,fixed,moving,seed\n" + "".join(f"s{i},f,m,no\n" for i in range(40)))
    with pytest.raises(UsageError, match=r"line 2: seed.*line 11: seed.*and 30 more$"):
        read_manifest(path)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no \.csv"):
        read_manifest(write(tmp_path, "id", "scenes.xlsx"))
    (tmp_path / "scenes.csv").write_bytes(b"id,fixed,moving\n\xff\xfe,f,m\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_manifest(tmp_path / "scenes.csv")
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read_manifest(tmp_path / "nowhere.csv")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_of_two_folders_are_matched_by_id(tmp_path: Path) -> None:
    touch(tmp_path, "a/s2_vis.tif", "a/s1_vis.tif", "b/s1_sar.tif", "b/s2_sar.tif", "b/s1_sar.txt", "b/.s3_sar.tif")
    manifest = match_files(f"{tmp_path}/a/{{id}}_vis.tif", f"{tmp_path}/b/{{id}}_sar.tif")
    assert manifest.scenes == tuple(
        BatchItem(name, tmp_path / f"a/{name}_vis.tif", tmp_path / f"b/{name}_sar.tif") for name in ("s1", "s2")
    )


def test_an_id_may_name_a_folder_and_recur(tmp_path: Path) -> None:
    touch(tmp_path, "s1/s1_sar.tif", "s2/other_sar.tif")
    manifest = match_files(f"{tmp_path}/ref.tif", f"{tmp_path}/{{id}}/{{id}}_sar.tif")
    assert [(scene.id, scene.fixed) for scene in manifest.scenes] == [("s1", tmp_path / "ref.tif")]


def test_characters_that_mean_something_to_a_shell_mean_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "[1]*/a.tif", "1/b.tif")
    assert [scene.id for scene in match_files("ref.tif", f"{tmp_path}/[1]*/{{id}}.tif").scenes] == ["a"]


def test_a_moving_image_without_partner_is_not_lost(tmp_path: Path) -> None:
    touch(tmp_path, "b/lonely.tif")
    (scene,) = match_files(f"{tmp_path}/a/{{id}}.tif", f"{tmp_path}/b/{{id}}.tif").scenes
    assert scene.fixed == tmp_path / "a/lonely.tif"


def test_patterns_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no \{id\}"):
        match_files("ref.tif", "moving.tif")
    with pytest.raises(UsageError, match="No file matches"):
        match_files("ref.tif", f"{tmp_path}/{{id}}.tif")


@given(name=st.text(min_size=1, max_size=250))
def test_an_id_that_is_accepted_names_a_file_in_its_folder(name: str) -> None:
    assume(name.isprintable())
    try:
        Manifest("test", (BatchItem(name, Path("f"), Path("m")),))
    except UsageError as error:
        assert "cannot name files" in str(error)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f".{name}.01234567.part.json")
        path.touch()
        assert [found.name for found in Path(folder).iterdir()] == [path.name]
