"""Seconds, memory and error of registrations and warps of scenes of any size, made from one real pair.

python benchmarks/scaling.py PAIRS.json FOLDER [--id ID] [--sides 2000,5000,10000,20000] [--json OUT] [--stages a,b]
                             [--keep] [--report] [-- OPTIONS OF rrl-register]

The pair ``ID`` of PAIRS.json (see ``pairs.py``) is brought onto one pixel grid by its landmarks. Both images are
continued by mirroring, mixed with themselves magnified to the whole scene, and sampled, block by block, into two
single-band 8-bit GeoTIFFs of the side asked for, the moving one through a known transform: turned, scaled, shifted and
slightly tilted against its georeference. On each pair ``rrl-register FIXED MOVING --json RESULT`` runs in a process of
its own (stage ``register``), then ``rrl-register apply RESULT MOVING -o OUT`` (stage ``warp``); reported are the
processor seconds and the peak resident memory of that process. The error is the mean distance, over a lattice of the
moving image, between the pixel's places by the result and by the known transform. GPU hours are calculated, not
measured: from the patches and pairs that the runs gave to the network, the operations that these take, and an assumed
rate. With --json rows are kept, runs that are there are not repeated, and --report prints the tables only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from operations import Operations
from rasterio.windows import Window
from registrations import names
from resources import run_measured
from scipy.interpolate import RBFInterpolator
from tables import markdown_table

from rrl_register.config import Kind
from rrl_register.exchange.registration import read_registration
from rrl_register.geometry.transforms import compose, project, similarity, translation
from rrl_register.raster.reader import read_bands
from rrl_register.raster.stretch import to_grey

Grey = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Row = dict[str, Any]

STAGES = ("register", "warp")
BLOCK = 1024
MARGIN = 0.1
"""Share of the scene left out at each edge, where the moving image may hold nothing."""
TURN_DEG, SCALE, SHIFT_PX, TILT = 1.2, 1.01, (70.0, -45.0), 4e-3
"""Misregistration of the moving image; the tilt moves a corner by this share of the side."""
DETAIL = 0.5
"""Share of the image as it is; the rest is the same image once more, as large as the whole scene: ground has structure
of every size, and mirrored alone the image would repeat itself."""
PLACE = {"crs": "EPSG:3395", "transform": Affine(10, 0, 1_000_000, 0, -10, 4_000_000)}
LATTICE = 21
ARCHIVE_PAIRS, ARCHIVE_SIDE, ARCHIVE_BYTES = 100_000, 10_980, 2
"""An archive of Sentinel-2 tiles with an image each: pairs, px a side, bytes a px."""
GPU_PEAK, GPU_SHARE = 989e12, 0.1
"""Operations a second that the data sheet of NVIDIA's H100 SXM gives for bfloat16 without sparsity, and the share of
them that the network is assumed to reach."""
COUNTS = ("n_keypoints_fixed", "n_keypoints_moving", "n_candidates")
"""Fields of a result that count the network's work: patches of both images, and pairs of them."""


