"""Figures, their means, the results and tables made of them, and ROC curves as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.errors import OutputExistsError, UsageError
from rrl_register.training.evaluation import figures as results
from rrl_register.training.evaluation.figures import (
    check_plot,
    draw_roc,
    families_table,
    figures,
    mean_figures,
    scene_rows,
    set_table,
)
from rrl_register.training.evaluation.patch_set import Scores
from rrl_register.training.evaluation.vis_nir import PAPER, PAPER_MEAN, scenes_table

SEEDS = st.integers(0, 10_000)


def scores(seed: int, n: int = 60, gain: float = 1.0, scenes: int = 3) -> Scores:
    """Random scores; those of matching pairs are ``gain`` standard deviations higher."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2 == 0
    network, descriptor = (labels * gain + rng.normal(size=n).astype(np.float32) for _ in range(2))
    return Scores(labels, network, descriptor, np.array([f"scene{i % scenes}" for i in rng.permutation(n)]))


@given(SEEDS)
def test_figures_depend_on_the_order_of_scores_only(seed: int) -> None:
    one = scores(seed)
    stretched = Scores(one.labels, np.exp(one.network), 3 * one.descriptor - 7)
    assert figures(stretched) == figures(one)


@given(SEEDS)
def test_figures_do_not_depend_on_the_order_of_pairs(seed: int) -> None:
    one = scores(seed)
    order = np.random.default_rng(seed).permutation(len(one.labels))
    assert figures(Scores(one.labels[order], one.network[order], one.descriptor[order])) == figures(one)


@given(SEEDS)
def test_swapped_labels_mirror_the_area(seed: int) -> None:
    one = scores(seed)
    mirrored = figures(Scores(~one.labels, one.network, one.descriptor))
    assert mirrored["auc"] == pytest.approx(1 - figures(one)["auc"], abs=1e-3)
    assert 0 <= figures(one)["fpr95"] <= 100


def test_perfect_scores_have_no_false_positives() -> None:
    labels = np.array([True, False] * 10)
    perfect = figures(Scores(labels, labels.astype(np.float32), 1 - labels.astype(np.float32)))
    assert (perfect["fpr95"], perfect["auc"]) == (0, 1)
    assert (perfect["descriptor_fpr95"], perfect["descriptor_auc"]) == (100, 0)


@pytest.mark.parametrize("label", [True, False])
def test_one_class_has_counts_and_no_figures(label: bool) -> None:
    found = figures(Scores(np.full(4, label), np.zeros(4, np.float32), np.zeros(4, np.float32)))
    assert (found["n"], found["n_matching"]) == (4, 4 * label)
    assert [found[key] for key in ("fpr95", "auc", "descriptor_fpr95", "descriptor_auc")] == [None] * 4


@given(SEEDS, st.integers(1, 5))
def test_scenes_share_out_the_pairs(seed: int, n_scenes: int) -> None:
    one = scores(seed, scenes=n_scenes)
    rows = scene_rows(one)
    assert [row["name"] for row in rows] == [f"scene{i}" for i in range(n_scenes)]
    assert sum(row["n"] for row in rows) == len(one.labels)
    assert sum(row["n_matching"] for row in rows) == one.labels.sum()
    assert scene_rows(Scores(one.labels, one.network, one.descriptor)) == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=8))
def test_means_are_over_the_known_values(values: list[float | None]) -> None:
    mean = mean_figures([{"fpr95": value} for value in values], ["fpr95"])["fpr95"]
    known = [value for value in values if value is not None]
    assert mean == (pytest.approx(np.mean(known), abs=1e-4) if known else None)


def row(name: str, **more: Any) -> dict[str, Any]:
    known = {"n": 8, "n_matching": 4, "fpr95": 1.5, "auc": 0.98765, "descriptor_fpr95": 2.5, "support": 64}
    return {"name": name, **known, "near_miss_fpr95": 3.5, "descriptor_near_miss_fpr95": 4.5, **more}


def lines(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_a_set_without_scenes_is_one_line() -> None:
    table = lines(set_table({**row("nir"), "scenes": [], "scene_mean": None}))
    assert table[1:] == [["nir", "8", "4", "1.50", "0.9877", "2.50"]]


def test_a_set_with_scenes_ends_with_their_mean_and_all_pairs() -> None:
    mean = {"fpr95": 1.0, "descriptor_fpr95": None}
    table = lines(set_table({**row("nir"), "scenes": [row("a"), row("b", auc=None)], "scene_mean": mean}))
    assert [line[0] for line in table[1:]] == ["a", "b", "mean", "all"]
    assert table[2] == ["b", "8", "4", "1.50", "-", "2.50"]
    assert table[3][-4:] == ["-", "1.00", "-", "-"]


def test_families_have_a_mean_only_if_there_are_several() -> None:
    one = {**row("mean"), "families": [row("nir")]}
    assert [line[0] for line in lines(families_table(one))[1:]] == ["nir"]
    two = {**row("mean"), "families": [row("nir"), row("sar", support=128)]}
    assert lines(families_table(two))[1:] == [
        ["nir", "64", "8", "1.50", "3.50", "2.50", "4.50"],
        ["sar", "128", "8", "1.50", "3.50", "2.50", "4.50"],
        ["mean", "-", "-", "1.50", "3.50", "2.50", "4.50"],
    ]


def test_the_paper_stands_beside_its_scenes() -> None:
    scenes = [row(name, paper_fpr95=PAPER.get(name)) for name in ("field", "other")]
    table = lines(scenes_table({**row("all"), "scenes": scenes, "paper_fpr95": None}))
    assert [line[-1] for line in table[1:]] == ["2.16", "-", "-"]
    assert np.mean(list(PAPER.values())) == pytest.approx(PAPER_MEAN, abs=0.01)


@pytest.fixture
def curve_scores(rng: np.random.Generator) -> Scores:
    labels = np.arange(200) < 100
    network, descriptor = (labels * gain + rng.normal(size=200).astype(np.float32) for gain in (3, 1))
    return Scores(labels, network, descriptor)


def test_a_png_shows_curves(tmp_path: Path, curve_scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    draw_roc(tmp_path / "roc.png", {"nir": curve_scores})
    image = cv2.imread(str(tmp_path / "roc.png"))
    assert image.shape[1] > image.shape[0] > 400
    first_colour = np.array([0xB4, 0x77, 0x1F])  # Matplotlib's C0, blue first
    assert (np.abs(image.astype(int) - first_colour).max(axis=2) < 8).sum() > 500
    assert [path.name for path in tmp_path.iterdir()] == ["roc.png"]


def test_an_svg_names_every_curve(tmp_path: Path, curve_scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    draw_roc(tmp_path / "roc.svg", {"nir": curve_scores, "sar": curve_scores})
    text = (tmp_path / "roc.svg").read_text()
    assert "<svg" in text
    for name in ("nir: network", "nir: descriptor", "sar: network", "95 % recall"):
        assert name in text


def test_an_existing_picture_is_kept(tmp_path: Path, curve_scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "roc.png").write_text("precious")
    with pytest.raises(OutputExistsError):
        draw_roc(tmp_path / "roc.png", {"nir": curve_scores})
    assert (tmp_path / "roc.png").read_text() == "precious"
    draw_roc(tmp_path / "roc.png", {"nir": curve_scores}, overwrite=True)
    assert cv2.imread(str(tmp_path / "roc.png")) is not None


@pytest.mark.parametrize("name", ["roc.jpg", "roc", "roc.pdf"])
def test_other_suffixes_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        check_plot(Path(name))


def test_a_missing_matplotlib_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rrl-register\[train\]'"):
        check_plot(Path("roc.png"))
