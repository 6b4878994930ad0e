"""Patches of image pairs with known landmarks: reading the list of pairs, cutting patches, saving them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rrl_register.config import Kind, ReadConfig
from rrl_register.config.files import parse_json, read_text
from rrl_register.errors import InputError, NotRegisteredError, UsageError
from rrl_register.geometry.arrays import Points
from rrl_register.geometry.homography import fit_homography
from rrl_register.matching.features.keypoints import detect
from rrl_register.nn.patches import PATCH_SIZE, PatchCutter
from rrl_register.raster.writer import atomic_path, check_output

if TYPE_CHECKING:
    from rrl_register.matching.image_pair import ImagePair


@dataclass(frozen=True)
class PairPaths:
    """Two images of one place, with landmarks.

    Attributes:
        name: Name of the pair.
        family: Name of its family of spectra, such as nir, lwir, sar.
        fixed: The visible image.
        moving: The image of another spectrum.
        fixed_points, moving_points: (L, 2) landmarks, (x, y) in px of the files.
    """

    name: str
    family: str
    fixed: Path
    moving: Path
    fixed_points: NDArray[np.float64]
    moving_points: NDArray[np.float64]


def read_image_pairs(path: Path, families: Sequence[str] = ()) -> dict[str, list[PairPaths]]:
    """Read a list of pairs, without those that have no landmarks.

    Args:
        path: JSON, a list of objects with ``id``, ``family``, ``fixed`` and ``moving`` (paths from the file's folder),
            ``landmarks_fixed`` and ``landmarks_moving`` (lists of [x, y], or null).
        families: Families to keep, in this order; empty: all, in the order of the file.

    Returns:
        The pairs of each family.

    Raises:
        InputError: The file cannot be read, an entry is not as described, or no pair has landmarks.
        UsageError: A family is not among those with landmarks.
    """
    try:
        pairs = []
        for entry in (each for each in parse_json(read_text(path)) if each.get("landmarks_fixed")):
            fixed, moving = (np.array(entry[f"landmarks_{image}"], np.float64) for image in ("fixed", "moving"))
            if fixed.shape != moving.shape or fixed.shape[1:] != (2,):
                raise ValueError(f"landmarks {fixed.shape} and {moving.shape} of {entry['id']}")
            paths = (path.parent / entry["fixed"], path.parent / entry["moving"])
            pairs.append(PairPaths(str(entry["id"]), str(entry["family"]), *paths, fixed, moving))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = f"no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{path} is no list of image pairs ({cause}); needed id, family, fixed, moving, landmarks_fixed and "
            "landmarks_moving of each: see 'rrl-register evaluate patches --help'"
        ) from error
    if not pairs:
        raise InputError(
            f"no pair of {path} has landmarks; needed corresponding points: add landmarks_fixed and _moving"
        )
    found = list(dict.fromkeys(pair.family for pair in pairs))
    if unknown := [family for family in families if family not in found]:
        raise UsageError(f"there is no family {', '.join(unknown)} with landmarks in {path}; it has {', '.join(found)}")
    return {family: [pair for pair in pairs if pair.family == family] for family in families or found}


Bytes = NDArray[np.uint8]

FAMILY_KINDS = {"sar": Kind.SAR, "nir": Kind.IR, "lwir": Kind.IR, "swir": Kind.IR, "ir": Kind.IR}
"""Kinds of the moving images of a family; those of other families are detected."""
_DRAWS = 100


@dataclass(frozen=True)
class CutConfig:
    """Settings of the patches."""

    per_family: int = 4000
    """Pairs of patches of a family, half of them matching; fewer if the images have fewer corners."""
    near_miss: float = 8.0
    """Distance of near misses from the correct place, px of the fixed image."""
    support: int | None = None
    """Side of a patch's support, px of the fixed image; None: 128 for SAR, else 64."""
    seed: int = 0


@dataclass(frozen=True)
class FamilyPatches:
    """Patches of ``n`` places.

    Attributes:
        family: Name of the family.
        support: Side of a patch's support, px of the fixed image.
        visible: (n, 64, 64), around corners of the fixed images.
        other: (n, 64, 64), the same places in the moving images.
        near: (n, 64, 64), near misses in the moving images.
        elsewhere: (n,) index into ``other`` of a place that does not overlap the visible patch.
        scenes: (n,) name of the image pair of each place.
    """

    family: str
    support: int
    visible: Bytes
    other: Bytes
    near: Bytes
    elsewhere: NDArray[np.int64]
    scenes: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.visible)

    def labelled(self, near: bool = False) -> tuple[Bytes, Bytes]:
        """Return the patches in the layout of the authors' release, matching pairs first.

        Args:
            near: Take near misses as non-matching pairs, in place of other places.

        Returns:
            Images (2 n, 2, 64, 64) and labels (2 n,) uint8.
        """
        wrong = self.near if near else self.other[self.elsewhere]
        halves = [np.stack([self.visible, second], axis=1) for second in (self.other, wrong)]
        return np.concatenate(halves), np.repeat(np.array([1, 0], np.uint8), len(self))