def main() -> None:
    """Read the arguments, make the pairs, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS.json")
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="for the rasters, 2 bytes for each px of the largest"
    )
    parser.add_argument("--id", default="sar-145", help="default: %(default)s")
    parser.add_argument("--sides", type=names, default=("2000", "5000", "10000", "20000"), help="px, a comma between")
    parser.add_argument("--stages", type=names, default=STAGES, help="register, warp, or both")
    parser.add_argument("--json", type=Path, metavar="OUT", help="keep rows here, and do not repeat those there")
    parser.add_argument("--keep", action="store_true", help="leave the rasters in FOLDER")
    parser.add_argument("--report", action="store_true", help="print the tables of what --json holds, run nothing")
    parser.add_argument("options", nargs="*", help="options of rrl-register, after --")
    arguments = parser.parse_intermixed_args()
    rows: list[Row] = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else []
    if not arguments.report:
        for row in run(arguments, rows):
            rows.append(row)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1))
    print(report(rows))


def run(arguments: argparse.Namespace, known: Sequence[Row]) -> Iterator[Row]:
    """Rows of all sides and stages that are not known yet."""
    scene = LargeScene.read(arguments.pairs, arguments.id)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for side in map(int, arguments.sides):
        done = {row["stage"] for row in known if row["side"] == side}
        stages = [stage for stage in arguments.stages if stage not in done]
        if stages:
            files = Files(arguments.folder, side)
            yield from measure(scene, files, stages, arguments.options)
            if not arguments.keep:
                files.remove()


@dataclass(frozen=True)
class Files:
    """The files of one side."""

    folder: Path
    side: int

    def __getattr__(self, name: str) -> Path:
        suffix = "json" if name == "result" else "tif"
        return self.folder / f"{self.side}_{name}.{suffix}"

    def remove(self) -> None:
        """Delete those that are there."""
        for name in ("fixed", "moving", "result", "aligned"):
            getattr(self, name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Texture:
    """An image that is continued without end by mirroring.

    Attributes:
        tile: (h, w) uint8, its beginning: a period along each axis and as much again as a block shows.
        period: (x, y) after how many px it repeats itself.
    """

    tile: Grey
    period: tuple[int, int]

    @classmethod
    def of(cls, image: Grey) -> Texture:
        """Continue an image."""
        period = [2 * (side - 1) for side in image.shape]
        missing = [(0, each + 2 * BLOCK - side) for each, side in zip(period, image.shape, strict=True)]
        return cls(np.pad(image, missing, mode="reflect"), (period[1], period[0]))

    def sample(self, matrix: Points, window: Window, magnified: float) -> Grey:
        """Sample the image on the pixels of a window, a block at most, through a transform.

        Args:
            matrix: (3, 3), pixel -> pixel of the image as it is.
            window: The pixels.
            magnified: How many times as large the image is laid under itself.
        """
        whole = compose(matrix, translation(window.col_off, window.row_off))
        size = (window.width, window.height)
        detail = self._layer(whole, size, cv2.INTER_LINEAR)
        ground = self._layer(compose(similarity(1 / magnified), whole), size, cv2.INTER_CUBIC)
        return np.asarray(np.clip(np.rint(DETAIL * detail + (1 - DETAIL) * ground), 1, 255), np.uint8)

    def _layer(self, matrix: Points, size: tuple[int, int], interpolation: int) -> npt.NDArray[np.float32]:
        ends = np.array([(0, 0), (size[0], 0), size, (0, size[1])], float)
        first = np.floor(project(matrix, ends).min(axis=0) / self.period) * self.period
        place = compose(translation(-first[0], -first[1]), matrix)
        placed = cv2.warpPerspective(self.tile, place, size, flags=interpolation | cv2.WARP_INVERSE_MAP)
        return np.asarray(placed, np.float32)


@dataclass(frozen=True)
class LargeScene:
    """Both images of a place on one grid, without gaps."""

    fixed: Texture
    moving: Texture

    @classmethod
    def read(cls, pairs: Path, name: str) -> LargeScene:
        """Read the pair of a list, its moving image on the fixed image's grid by its landmarks."""
        pair = next(pair for pair in json.loads(pairs.read_text()) if pair["id"] == name)
        fixed, moving = (read_bands(pairs.parent / pair[image]) for image in ("fixed", "moving"))
        placed = _placed(_bytes(moving.values, moving.valid), fixed.valid.shape, pair)
        inner = tuple(slice(round(MARGIN * side), round((1 - MARGIN) * side)) for side in placed.shape)
        return cls(Texture.of(_bytes(fixed.values, fixed.valid)[inner]), Texture.of(placed[inner]))


