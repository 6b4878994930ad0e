"""Settings of every stage: the only home of defaults. The command line reads its defaults here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """What an image shows, as far as its radiometry is concerned."""

    AUTO = "auto"
    OPTICAL = "optical"
    IR = "ir"
    SAR = "sar"


class Device(StrEnum):
    """Where the network runs; ``auto`` takes a GPU where there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Effort(StrEnum):
    """How much is done before an answer is taken."""

    FAST = "fast"
    """As ``normal`` with half the keypoints, and a pair that no first look proves is refused there and then."""
    NORMAL = "normal"
    """The network is asked about some of the keypoints; about all, and further starts are tried, where that proves
    nothing."""
    THOROUGH = "thorough"
    """The network is asked about every keypoint."""


class ModelChoice(StrEnum):
    """Transform that is fitted; ``auto`` takes the stiffest that predicts points kept out of the fit as well as any.

    The last three are a homography and a smooth displacement on top of it.
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
    """How the moving image is interpolated on the fixed grid."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    CUBIC = "cubic"


class OutputGrid(StrEnum):
    """The pixels that are written."""

    FIXED = "fixed"
    """Those of the fixed image."""
    MOVING = "moving"
    """Of the moving image's size and orientation, over the fixed image: its resolution is kept."""


class Crop(StrEnum):
    """How much is written."""

    OVERLAP = "overlap"
    """What both images show."""
    FIXED = "fixed"
    """All of the fixed image, or of the raster whose grid is asked for."""
    UNION = "union"
    """That, and all of the moving image."""


class RasterFormat(StrEnum):
    """What the warped image is written as."""

    GTIFF = "gtiff"
    """Tiled GeoTIFF."""
    COG = "cog"
    """Cloud-optimised GeoTIFF."""


@dataclass(frozen=True)
class ReadConfig:
    """How the two images become one grey working image each."""

    fixed_bands: tuple[int, ...] = ()
    """Bands of the fixed image to match on, 1-based; empty: all but alpha."""
    moving_bands: tuple[int, ...] = ()
    """Bands of the moving image to match on, 1-based; empty: all but alpha."""
    fixed_kind: Kind = Kind.AUTO
    moving_kind: Kind = Kind.AUTO
    max_side: int = 2048
    """Longest side of the working grid, px; larger scenes are found on a reduced image and settled in windows of the
    full one."""


@dataclass(frozen=True)
class MatchConfig:
    """Keypoints, patches and what the network accepts."""

    effort: Effort = Effort.NORMAL
    """How much the network is asked before its answer is taken."""
    n_keypoints: int = 400
    """Keypoints at most, in each image; more make the fit surer and slower."""
    support: int | None = None
    """Side of the ground that a patch covers, working px (64, 96, 128); None: by kind (128 for SAR, else 64)."""
    max_shift: str | None = None
    """Search radius, as '80px' or '500m'; None: 100 px with georeferences, without them half of the longer side."""
    rotation: str = "auto"
    """Rotation of the moving image against what georeferences say: 'auto' (a few degrees with georeferences, any
    without), 'none', or degrees, clockwise."""
    scale: str = "auto"
    """Scale of the moving image against what georeferences or sizes say: 'auto' (a few per cent with georeferences, 0.5
    to 2 without), 'none', or a factor."""
    init_points: Path | None = None
    """Tie points by hand or of another program, from which the search starts; None: the coarse search finds a start."""
    n_candidates: int = 2
    """Moving keypoints per fixed keypoint that the network scores."""
    min_score: float = 0.5
    """Probability from which the network's word is taken for a match."""
    device: Device = Device.AUTO
    weights: Path | None = None
    """Weights to use; None: those shipped with the package."""


@dataclass(frozen=True)
class EstimateConfig:
    """From tie points to a transform that is accepted or refused."""

    model: ModelChoice = ModelChoice.AUTO
    """What is fitted on top of what georeferences (or else sizes) say."""
    threshold: float = 3.0
    """Inlier threshold of the robust fit, px of the grid that tie points are measured on (of the coarser file's pixels;
    of larger ones where a large scene is known on the reduced image only)."""
    min_inliers: int = 12
    seed: int = 0


@dataclass(frozen=True)
class WarpConfig:
    """How the moving image is brought onto the fixed grid."""

    resampling: Resampling = Resampling.CUBIC
    nodata: float | None = None
    """Value written where the moving image has no data; None: the moving image's own, else a mask."""
    grid: OutputGrid | Path = OutputGrid.FIXED
    """The pixels to write; a path: those of that raster, reached through the fixed image's georeference."""
    crop: Crop = Crop.FIXED
    format: RasterFormat = RasterFormat.GTIFF
    overviews: bool = False
    """Whether reduced copies go into the file; a COG has them anyway."""
    gcps_only: bool = False
    """Whether the moving image is copied as it is, with its inliers as ground control points, and not warped."""
    block_size: int = 512
    """Side of the blocks that are read, warped and written one by one, px; a multiple of 16."""
    threads: int | None = None
    """Blocks warped at a time; None: as many as there are cores, 8 at most."""
    creation_options: tuple[tuple[str, str], ...] = ()
    """GDAL creation options, (name, value)."""


@dataclass(frozen=True)
class ResourceConfig:
    """What a run may take of the machine."""

    max_memory: int = 1024**3
    """Bytes that reading, matching and warping may take in all, beside the program and the network."""


@dataclass(frozen=True)
class RegisterConfig:
    """Everything that ``register`` can be told."""

    read: ReadConfig = field(default_factory=ReadConfig)
    match: MatchConfig = field(default_factory=MatchConfig)
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    warp: WarpConfig = field(default_factory=WarpConfig)
    resources: ResourceConfig = field(default_factory=ResourceConfig)


@dataclass(frozen=True)
class BatchConfig:
    """How many scenes are worked off."""

    workers: int = 1
    """Processes, each on one scene at a time; from 2 on they are Dask workers where Dask is installed."""
    resume: bool = False
    """Go on with the batch that the output folder holds."""
    retry_failed: bool = False
    """Go on, and do those scenes again that failed."""
    overwrite: bool = False
    """Begin anew and replace what is in the output folder."""
    scheduler: str | None = None
    """Address of a Dask scheduler, whose workers do the work instead of processes of this machine."""
