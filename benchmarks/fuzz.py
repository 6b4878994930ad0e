"""Mutated files of every kind, read by the commands that take them: nothing but an error of one line may come of it.

    python benchmarks/fuzz.py --cases 2000 --seed 0

Each case is a process of its own, forked from one that has loaded the package. It fails if it ends in a traceback or by
a signal, has an unknown exit code, reports an error in more than one line, takes 30 s or 2 GiB, or leaves a file behind
that is none of its outputs. Files of failed cases are kept in ``--keep``. Needs fork and ``wait4``: Linux or macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from rrl_register.cli import main as program
from rrl_register.exchange import control_points, named_fields, registration, result_schema, table  # noqa: F401
from rrl_register.exchange.formats import write_points
from rrl_register.exchange.registration import Registration
from rrl_register.geometry.tie_points import TiePoints
from rrl_register.raster.reader import open_info
from rrl_register.warping import apply, warp  # noqa: F401

SECONDS, BYTES = 30, 2 * 1024**3
CODES = (0, 2, 3, 4, 5)
SAMPLES = Path(__file__).resolve().parents[1] / "data"
SIDE = 160
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1e-300, 1e300, 10**30, float("nan"), float("inf"), "", "x", "9" * 5000, "\u202e<b>\x1b[2J", [],
    {}, [[[]]], [0] * 1000, "/dev/zero", "http://127.0.0.1:9/", "+proj=utm +nadgrids=/dev/zero", "EPSG:4326", "EPSG:0",
)  # fmt: skip
TOKENS = tuple(
    token.encode()
    for token in ("nan", "inf", "1e999", "9" * 400, "-", ",", ";", '"', "'", "\0", "\n", "\t", "{", "[" * 2000, "*a",
                  "&a ", "<", "&", "<!DOCTYPE x>", "/dev/zero", "http://127.0.0.1:9/", "../" * 9, "\ufeff",
                  "\u202e", "-gcp ")
)  # fmt: skip
SETTINGS = (
    "model: affine\nthreshold: 2.5\nkeypoints: 200\nfixed-bidx: [1, 2]\nmax-shift: 80px\nrotation: 5\nco: [A=B]\n"
)
SIDECAR = """<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>5e5,10,0,5e6,0,-10</GeoTransform>
<GCPList Projection="EPSG:4326"><GCP Id="" Pixel="1" Line="1" X="1" Y="1"/></GCPList>
<PAMRasterBand band="1"><NoDataValue>0</NoDataValue><Description>red</Description></PAMRasterBand></PAMDataset>"""


@dataclass(frozen=True)
class Mutant:
    """A command on one mutated file."""

    kind: str
    name: str
    content: bytes
    words: list[str]
    outputs: set[str] = field(default_factory=set)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change a few places of a file: bits, lengths, copies, and words that parsers stumble over."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 8, 64))
        change = rng.randrange(6)
        if change == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            data[at : at + length] = rng.randbytes(length)
        elif change == 2:
            del data[at : at + length * rng.choice((1, 1, 50))]
        elif change == 3:
            data[at:at] = data[at : at + length] * rng.choice((2, 10, 500))
        elif change == 4:
            data[at:at] = rng.choice(TOKENS)
        else:
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
    return bytes(data)


def mutated_json(value: Any, rng: random.Random) -> Any:
    """Change a few values of nested lists and objects, at any depth."""
    data = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        part = data
        while isinstance(part, dict | list) and part:
            key = rng.choice(list(part)) if isinstance(part, dict) else rng.randrange(len(part))
            if not isinstance(part[key], dict | list) or not part[key] or rng.random() < 0.3:
                change = rng.randrange(8)
                if change == 0:
                    del part[key]
                elif change == 1 and isinstance(part, list):
                    part.extend(part * rng.choice((1, 50)))
                elif change < 5 and type(part[key]) in (int, float):
                    part[key] *= rng.choice((-1, 0, 3, 1000, 1_000_000, 0.1, 1e-6))
                else:
                    part[key] = copy.deepcopy(rng.choice(VALUES))
                break
            part = part[key]
    return data


class Cases:
    """Makes cases from files of a small, real pair.

    Args:
        folder: An empty folder for these files.
    """

    def __init__(self, folder: Path) -> None:
        self.images = {}
        for name in ("fixed", "moving"):
            with rasterio.open(SAMPLES / f"rgb_nir_{name}.tif") as source:
                window = Window(100, 100, SIDE, SIDE)
                layout = {**source.profile, "width": SIDE, "height": SIDE, "transform": source.window_transform(window)}
                values = source.read(window=window)
            for suffix, driver in ((".tif", "GTiff"), (".png", "PNG")):
                path = folder / f"{name}{suffix}"
                shape = {"driver": driver, "width": SIDE, "height": SIDE, "count": len(values), "dtype": values.dtype}
                with rasterio.open(path, "w", **(layout | {"tiled": False} if driver == "GTiff" else shape)) as target:
                    target.write(values)
                self.images[path.name] = path.read_bytes()
        grid = open_info(folder / "fixed.tif").grid
        places = np.stack(np.meshgrid(np.linspace(9, 150, 6), np.linspace(9, 150, 6)), axis=-1).reshape(-1, 2)
        points = TiePoints(places + 2.0, places, np.full(len(places), 0.9))
        found = Registration(
            "ok", "", "affine", np.array([[1.0, 0, 2], [0, 1, 2], [0, 0, 1]]), 50, 50, 100, len(places), len(places),
            0.1, 0.2, 0.9, {"coverage": 0.7}, {"read": 1.0}, "cpu", "x", "optical", "ir", 64, grid, grid, points,
            np.ones(len(places), bool),
        )  # fmt: skip
        self.result = json.loads(json.dumps(found.to_json()))
        self.points = {}
        for suffix in ("points", "geojson", "csv", "gcp", "gpkg"):
            path = folder / f"p.{suffix}"
            write_points(path, table.PointTable.of(found), table.Grids(grid, grid))
            self.points[path.name] = path.read_bytes()

    def draw(self, rng: random.Random) -> Mutant:
        """Make a case of a random kind."""
        kinds: list[Callable[[random.Random], Mutant]] = [
            self.of_result, self.of_result, self.of_points, self.of_points, self.of_settings, self.of_table,
            self.of_sidecar, self.of_raster, self.of_raster,
        ]  # fmt: skip
        return rng.choice(kinds)(rng)

    def of_result(self, rng: random.Random) -> Mutant:
        """Mutate a RESULT.json."""
        text = json.dumps(mutated_json(self.result, rng))
        content = mutated_bytes(text.encode(), rng) if rng.random() < 0.2 else text.encode()
        words, output = rng.choice(
            [
                (["apply", "r.json", "moving.tif", "-o", "o.tif"], "o.tif"),
                (["apply", "r.json", "moving.tif", "-o", "o.tif", "--crop", "union"], "o.tif"),
                (["tie-points", "r.json", "-o", "o.geojson"], "o.geojson"),
                (["refit", "r.json", "fixed.tif", "moving.tif", "--json", "o.json"], "o.json"),
                (["report", "r.json", "fixed.tif", "moving.tif", "-o", "o.html"], "o.html"),
            ]
        )
        return Mutant("result", "r.json", content, words, {output})

    def of_points(self, rng: random.Random) -> Mutant:
        """Mutate a file of points."""
        name = rng.choice(list(self.points))
        content = mutated_bytes(self.points[name], rng)
        return Mutant(
            "points", name, content, ["refit", name, "fixed.tif", "moving.tif", "--json", "o.json"], {"o.json"}
        )

    def of_settings(self, rng: random.Random) -> Mutant:
        """Mutate a file of settings."""
        content = mutated_bytes(SETTINGS.encode(), rng)
        return Mutant(
            "settings", "s.yaml", content, ["fixed.tif", "moving.tif", "--config", "s.yaml", "--print-config"]
        )

    def of_table(self, rng: random.Random) -> Mutant:
        """Mutate a table of scenes whose images are missing."""
        rows = [{"id": f"s{n}", "fixed": f"f{n}.tif", "moving": f"m{n}.tif", "keypoints": "200"} for n in range(3)]
        if rng.random() < 0.5:
            lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            content, name = mutated_bytes("\n".join(lines).encode(), rng), "t.csv"
        else:
            content, name = "\n".join(json.dumps(mutated_json(row, rng)) for row in rows).encode(), "t.jsonl"
        return Mutant("table", name, content, ["batch", name, "-o", "out", "-q"], {"out"})

    def of_sidecar(self, rng: random.Random) -> Mutant:
        """Mutate what stands beside an image."""
        content = mutated_bytes(SIDECAR.encode(), rng)
        return Mutant("sidecar", "moving.png.aux.xml", content, ["info", "fixed.tif", "moving.png"])

    def of_raster(self, rng: random.Random) -> Mutant:
        """Mutate an image."""
        name = rng.choice(["moving.tif", "moving.tif", "moving.png"])
        content = mutated_bytes(self.images[name], rng)
        words = rng.choice([["info", "fixed.tif", name], ["apply", "r.json", name, "-o", "o.tif"]])
        return Mutant("raster", name, content, words, {"o.tif"})

    def lay_out(self, case: Mutant, folder: Path) -> None:
        """Write the files of a case."""
        (folder / "r.json").write_text(json.dumps(self.result))
        for name, content in [*self.images.items(), (case.name, case.content)]:
            (folder / name).write_bytes(content)


def run(case: Mutant, folder: Path) -> tuple[int, str]:
    """Run a case in a process of its own; return its exit code and what is wrong, if anything."""
    before, begun = {path.name for path in folder.iterdir()}, time.monotonic()
    log = folder.with_suffix(".log")
    child = os.fork()
    if child == 0:
        _run_here(case, folder, log)
    finished, status, used = 0, 0, None
    while not finished and time.monotonic() - begun < SECONDS:
        finished, status, used = os.wait4(child, os.WNOHANG)
        time.sleep(0.005)
    if not finished:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return -1, f"took more than {SECONDS} s"
    code, printed = os.waitstatus_to_exitcode(status), log.read_text(errors="replace")
    left = {path.name for path in folder.iterdir()} - before - case.outputs
    memory = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) if used else 0
    errors = [line for line in printed.splitlines() if line.startswith("Error: ")]
    faults = {
        "signal": code < 0,
        "traceback": "Traceback" in printed,
        f"exit code {code}": code not in CODES,
        f"{len(errors)} lines of errors": len(errors) != (code != 0),
        f"{memory >> 20} MiB": memory > BYTES,
        f"left {sorted(left)}": bool(left),
    }
    return code, ", ".join(name for name, bad in faults.items() if bad)


def _run_here(case: Mutant, folder: Path, log: Path) -> None:
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    code: Any = 1
    try:
        program(case.words, prog_name="rrl-register")
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def fuzz(cases: int, seed: int, keep: Path | None) -> Iterator[tuple[Mutant, int, str]]:
    """Run cases; yield each with its exit code and what is wrong with it."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        (base / "base").mkdir()
        maker = Cases(base / "base")
        for number in range(cases):
            case = maker.draw(random.Random(f"{seed} {number}"))
            folder = base / f"case{number}"
            folder.mkdir()
            maker.lay_out(case, folder)
            code, fault = run(case, folder)
            if fault and keep is not None:
                shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
                shutil.copy(folder.with_suffix(".log"), keep)
                (keep / f"{folder.name}.txt").write_text(f"{fault}\n{' '.join(case.words)}\n")
            shutil.rmtree(folder)
            folder.with_suffix(".log").unlink(missing_ok=True)
            yield case, code, fault


def main() -> None:
    """Run the cases of the command line, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files of failed cases")
    given = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    for number, (case, code, fault) in enumerate(fuzz(given.cases, given.seed, given.keep)):
        counts[case.kind, "fault" if fault else "read" if code == 0 else "refused"] += 1
        if fault:
            print(f"case {number} ({case.kind}, {' '.join(case.words)}): {fault}", flush=True)
    kinds = sorted({kind for kind, _ in counts})
    print(f"{'kind':<12}{'read':>8}{'refused':>9}{'fault':>7}")
    for kind in kinds:
        print(f"{kind:<12}{counts[kind, 'read']:>8}{counts[kind, 'refused']:>9}{counts[kind, 'fault']:>7}")
    sys.exit(any(ending == "fault" for _, ending in counts))


if __name__ == "__main__":
    main()
