"""The VIS-NIR protocol: train on one scene, test on all others, mean of the per-scene FPR95.

Source: patches cut by Aguilera et al. ("Learning cross-spectral similarity measures with deep convolutional neural
networks", 2016) from the RGB-NIR scenes of Brown and Suesstrunk (2011). The authors of RRL-Net (arXiv 2403.11751) train
on ``country`` and report the eight other scenes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rrl_register.config import Kind
from rrl_register.errors import InputError, UsageError
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.training.evaluation.figures import SET_MEANS, Row, figures, mean_figures, provenance, text_table
from rrl_register.training.evaluation.patch_set import load_patch_set, score_patch_set

PAPER = {
    "field": 2.16,
    "forest": 0.04,
    "indoor": 0.86,
    "mountain": 0.59,
    "oldbuilding": 0.41,
    "street": 0.26,
    "urban": 0.14,
    "water": 1.65,
}
"""FPR95 of RRL-Net by scene, per cent (arXiv 2403.11751)."""
PAPER_MEAN = 0.76


class SceneFiles(NamedTuple):
    """One scene on disk."""

    name: str
    images: Path
    labels: Path


class Trained(NamedTuple):
    """Weights of a training; ``finished`` is false if it ran out of time."""

    weights: Path
    finished: bool


def find_scenes(folder: Path) -> dict[str, SceneFiles]:
    """Find the scenes of a folder, by name.

    Args:
        folder: Folder with ``<scene>_images.npy`` and ``<scene>_labels.npy`` of each scene.

    Raises:
        InputError: There is no scene, or a scene has no labels.
    """
    names = sorted(path.name.removesuffix("_images.npy") for path in folder.glob("*_images.npy"))
    if not names:
        raise InputError(f"{folder} holds no *_images.npy; needed <scene>_images.npy and <scene>_labels.npy: check it")
    scenes = [SceneFiles(name, folder / f"{name}_images.npy", folder / f"{name}_labels.npy") for name in names]
    for scene in scenes:
        if not scene.labels.is_file():
            raise InputError(f"there is no {scene.labels} to {scene.images.name}; needed the labels of each scene")
    return {scene.name: scene for scene in scenes}


def split_scenes(scenes: dict[str, SceneFiles], train: str, needs_training: bool) -> list[SceneFiles]:
    """Select the scenes to test on.

    Args:
        scenes: All scenes.
        train: Name of the training scene.
        needs_training: Require the training scene.

    Raises:
        UsageError: The training scene is required and missing.
        InputError: There is no other scene.
    """
    if needs_training and train not in scenes:
        raise UsageError(f"there is no scene {train} to train on; the folder has {', '.join(scenes)}: give --train")
    tested = [scene for name, scene in scenes.items() if name != train]
    if not tested:
        raise InputError(f"{train} is the only scene of the folder; needed others to test on: add some")
    return tested


def train_on(scene: SceneFiles, output: Path, recipe: Path | None = None, seconds: float = math.inf) -> Trained:
    """Train on one scene, or continue a training, and export its weights.

    Args:
        scene: The scene.
        output: Folder of the run, for checkpoints, log and ``weights.safetensors``.
        recipe: YAML file of a training; its data and output are replaced; None: the defaults.
        seconds: Time limit, s.

    Raises:
        InputError: Recipe or data cannot be read.
    """
    from rrl_register.nn.weights import write_weights
    from rrl_register.training.config import TrainingConfig, load_training_config
    from rrl_register.training.datasets import PatchArrays
    from rrl_register.training.export import source_weights
    from rrl_register.training.loop import CHECKPOINT, train

    data = (PatchArrays(images=scene.images, labels=scene.labels, family="nir"),)
    if recipe is None:
        config = TrainingConfig(data=data, output=output)
    else:  # without the recipe's selection among its own data
        loaded = load_training_config(recipe, data=data, output=str(output))
        config = replace(loaded, families=(), group_weights={})
    best = train(config, seconds)
    weights = output / "weights.safetensors"
    write_weights(weights, source_weights(best or output / CHECKPOINT, new_name=f"vis-nir-{scene.name}"))
    return Trained(weights, best is not None)


def evaluate_scenes(scenes: Sequence[SceneFiles], scorer: Scorer, done: Callable[[Row], object] | None = None) -> Row:
    """Compute the figures of each scene, and the mean of their FPR95, which is the paper's result.

    Args:
        scenes: Scenes to test on.
        scorer: The network.
        done: Called with each scene's row.

    Raises:
        InputError: A scene cannot be read.
    """
    rows = []
    for scene in scenes:
        scores = score_patch_set(load_patch_set(scene.images, scene.labels, kind=Kind.IR), scorer)
        rows.append({"name": scene.name, **figures(scores), "paper_fpr95": PAPER.get(_plain(scene.name))})
        if done:
            done(rows[-1])
    return {
        **mean_figures(rows, (*SET_MEANS, "auc", "descriptor_auc")),
        "n": sum(row["n"] for row in rows),
        "n_matching": sum(row["n_matching"] for row in rows),
        "paper_fpr95": PAPER_MEAN if {_plain(row["name"]) for row in rows} == set(PAPER) else None,
        "scenes": rows,
        **provenance(scorer),
    }


def scenes_table(result: Row) -> str:
    """Format the result of ``evaluate_scenes``: a row for each scene, and the mean."""
    keys = (*SET_MEANS, "paper_fpr95")
    rows = [[row["name"], row["n"], *(row[key] for key in keys)] for row in result["scenes"]]
    rows.append(["mean", None, *(result[key] for key in keys)])
    return text_table(["scene", "pairs", "FPR95, %", "descriptor FPR95, %", "paper, %"], rows)


def _plain(name: str) -> str:
    """Normalise a scene's name: old-building, Old_Building and oldbuilding are equal."""
    return re.sub(r"[^a-z]", "", name.lower())
