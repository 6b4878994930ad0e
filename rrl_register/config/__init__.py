"""Settings of every stage, the only home of defaults; the command line and YAML files read them here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

__version__ = "0.1.0"

__all__ = [
    "BatchConfig", "Crop", "Device", "Effort", "EstimateConfig", "Kind", "MatchConfig", "ModelChoice", "OutputGrid",
    "RasterFormat", "ReadConfig", "RegisterConfig", "Resampling", "ResourceConfig", "WarpConfig",
]  # fmt: skip


class Kind(StrEnum):
    """Modality of an image."""

    AUTO = "auto"
    OPTICAL = "optical"
    IR = "ir"
    SAR = "sar"


class Device(StrEnum):
    """Device of the network; ``auto`` uses a GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Effort(StrEnum):
    """Effort of the search."""

    FAST = "fast"
    """Half the keypoints of ``normal``; a pair fails if its quick trial has too little evidence."""
    NORMAL = "normal"
    """The network scores some of the keypoints. If the evidence is too weak, it scores all of them and tries further
    initial transforms."""
    THOROUGH = "thorough"
    """The network scores every keypoint."""


class ModelChoice(StrEnum):
    """Transform to fit; ``auto`` picks the simplest model whose cross-validation error is as low as the best.

    The last three add a smooth displacement to a homography.
    """

    AUTO = "auto"
    TRANSLATION = "translation"
    SIMILARITY = "similarity"
    AFFINE = "affine"
    HOMOGRAPHY = "homography"
    POLYNOMIAL2 = "polynomial2"
    POLYNOMIAL3 = "polynomial3"
    THIN_PLATE = "thin-plate"


class Resampling(StrEnum):
    """Interpolation of the moving image."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    CUBIC = "cubic"


class OutputGrid(StrEnum):
    """Pixels of the output."""

    FIXED = "fixed"
    """Pixels of the fixed image."""
    MOVING = "moving"
    """Size and orientation of the moving image's pixels, on the fixed image's ground: keeps its resolution."""


class Crop(StrEnum):
    """Extent of the output."""

    OVERLAP = "overlap"
    """Overlap of both images."""
    FIXED = "fixed"
    """All of the fixed image, or of the raster of the output grid."""
    UNION = "union"
    """All of the fixed and all of the moving image."""


class RasterFormat(StrEnum):
    """File format of the warped image."""

    GTIFF = "gtiff"
    """Tiled GeoTIFF."""
    COG = "cog"
    """Cloud-optimised GeoTIFF."""


@dataclass(frozen=True)
class ReadConfig:
    """Reading of the two images, one grey image each."""

    fixed_bands: tuple[int, ...] = ()
    """Bands of the fixed image used for matching, 1-based; empty: all but alpha."""
    moving_bands: tuple[int, ...] = ()
    """Bands of the moving image used for matching, 1-based; empty: all but alpha."""
    no_alpha: bool = False
    """Take bands that are tagged as alpha for measurements; else their names and values decide."""
    fixed_kind: Kind = Kind.AUTO
    moving_kind: Kind = Kind.AUTO
    max_side: int = 2048
    """Longest side of an image at matching resolution, px; larger images are reduced, and their transform is refined in
    windows at full resolution."""


@dataclass(frozen=True)
class MatchConfig:
    """Keypoints, patches and scores."""

    effort: Effort = Effort.NORMAL
    """Effort of the search."""
    n_keypoints: int = 400
    """Most keypoints in each image; more give a more reliable fit and take longer."""
    support: int | None = None
    """Side of the ground that a patch covers, px at matching resolution (64, 96, 128); None: 128 for SAR, else 64."""
    max_shift: str | None = None
    """Search radius, as '80px' or '500m'; None: 100 px with georeferences, half of the longer side without."""
    rotation: str = "auto"
    """Rotation of the moving image after georeferences, clockwise: degrees, 'none' (search a few degrees) or 'auto' (a
    few degrees with georeferences, all rotations without)."""
    scale: str = "auto"
    """Scale of the moving image after georeferences, or image sizes without them: a factor, 'none' (search a few per
    cent) or 'auto' (a few per cent with georeferences, 0.5 to 2 without)."""
    init_points: Path | None = None
    """Tie points by hand or of another program for the initial transform; None: coarse search."""
    n_candidates: int = 2
    """Candidates per keypoint of the fixed image that the network scores."""
    min_score: float = 0.5
    """Lowest match probability of a tie point."""
    device: Device = Device.AUTO
    weights: Path | None = None
    """Weights of the network; None: those shipped with the package."""


@dataclass(frozen=True)
class EstimateConfig:
    """Fit and acceptance of a transform."""

    model: ModelChoice = ModelChoice.AUTO
    """Transform to fit, after georeferences (or image sizes without them)."""
    threshold: float = 3.0
    """Largest residual of an inlier, px at matching resolution (pixels of the coarser file, or larger ones if a large
    scene was registered at reduced resolution only)."""
    min_inliers: int = 12
    seed: int = 0


@dataclass(frozen=True)
class WarpConfig:
    """Warp of the moving image onto the output grid."""

    resampling: Resampling = Resampling.CUBIC
    nodata: float | None = None
    """Value of output pixels without data; None: the moving image's own, else a mask."""
    grid: OutputGrid | Path = OutputGrid.FIXED
    """Pixels of the output; a path: those of that raster, by the fixed image's georeference."""
    crop: Crop = Crop.FIXED
    format: RasterFormat = RasterFormat.GTIFF
    overviews: bool = False
    """Add overviews; a COG always has them."""
    gcps_only: bool = False
    """Copy the moving image unchanged, with the inliers as ground control points, instead of warping it."""
    block_size: int = 512
    """Side of the blocks that are read, warped and written one by one, px; a multiple of 16."""
    threads: int | None = None
    """Blocks that are warped at the same time; None: as many as there are cores, 8 at most."""
    creation_options: tuple[tuple[str, str], ...] = ()
    """GDAL creation options, (name, value)."""


@dataclass(frozen=True)
class ResourceConfig:
    """Limits of a run."""

    max_memory: int = 1024**3
    """Most bytes for reading, matching and warping together, in addition to the program and the network."""


@dataclass(frozen=True)
class RegisterConfig:
    """All settings of ``register``."""

    read: ReadConfig = field(default_factory=ReadConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    warp: WarpConfig = field(default_factory=WarpConfig)
    resources: ResourceConfig = field(default_factory=ResourceConfig)


@dataclass(frozen=True)
class BatchConfig:
    """Settings of a batch."""

    workers: int = 1
    """Processes, each on one scene at a time; from 2 on they are Dask workers if Dask is installed."""
    resume: bool = False
    """Continue the batch of the output folder."""
    retry_failed: bool = False
    """Continue the batch, and try failed scenes again."""
    overwrite: bool = False
    """Start again and replace the outputs."""
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers replace the processes of this machine."""
