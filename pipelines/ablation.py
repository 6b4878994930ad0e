"""Train and measure the rows of an ablation, each on its own, to find the effect of each part of the recipe.

    python pipelines/ablation.py pipelines/ablation.yaml PATCH_DIR [--row NAME]... [--data FOLDER]

The YAML file has a ``recipe``, as ``rrl-register train`` reads it, and ``rows``: names, each with the settings that it
changes. A row with ``separate_families`` trains a network for each of them, with an equal share of the steps. PATCH_DIR
holds, for each family, ``<family>_images.npy`` and ``<family>_labels.npy``, and the same named ``<family>_near``, whose
negatives are near misses (``rrl-register evaluate patches --pairs PAIRS.json --save-patches PATCH_DIR`` makes such), of
places outside the training data. Checkpoints and figures are kept in the recipe's ``output``: a finished row is not
made again, an interrupted one resumes. The table has FPR95 in per cent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rrl_register.errors import InputError, RegistrationError
from rrl_register.nn.inference.torch_backend import Scorer
from rrl_register.raster.writer import write_json
from rrl_register.training.config import TrainingConfig, make_training_config
from rrl_register.training.evaluation.figures import figures
from rrl_register.training.evaluation.patch_set import PatchSet, load_patch_set, score_patch_set
from rrl_register.training.export import source_weights
from rrl_register.training.loop import train
from rrl_register.training.settings import merged

FAMILIES = ("nir", "lwir", "sar")
SEPARATE = "separate_families"
KINDS = ("random", "near")

Figures = dict[str, dict[str, float]]


def main() -> int:
    """Parse the command line, make the requested rows, print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ablation", type=Path, metavar="ABLATION.yaml")
    parser.add_argument("patches", type=Path, metavar="PATCH_DIR")
    parser.add_argument("--row", action="append", help="row to make; may be repeated; default: all")
    parser.add_argument("--data", type=Path, help="folder of pairs to train on, instead of the recipe's")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="measure with every K-th pair of patches")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except RegistrationError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Make the missing rows and print all rows."""
    recipe, rows = read_ablation(arguments.ablation)
    if arguments.data:
        recipe = merged(recipe, {"data": str(arguments.data)})
    wanted = arguments.row or list(rows)
    if unknown := [name for name in wanted if name not in rows]:
        raise InputError(f"{arguments.ablation} has no row {unknown[0]!r}: there are {', '.join(rows)}")
    patches = read_patches(arguments.patches, arguments.every)
    for name in wanted:
        result = Path(recipe["output"]) / slug(name) / "figures.json"
        if not result.exists():
            write_json(result, make_row(name, recipe, rows[name], patches), overwrite=True)
    print(table(Path(recipe["output"]), list(rows)))


def read_ablation(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read the recipe and the rows of an ablation.

    Raises:
        InputError: If the file cannot be read, or has other parts.
    """
    try:
        content = yaml.safe_load(path.read_text())
        recipe, rows = content["recipe"], content["rows"]
        return dict(recipe), {str(name): dict(changes or {}) for name, changes in rows.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no ablation ({error}): a recipe and rows are needed") from error


def slug(name: str) -> str:
    """Return the name of a row's folder."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


def read_patches(folder: Path, every: int) -> dict[str, dict[str, PatchSet]]:
    """Read the sets of each family: ``random`` and ``near`` negatives."""
    return {
        family: {kind: _patch_set(folder, family if kind == "random" else f"{family}_near", every) for kind in KINDS}
        for family in FAMILIES
    }


def _patch_set(folder: Path, name: str, every: int) -> PatchSet:
    return load_patch_set(folder / f"{name}_images.npy", folder / f"{name}_labels.npy", every=every)


def make_row(
    name: str, recipe: Mapping[str, Any], changes: Mapping[str, Any], patches: Mapping[str, Mapping[str, PatchSet]]
) -> dict[str, Any]:
    """Train a row's network, or its networks, and measure them."""
    began = time.process_time()
    weights: dict[str, Path] = {}
    separate = changes.get(SEPARATE)
    plain = {key: value for key, value in changes.items() if key != SEPARATE}
    base = merged(merged(recipe, plain), {"output": str(Path(recipe["output"]) / slug(name))})
    if separate:
        for family in separate:
            weights[family] = trained(for_family(make_training_config(base), family, len(separate)))
    else:
        weights = dict.fromkeys(patches, trained(make_training_config(base)))
    seconds = time.process_time() - began
    measured = {family: measure(weights[family], made) for family, made in patches.items()}
    return {"row": name, "changes": dict(changes), "processor_seconds": round(seconds), "fpr95": measured}


def for_family(config: TrainingConfig, family: str, share: int) -> TrainingConfig:
    """Return the run of one family among ``share`` of them."""
    phases = {
        name: replace(getattr(config, name), steps=getattr(config, name).steps // share)
        for name in ("descriptor_phase", "joint_phase")
    }
    return replace(config, families=(family,), output=config.output / family, **phases)


def trained(config: TrainingConfig) -> Path:
    """Train, and return the checkpoint."""
    print(f"training {config.output}", file=sys.stderr)
    checkpoint = train(config)
    assert checkpoint is not None
    return config.output / "checkpoint.pt"


def measure(checkpoint: Path, patches: Mapping[str, PatchSet]) -> dict[str, float]:
    """Return FPR95 of the network and of its descriptor, for each kind of negatives."""
    scorer = Scorer(network=source_weights(checkpoint).network())
    measured = {kind: figures(score_patch_set(made, scorer)) for kind, made in patches.items()}
    return {f"{by}{kind}": row[f"{by}fpr95"] for by in ("", "descriptor_") for kind, row in measured.items()}


def table(output: Path, rows: Sequence[str]) -> str:
    """Return the finished rows as a Markdown table."""
    head = [f"{family}, {kind}" for kind in KINDS for family in FAMILIES]
    lines = [
        "| FPR95, % | " + " | ".join(head) + " | mean near | processor s |",
        "|---" + "|---:" * (len(head) + 2) + "|",
    ]
    for name in rows:
        result = output / slug(name) / "figures.json"
        if result.exists():
            lines.append(_line(json.loads(result.read_text())))
    return "\n".join(lines)


def _line(row: Mapping[str, Any]) -> str:
    measured: Figures = row["fpr95"]
    cells = [measured[family][kind] for kind in KINDS for family in FAMILIES]
    near = sum(measured[family]["near"] for family in FAMILIES) / len(FAMILIES)
    return f"| {row['row']} | " + " | ".join(f"{c:.1f}" for c in [*cells, near]) + f" | {row['processor_seconds']} |"


if __name__ == "__main__":
    sys.exit(main())