def _placed(moving: Grey, shape: tuple[int, int], pair: Row) -> Grey:
    """Warp the moving image onto the fixed image's grid by a thin-plate spline through the landmarks."""
    spline = RBFInterpolator(np.array(pair["landmarks_fixed"]), np.array(pair["landmarks_moving"]))
    x, y = (np.linspace(0, side - 1, LATTICE) for side in shape[::-1])
    nodes = np.stack(np.meshgrid(x, y), axis=-1)
    known = spline(nodes.reshape(-1, 2)).reshape(nodes.shape).astype(np.float32)
    to_nodes = np.diag([(LATTICE - 1) / (shape[1] - 1), (LATTICE - 1) / (shape[0] - 1), 1.0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    places = cv2.warpPerspective(known, to_nodes, shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.remap(moving, places[..., 0], places[..., 1], cv2.INTER_CUBIC), np.uint8)


def _bytes(bands: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Grey:
    """Bands as one grey image of 1 to 255."""
    return np.asarray(1 + np.rint(254 * to_grey(bands, valid, Kind.OPTICAL)), np.uint8)


def truth(side: int) -> Points:
    """Return the known transform, (3, 3), moving pixel -> fixed pixel."""
    middle = (side - 1) / 2
    tilt = np.array([[1, 0, 0], [0, 1, 0], [TILT / side, -TILT / side / 2, 1]])
    about = compose(similarity(SCALE, TURN_DEG), tilt)
    return compose(translation(middle + SHIFT_PX[0], middle + SHIFT_PX[1]), about, translation(-middle, -middle))


def make(scene: LargeScene, files: Files) -> None:
    """Write both rasters, if they are not there."""
    for path, image, matrix in ((files.fixed, scene.fixed, np.eye(3)), (files.moving, scene.moving, truth(files.side))):
        if not path.exists():
            _write(path, image, matrix, files.side)


def _write(path: Path, image: Texture, matrix: Points, side: int) -> None:
    layout = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "bigtiff": "if_safer"}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512}
    with rasterio.open(path, "w", **layout, **tiles, **PLACE) as target:
        for top in range(0, side, BLOCK):
            for left in range(0, side, BLOCK):
                window = Window(left, top, min(BLOCK, side - left), min(BLOCK, side - top))
                target.write(image.sample(matrix, window, 2 * side / min(image.period)), 1, window=window)


def measure(scene: LargeScene, files: Files, stages: Sequence[str], options: Sequence[str]) -> Iterator[Row]:
    """Run the stages on one pair of files; a row each."""
    make(scene, files)
    command = [sys.executable, "-m", "rrl_register"]
    if "register" in stages or not files.result.exists():
        kinds = ["--fixed-kind", "optical", "--moving-kind", "sar"]
        words = [str(files.fixed), str(files.moving), "--json", str(files.result), "--overwrite", *kinds, *options]
        took = run_measured([*command, *words])
        yield {"stage": "register", "side": files.side, **took, **_outcome(files)}
    if "warp" in stages and json.loads(files.result.read_text())["status"] == "ok":
        words = ["apply", str(files.result), str(files.moving), "-o", str(files.aligned), "--overwrite"]
        yield {"stage": "warp", "side": files.side, **run_measured([*command, *words])}


def _outcome(files: Files) -> Row:
    """Read the result and measure its error."""
    found = read_registration(files.result)
    row = {"status": found.status, "reason": found.reason, "stages": found.seconds, "n_inliers": found.n_inliers}
    row |= {name: getattr(found, name) for name in COUNTS}
    if found.transform is None:
        return {**row, "error_px": None, "max_error_px": None}
    axis = np.linspace(0, files.side - 1, LATTICE)
    lattice = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    true = project(truth(files.side), lattice)
    seen = np.all((true >= 0) & (true <= files.side - 1), axis=1)
    error = np.linalg.norm(found.transform.forward(lattice) - true, axis=1)[seen]
    return {**row, "error_px": float(error.mean()), "max_error_px": float(error.max())}


def report(rows: Sequence[Row]) -> str:
    """Tables of all rows, how time grows with the area, and what an archive would take."""
    parts = []
    for stage in STAGES:
        chosen = sorted((row for row in rows if row["stage"] == stage), key=lambda row: row["side"])
        if chosen:
            parts.append(_table(stage, chosen))
        if len(chosen) > 1:
            parts.append(_growth(stage, chosen))
    return "\n\n".join([*parts, *_archive(rows), *_gpu(rows)]) or "Nothing was run."


def _table(stage: str, rows: Sequence[Row]) -> str:
    steps = list(dict.fromkeys(step for row in rows for step in row.get("stages", {})))
    shown = steps if stage == "register" else []
    header = ["side, px", "Mpx", "CPU s", "wall s", "peak MiB", *(f"{step}, s" for step in shown)]
    if stage == "register":
        header += ["inliers", "error, px", "largest, px"]
    lines = []
    for row in rows:
        line = [f"{row['side']}", f"{_mpx(row['side']):.0f}", f"{row['cpu_seconds']:.1f}", f"{row['seconds']:.1f}"]
        line += [f"{row['peak_mib']:.0f}", *(f"{row['stages'].get(step, 0):.1f}" for step in shown)]
        if stage == "register":
            errors = (row["error_px"], row["max_error_px"])
            line += [str(row["n_inliers"]), *("-" if error is None else f"{error:.2f}" for error in errors)]
        lines.append(line)
    return f"`{stage}`:\n\n" + markdown_table(header, lines)


def _growth(stage: str, rows: Sequence[Row]) -> str:
    exponent, (start, slope) = fit_growth(rows)
    return (
        f"`{stage}`: processor seconds grow as area^{exponent:.2f}, or {start:.1f} + {slope:.3f} x Mpx "
        "(Mpx of the fixed image, least squares)."
    )


def fit_growth(rows: Sequence[Row]) -> tuple[float, tuple[float, float]]:
    """Exponent of processor seconds against area; and seconds = a + b Mpx, as (a, b)."""
    area = np.array([_mpx(row["side"]) for row in rows])
    seconds = np.array([row["cpu_seconds"] for row in rows])
    slope, start = np.polyfit(area, seconds, 1)
    return float(np.polyfit(np.log(area), np.log(seconds), 1)[0]), (float(start), float(slope))


def _archive(rows: Sequence[Row]) -> list[str]:
    """Extrapolate the fitted growth to an archive, if both stages were run at several sides."""
    hours, peak = 0.0, 0.0
    for stage in STAGES:
        chosen = [row for row in rows if row["stage"] == stage]
        if len(chosen) < 2:
            return []
        start, slope = fit_growth(chosen)[1]
        hours += ARCHIVE_PAIRS * (start + slope * _mpx(ARCHIVE_SIDE)) / 3600
        peak = max(peak, *(row["peak_mib"] for row in chosen))
    # Both files for the search, the moving one again for the warp; windows are a few per cent of either.
    n_bytes = ARCHIVE_PAIRS * 3 * ARCHIVE_SIDE**2 * ARCHIVE_BYTES
    return [
        f"{ARCHIVE_PAIRS} pairs of {ARCHIVE_SIDE} px a side, {ARCHIVE_BYTES} bytes a px: {hours:.0f} processor hours, "
        f"{peak:.0f} MiB a worker, {n_bytes / 1e12:.0f} TB read without overviews."
    ]


def _gpu(rows: Sequence[Row]) -> list[str]:
    """Calculate the network's GPU hours for an archive, if runs report its work."""
    if not any(_counted(row) for row in rows):
        return []
    cost = Operations.of_network()
    operations = archive_operations(rows, cost)
    hours = ARCHIVE_PAIRS * operations / (GPU_PEAK * GPU_SHARE) / 3600
    return [
        f"GPU, calculated and not measured: {cost.patch / 1e9:.2f} GFLOP a patch, {cost.pair / 1e9:.2f} GFLOP a pair, "
        f"{operations / 1e12:.2f} TFLOP a registration of {ARCHIVE_SIDE} px a side; at {GPU_SHARE:.0%} of "
        f"{GPU_PEAK / 1e12:.0f} TFLOP/s {hours:.2f} GPU hours for {ARCHIVE_PAIRS} pairs."
    ]


def archive_operations(rows: Sequence[Row], cost: Operations) -> float:
    """Operations of the network for a registration of the archive's size, between those of the sizes that were run."""
    chosen = sorted((row for row in rows if _counted(row)), key=lambda row: row["side"])
    taken = [sum(row[name] for name in COUNTS[:2]) * cost.patch + row[COUNTS[2]] * cost.pair for row in chosen]
    return float(np.interp(ARCHIVE_SIDE, [row["side"] for row in chosen], taken))


def _counted(row: Row) -> bool:
    return row["stage"] == "register" and all(name in row for name in COUNTS)


def _mpx(side: int) -> float:
    return side**2 / 1e6


if __name__ == "__main__":
    main()
