"""Runs the scripts that the documentation shows, in this process, on small files of the names that it uses."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner

from docs_pages import REPOSITORY
from known_search import ELSEWHERE
from rrl_register.cli import main as program
from rrl_register.geometry.transforms import translation
from rrl_register.training.bank import is_validation

SCRIPTS = {path.stem for folder in ("benchmarks", "pipelines") for path in (REPOSITORY / folder).rglob("*.py")}
SIDE = 128
SHIFT = (3, -2)
"""What the images of ``write_images`` are apart: a moving pixel (x, y) is the fixed one (x, y) + SHIFT."""
KNOWN = translation(*SHIFT)
PLACE = {"crs": "EPSG:32618", "transform": Affine(5, 0, 500_000, 0, -5, 4_000_000)}
FAMILIES = ("nir", "lwir", "sar")
SUITES = {
    "geo-sar": "sar",
    "geo-nir": "nir",
    "geo-small": "nir",
    "rotated": "sar",
    "nir": "nir",
    "lwir": "lwir",
    "negative": "nir",
}
"""The suites that lines name, and a family for each."""
ID_OF_SCALING = "sar-145"
"""The pair that ``benchmarks/scaling.py`` takes unless it is told another."""


def run_script(words: Sequence[str], capfd: pytest.CaptureFixture[str], root: Path = REPOSITORY) -> str:
    """Runs a line ``python SCRIPT ...`` as Python would, and returns what it printed; it has to end well.

    Args:
        words: The line.
        capfd: What the script prints goes there, also by processes that it starts.
        root: Folder that the script's path starts from.
    """
    capfd.readouterr()
    code = _run_file(root / words[1], words[1:])
    printed = capfd.readouterr()
    assert not code, code if isinstance(code, str) else printed.err
    return printed.out


def _run_file(script: Path, argv: Sequence[str]) -> Any:
    """The exit code of a script: None, a number, or a message."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(argv))
        patch.syspath_prepend(script.parent)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            return end.code
    return None


@contextmanager
def fresh_modules() -> Iterator[None]:
    """Scripts import one another by plain names: what others imported is not seen inside, nor the reverse.

    Standard error, which some keep as they are imported, is another in each test.
    """
    kept = {name: sys.modules.pop(name) for name in SCRIPTS & set(sys.modules)}
    try:
        yield
    finally:
        for name in SCRIPTS & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(kept)


def run_here(words: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Takes the place of ``subprocess.run``: what would be done by another process of this interpreter is done here."""
    if words[0] != sys.executable:
        return _run(words, **options)
    said, complained = StringIO(), StringIO()
    with redirect_stdout(said), redirect_stderr(complained):
        if words[1] == "-m":
            code: Any = CliRunner(catch_exceptions=False).invoke(program, list(words[3:])).exit_code
        elif words[1] == "-c":
            code = _execute(words[2])
        else:
            code = _run_file(Path(words[1]), words[1:])
    return subprocess.CompletedProcess(list(words), code or 0, said.getvalue(), complained.getvalue())


_run = subprocess.run


def _execute(code: str) -> int:
    """The exit code of Python's option ``-c``; what goes wrong is told on standard error."""
    try:
        exec(code, {})
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def smaller(words: Sequence[str], options: Mapping[str, str]) -> list[str]:
    """A line with other values for its options, or with options more, right behind the script."""
    found = list(words)
    for option, value in options.items():
        if option in found:
            found[found.index(option) + 1] = value
        else:
            found[2:2] = [option, value]
    return found


def cells_of(table: str) -> list[list[str]]:
    """The cells of the lines of Markdown tables, rules and headers included."""
    return [[c.strip() for c in line.strip("| ").split("|")] for line in table.splitlines() if line.startswith("|")]


def texture(seed: int, side: int) -> np.ndarray:
    """Smooth noise, (side, side) uint8."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((side, side)), (0, 0), 2)
    return cv2.normalize(noise, None, 1, 255, cv2.NORM_MINMAX).astype(np.uint8)


def write_images(folder: Path) -> None:
    """FIXED and MOVING, shifted, of another spectrum, and an image of another place, all with one georeference."""
    margin = 8
    whole = texture(1, SIDE + 2 * margin)
    x, y = margin + SHIFT[0], margin + SHIFT[1]
    images = {
        "FIXED": whole[margin : margin + SIDE, margin : margin + SIDE],
        "MOVING": 255 - whole[y : y + SIDE, x : x + SIDE],
        ELSEWHERE: texture(2, SIDE),
    }
    for name, image in images.items():
        with rasterio.open(
            folder / name, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype="uint8", **PLACE
        ) as target:
            target.write(image, 1)


def write_pairs(path: Path) -> None:
    """A list with one pair of these images for each suite; that of the suite ``negative`` does not overlap."""
    moving = np.stack(np.meshgrid((15, 60, 110), (15, 60, 110)), axis=-1).reshape(-1, 2)
    points = {"landmarks_fixed": (moving + SHIFT).tolist(), "landmarks_moving": moving.tolist()}
    nothing = {"landmarks_fixed": None, "landmarks_moving": None}
    rows = []
    for suite, family in SUITES.items():
        negative = suite == "negative"
        files = {"fixed": "FIXED", "moving": ELSEWHERE if negative else "MOVING"}
        name = ID_OF_SCALING if suite == "geo-sar" else f"{suite}-1"
        rows.append({"id": name, "suite": suite, "family": family, **files, **(nothing if negative else points)})
    path.write_text(json.dumps(rows))


def write_training_pairs(folder: Path, sets: Mapping[str, str], side: int, validation: bool = True) -> None:
    """A folder with pairs.csv: of each set two pairs that training takes and, if asked for, two that it keeps.

    Args:
        folder: To be made.
        sets: Family by name of the set.
        side: Of the images, px.
        validation: Whether there are pairs that training keeps for validation.
    """
    folder.mkdir(parents=True)
    lines = ["set,id,family,vis,other,gsd_m"]
    for number, (name, family) in enumerate(sets.items()):
        image = texture(number + 3, side)
        for file, content in (("vis", image), ("other", 255 - image)):
            cv2.imwrite(str(folder / f"{name}_{file}.png"), content)
        ids = [f"{i:03d}" for i in range(200)]
        for kept in (False, True)[: 1 + validation]:
            chosen = [one for one in ids if is_validation(f"{name}/{one}") == kept][:2]
            lines += [f"{name},{one},{family},{name}_vis.png,{name}_other.png,1" for one in chosen]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")


def write_patch_sets(folder: Path, names: Sequence[str]) -> None:
    """Sets of 8 pairs of patches: the first half are one texture and its negative, the others two textures."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    for name in names:
        visible = np.stack([texture(int(seed), 64) for seed in rng.integers(1 << 30, size=12)])
        other = 255 - np.concatenate([visible[:4], visible[8:]])
        np.save(folder / f"{name}_images.npy", np.stack([visible[:8], other], axis=1))
        np.save(folder / f"{name}_labels.npy", np.repeat([1, 0], 4).astype(np.uint8))
