"""Small files of the names that README and docs use: 256 px of a sample pair, and what is made of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
import yaml
from click.testing import CliRunner

from docs_lines import REPOSITORY
from rrl_register.cli import main
from rrl_register.estimation.evidence import Evidence
from rrl_register.geometry.transforms import project
from rrl_register.training.bank import is_validation
from sample_crops import SIDE, cut_pair, true_matrix

SETS = {"nir_ground": "nir", "lwir_road": "lwir", "sar_s1s2": "sar"}
"""Training sets that the recipes give weights to, and their families."""
MOVING = ("moving", "sar", "thermal", "nir", "other", "series", "image", "vv", "band")
"""Words in the name of an image that is the moving one here; any other name is the fixed one."""


def make_files(folder: Path) -> None:
    """Write everything that a line of the documentation may read, but for images (see ``image_named``)."""
    cut_pair(folder)
    for name in ("examples", "data"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "docs").mkdir()
    words = ["FIXED.tif", "MOVING.tif", "--json", "RESULT.json"]
    for points in ("POINTS.points", "MINE.csv", "POINTS.gcp"):
        words += ["--tie-points", points]
    result = CliRunner(catch_exceptions=False).invoke(main, words)
    assert result.exit_code == 0, result.output
    Path("settings.yaml").write_text("moving-kind: sar\n")
    write_manifests()
    write_pairs_with_landmarks()
    write_registrations()
    write_training(folder)


def image_named(folder: Path, name: str) -> None:
    """Make an image of this name, if there is none: a copy of FIXED.tif or of MOVING.tif."""
    path = folder / name
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = folder / ("MOVING.tif" if any(word in name.lower() for word in MOVING) else "FIXED.tif")
    if path.suffix in (".png", ".jpg"):
        cv2.imwrite(str(path), grey(source))
    else:
        os.link(source, path)


def grey(path: Path) -> np.ndarray:
    """An image as (H, W) uint8; SAR amplitudes as their logarithm."""
    with rasterio.open(path) as dataset:
        bands = dataset.read().astype(float)
    values = bands.mean(axis=0) if len(bands) > 1 else np.log(bands[0])
    return cv2.normalize(values, None, 1, 255, cv2.NORM_MINMAX).astype(np.uint8)


def write_manifests() -> None:
    """Batches of one scene, as tables and as STAC items."""
    Path("SCENES.csv").write_text("id,fixed,moving\na,FIXED.tif,MOVING.tif\n")
    Path("SERIES.csv").write_text("id,moving\na,MOVING.tif\n")
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "a",
        "geometry": {"type": "Point", "coordinates": [0, 0]},
        "bbox": [0, 0, 0, 0],
        "properties": {"datetime": "2024-05-01T00:00:00Z"},
        "links": [],
        "assets": {"red": {"href": "FIXED.tif"}, "vv": {"href": "MOVING.tif"}},
    }
    for name in ("ITEMS.json", "SAR.json", "OPTICAL.json"):
        Path(name).write_text(json.dumps({"type": "FeatureCollection", "features": [item]}))


def write_pairs_with_landmarks() -> None:
    """Lists of pairs, one of each suite, which is the cut pair with its true landmarks."""
    moving = np.stack(np.meshgrid((60, 128, 190), (60, 128, 190)), axis=-1).reshape(-1, 2).astype(float)
    pair = {
        "fixed": "FIXED.tif",
        "moving": "MOVING.tif",
        "landmarks_fixed": project(true_matrix(), moving).tolist(),
        "landmarks_moving": moving.tolist(),
    }
    ids = {"sar-145": ("geo-sar", "sar"), "nir": ("nir", "nir"), "lwir": ("lwir", "lwir")}
    rows = [{"id": name, "suite": suite, "family": family, **pair} for name, (suite, family) in ids.items()]
    for path in ("PAIRS.json", "pairs.json"):
        Path(path).write_text(json.dumps(rows))


def write_registrations() -> None:
    """RESULTS: registrations whose truth is known, right and wrong ones, as the fit of the confidence reads them."""
    with Path("RESULTS").open("w") as file:
        for number in range(20):
            right, n = number % 2 == 0, (150 if number % 2 == 0 else 14) + number
            evidence = Evidence(400, n + 10, n, 5.0, 0.5, 1.0, 1.1, 0.8, None).figures()
            known = {"name": f"known-{number}", "seed": 0, "suite": "haze", "family": "nir", "implausible": None}
            known |= {"scenes": [f"scene-{number}"], "right": right, "error": 1.0 if right else 40.0}
            print(json.dumps({**known, "evidence": evidence}), file=file)


def write_training(folder: Path) -> None:
    """Pairs to train on, labelled patches, weights, and recipes of a step or two."""
    image = grey(folder / "FIXED.tif")
    for name in ("my_pairs", "PAIRS_FOLDER", "FOLDER", "DATA_DIR", "../train"):
        write_pairs(folder / name, image)
    write_patches(folder, image)
    for name in ("mine.safetensors", "weights.safetensors", "runs/rrlnet/best.pt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "rrl_register" / "nn" / "weights" / "rrlnet.safetensors", folder / name)
    (folder / "pipelines").mkdir()
    for recipe in sorted((REPOSITORY / "pipelines").glob("*.yaml")):
        content = next(yaml.safe_load_all(recipe.read_text()))
        (folder / "pipelines" / recipe.name).write_text(yaml.safe_dump(smallest(content)))
    shutil.copy(folder / "pipelines" / "train_rrlnet.yaml", folder / "RECIPE.yaml")


def write_pairs(folder: Path, image: np.ndarray) -> None:
    """A folder with pairs.csv: of each set two pairs to train on and two that training keeps for validation."""
    folder.mkdir(exist_ok=True)
    side = 360 if folder.name == "DATA_DIR" else 160
    shown = cv2.resize(image, (side, side))
    for name, content in (("a_vis", shown), ("a_other", 255 - shown)):
        cv2.imwrite(str(folder / f"{name}.png"), content)
    rows = []
    for name, family in SETS.items():
        ids = [f"{i:03d}" for i in range(200)]
        for kept in (False, True):
            chosen = [one for one in ids if is_validation(f"{name}/{one}") == kept][:2]
            rows += [(name, one, family, "a_vis.png", "a_other.png", 1) for one in chosen]
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("set", "id", "family", "vis", "other", "gsd_m"), *rows])


def write_patches(folder: Path, image: np.ndarray) -> None:
    """Labelled patches, as such, as scenes of a folder and as sets of each family: places and their negatives."""
    corners = np.random.default_rng(3).integers(0, SIDE - 64, (16, 2, 2))
    corners[::2, 1] = corners[::2, 0]
    cut = [[image[y : y + 64, x : x + 64] for x, y in places] for places in corners]
    patches = np.array(cut)
    patches[:, 1] = 255 - patches[:, 1]
    (folder / "PATCH_DIR").mkdir()
    sets = [f"PATCH_DIR/{family}{kind}_" for family in SETS.values() for kind in ("", "_near")]
    for name in ["FOLDER/country_", "FOLDER/field_", *sets]:
        np.save(folder / f"{name}images.npy", patches)
        np.save(folder / f"{name}labels.npy", np.tile(np.array([1, 0], np.uint8), 8))
    shutil.copy(folder / "FOLDER" / "field_images.npy", folder / "IMAGES.npy")
    shutil.copy(folder / "FOLDER" / "field_labels.npy", folder / "LABELS.npy")


def smallest(content: Any) -> Any:
    """A recipe, or an ablation, of one step a phase, a narrow network and four pairs; of an ablation, two rows."""
    if not isinstance(content, dict):
        return content
    content = {key: smallest(value) for key, value in content.items()}
    if "rows" in content:
        content["rows"] = {name: content["rows"][name] for name in ("full recipe", "no MGLA")}
    if "steps" in content:
        content["steps"] = min(content["steps"], 1)
    if "batch" in content:
        content |= {"batch": 4, "warmup": 0}
    if "output" in content:
        content |= {"data": "FOLDER", "device": "cpu", "threads": 1, "validation_batches": 1}
        content["architecture"] = {"width": 0.25}
        content.pop("initial", None)
    return content


def make_repository(folder: Path, commits: Sequence[str]) -> None:
    """A git repository with the package, tagged with the names of commits."""
    shutil.copytree(REPOSITORY / "rrl_register", folder / "rrl_register", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    tags = [["tag", name] for name in commits]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "package"], *tags):
        subprocess.run([*git, *words], check=True)
