"""ROC curves as pictures: that they are drawn, and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rrl_register.errors import OutputExistsError, UsageError
from rrl_register.training.evaluation import plot
from rrl_register.training.evaluation.figures import Scores
from rrl_register.training.evaluation.plot import check_plot, draw_roc


@pytest.fixture
def scores(rng: np.random.Generator) -> Scores:
    labels = np.arange(200) < 100
    network, descriptor = (labels * gain + rng.normal(size=200).astype(np.float32) for gain in (3, 1))
    return Scores(labels, network, descriptor)


def test_a_png_shows_curves(tmp_path: Path, scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    draw_roc(tmp_path / "roc.png", {"nir": scores})
    image = cv2.imread(str(tmp_path / "roc.png"))
    assert image.shape[1] > image.shape[0] > 400
    first_colour = np.array([0xB4, 0x77, 0x1F])  # Matplotlib's C0, blue first
    assert (np.abs(image.astype(int) - first_colour).max(axis=2) < 8).sum() > 500
    assert [path.name for path in tmp_path.iterdir()] == ["roc.png"]


def test_an_svg_names_every_curve(tmp_path: Path, scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    draw_roc(tmp_path / "roc.svg", {"nir": scores, "sar": scores})
    text = (tmp_path / "roc.svg").read_text()
    assert "<svg" in text
    for name in ("nir: network", "nir: descriptor", "sar: network", "95 % recall"):
        assert name in text


def test_an_existing_picture_is_kept(tmp_path: Path, scores: Scores) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "roc.png").write_text("precious")
    with pytest.raises(OutputExistsError):
        draw_roc(tmp_path / "roc.png", {"nir": scores})
    assert (tmp_path / "roc.png").read_text() == "precious"
    draw_roc(tmp_path / "roc.png", {"nir": scores}, overwrite=True)
    assert cv2.imread(str(tmp_path / "roc.png")) is not None


@pytest.mark.parametrize("name", ["roc.jpg", "roc", "roc.pdf"])
def test_other_suffixes_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        check_plot(Path(name))


def test_a_missing_matplotlib_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'rrl-register\[train\]'"):
        check_plot(Path("roc.png"))
