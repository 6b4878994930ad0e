"""Results of an evaluation, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rrl_register.config.version import __version__
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.training.evaluation.cutting import FamilyPatches
from rrl_register.training.evaluation.figures import Row, Scores, figures, mean_figures, scene_rows
from rrl_register.training.evaluation.patch_set import PatchSet
from rrl_register.training.evaluation.tables import text_table

SET_MEANS = ("fpr95", "descriptor_fpr95")
FAMILY_MEANS = ("fpr95", "near_miss_fpr95", "descriptor_fpr95", "descriptor_near_miss_fpr95")


def provenance(scorer: Scorer) -> Row:
    """Return weights, device and version."""
    return {"weights": scorer.name, "device": scorer.device.type, "version": __version__}


def set_result(patches: PatchSet, scores: Scores, scorer: Scorer) -> Row:
    """Summarise one set of patches: figures of all pairs, of each scene, and the means over scenes."""
    rows = scene_rows(scores)
    means = mean_figures(rows, SET_MEANS) if rows else None
    return {
        "name": patches.name,
        **figures(scores),
        "other_kind": patches.taken_as,
        "scenes": rows,
        "scene_mean": means,
        **provenance(scorer),
    }


def set_table(result: Mapping[str, Any]) -> str:
    """Format a ``set_result``: a row for each scene, if scenes are known, their mean, and all pairs."""
    rows = [_set_row(row) for row in result["scenes"]]
    if result["scene_mean"]:
        mean = result["scene_mean"]
        rows.append(["mean of scenes", None, None, mean["fpr95"], None, mean["descriptor_fpr95"]])
    rows.append(_set_row({**result, "name": f"all of {result['name']}" if rows else result["name"]}))
    return text_table(["set", "pairs", "matching", "FPR95, %", "AUC", "descriptor FPR95, %"], rows)


def _set_row(row: Mapping[str, Any]) -> list[str | int | float | None]:
    area = None if row["auc"] is None else f"{row['auc']:.4f}"
    return [row["name"], row["n"], row["n_matching"], row["fpr95"], area, row["descriptor_fpr95"]]


def family_result(patches: FamilyPatches, random: Scores, near: Scores) -> Row:
    """Summarise a family of image pairs: figures of all its places, and of each image pair."""
    scenes = [
        {"family": patches.family, **_with_near(one, two)}
        for one, two in zip(scene_rows(random), scene_rows(near), strict=True)
    ]
    together = {"name": patches.family, "support": patches.support, **_with_near(figures(random), figures(near))}
    return {**together, "scene_mean": mean_figures(scenes, FAMILY_MEANS), "scenes": scenes}


def _with_near(random: Row, near: Row) -> Row:
    """Join the figures with random negatives and those with near misses."""
    return {**random, **{key.replace("fpr95", "near_miss_fpr95"): near[key] for key in ("fpr95", "descriptor_fpr95")}}


def families_result(families: Sequence[Row], settings: Row, scorer: Scorer) -> Row:
    """Summarise several families: means over families, then each family, then each image pair.

    Args:
        families: Results of ``family_result``.
        settings: Settings of the patches.
        scorer: The network.
    """
    counts = {key: sum(family[key] for family in families) for key in ("n", "n_matching")}
    return {
        **mean_figures(families, (*FAMILY_MEANS, "auc", "descriptor_auc")),
        **counts,
        **settings,
        "families": [{key: value for key, value in family.items() if key != "scenes"} for family in families],
        "scenes": [row for family in families for row in family["scenes"]],
        **provenance(scorer),
    }


def families_table(result: Mapping[str, Any]) -> str:
    """Format a ``families_result``: a row for each family, and their mean if there are several."""
    header = ["family", "support", "pairs", "FPR95, %", "near-miss", "descriptor FPR95, %", "near-miss"]
    rows = [[row["name"], row["support"], row["n"], *(row[key] for key in FAMILY_MEANS)] for row in result["families"]]
    if len(rows) > 1:
        rows.append(["mean", None, None, *(result[key] for key in FAMILY_MEANS)])
    return text_table(header, rows)