def cut_family(family: str, pairs: Sequence[PairPaths], config: CutConfig | None = None) -> FamilyPatches:
    """Cut patches of a family of image pairs.

    The homography of the landmarks resamples the moving image on the fixed image's pixels; patches are cut at the same
    corners in both. Both are read as the pipeline reads them. The result depends on the pairs and the configuration
    only, not on other families.

    Args:
        family: Its name; it defines the kind of the moving images, see ``FAMILY_KINDS``.
        pairs: The image pairs, the visible image of each as the fixed one.
        config: Settings; None: the defaults.

    Raises:
        InputError: An image cannot be read or used, landmarks do not determine a homography, or there
            are too few corners.
    """
    config = config or CutConfig()
    rng = np.random.default_rng(config.seed)
    support = config.support
    if not support:
        first = _read(pairs[0])
        support = 2 * PATCH_SIZE if Kind.SAR in (first.fixed.kind, first.moving.kind) else PATCH_SIZE
    per_pair = max(1, config.per_family // 2 // len(pairs))
    cuts = [_cut_pair(pair, support, per_pair, config.near_miss, rng) for pair in pairs]
    visible, other, near = (np.concatenate([cut[i] for cut, _ in cuts]) for i in range(3))
    points = np.concatenate([places for _, places in cuts])
    scene = np.repeat(np.arange(len(cuts)), [len(places) for _, places in cuts])
    elsewhere = draw_elsewhere(family, scene, points, support, rng)
    names = np.array([pair.name for pair in pairs], np.str_)[scene]
    return FamilyPatches(family, support, visible, other, near, elsewhere, names)


def _read(pair: PairPaths) -> ImagePair:
    from rrl_register.matching.read_pair import read_pair  # needs rasterio

    kind = FAMILY_KINDS.get(pair.family.lower(), Kind.AUTO)
    fixed_kind = Kind.AUTO if kind is Kind.AUTO else Kind.OPTICAL
    return read_pair(pair.fixed, pair.moving, ReadConfig(fixed_kind=fixed_kind, moving_kind=kind))


def _cut_pair(
    pair: PairPaths, support: int, n: int, near_miss: float, rng: np.random.Generator
) -> tuple[tuple[Bytes, Bytes, Bytes], Points]:
    """Return visible patches, others and near misses of a pair, (m, 64, 64) each, and their places (m, 2)."""
    read = _read(pair)
    moving_points = (pair.moving_points + 0.5) / read.moving.factor - 0.5
    fixed_points = (pair.fixed_points + 0.5) / read.fixed.factor - 0.5
    try:
        matrix = fit_homography(moving_points, fixed_points)
    except NotRegisteredError as error:
        raise InputError(f"the landmarks of the pair {pair.name} do not determine a homography: {error}") from error
    placed, placed_valid = read.placed(matrix)
    valid = read.fixed.valid & placed_valid
    points = detect(read.fixed.values, valid, n, margin=support // 2 + math.ceil(near_miss) + 1)
    angle = rng.uniform(0, 2 * np.pi, len(points))
    # Whole pixels, as corners are: interpolation would blur near misses and thus reveal them.
    beside = points + np.rint(near_miss * np.column_stack([np.cos(angle), np.sin(angle)]))
    fixed, moving = PatchCutter(read.fixed.values, valid, support), PatchCutter(placed, valid, support)
    return (_bytes(fixed.cut(points)), _bytes(moving.cut(points)), _bytes(moving.cut(beside))), points


def draw_elsewhere(
    family: str, scene: NDArray[np.int64], points: Points, support: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a place elsewhere for each place: in another image pair, or so far off that the patches do not overlap.

    Args:
        family: For messages.
        scene: (n,) number of the image pair of each place.
        points: (n, 2) places, px of the fixed image.
        support: Side of a patch, px.
        rng: Random numbers.

    Returns:
        (n,) indices.

    Raises:
        InputError: There are no places, or one has no place elsewhere.
    """
    if len(scene) == 0:
        raise InputError(
            f"the images of {family} have no corner far enough from their borders for patches of {support} px; needed "
            "at least two: try a smaller --support, or larger images"
        )
    index = rng.permutation(len(scene))
    for _ in range(_DRAWS):
        overlaps = (scene[index] == scene) & (np.abs(points[index] - points).max(axis=1) < support)
        if not overlaps.any():
            return index
        index[overlaps] = rng.integers(len(scene), size=int(overlaps.sum()))
    raise InputError(
        f"the images of {family} have no two corners everywhere that are {support} px apart; needed wrong pairs that "
        "share no ground: try a smaller --support, or more images"
    )


def _bytes(patches: NDArray[np.float32]) -> Bytes:
    return np.rint(patches[:, 0] * 255).astype(np.uint8)


_SETS = {"": False, "_near": True}
_PARTS = ("images", "labels", "scenes")


def check_patch_files(folder: Path, families: Iterable[str], overwrite: bool = False) -> None:
    """Create the folder and check that the files can be written, before long computations.

    Raises:
        OutputExistsError: A file exists and must not be replaced.
        UsageError: The folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder {folder} ({error.strerror}); needed one for the patches") from error
    for family in families:
        for path in _paths(folder, family):
            check_output(path, overwrite)


def save_family(folder: Path, patches: FamilyPatches, overwrite: bool = False) -> list[Path]:
    """Write two sets of a family, ``<family>`` with negatives from elsewhere and ``<family>_near`` with near misses.

    Each has ``_images.npy`` (N, 2, 64, 64) uint8, ``_labels.npy`` (N,) uint8 and ``_scenes.npy`` (N,) text.

    Returns:
        The files written.

    Raises:
        OutputExistsError, UsageError, InputError: See ``raster.writer.atomic_path``.
    """
    paths = _paths(folder, patches.family)
    scenes = np.tile(patches.scenes, 2)
    arrays = [array for near in _SETS.values() for array in (*patches.labelled(near), scenes)]
    for path, array in zip(paths, arrays, strict=True):
        with atomic_path(path, overwrite) as temporary:
            np.save(temporary, array)
    return paths


def _paths(folder: Path, family: str) -> list[Path]:
    return [folder / f"{family}{kind}_{part}.npy" for kind in _SETS for part in _PARTS]
