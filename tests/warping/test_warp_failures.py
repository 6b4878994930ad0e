"""Warping files that goes wrong: nothing is lost, and nothing half-written is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rrl_register.errors import InputError, OutputExistsError, UsageError
from rrl_register.raster.grid import Grid
from rrl_register.raster.reader import open_info
from rrl_register.warping.warp import warp_to_file

Make = Callable[..., Path]


def test_an_existing_output_is_kept_unless_told(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(rng.integers(0, 255, (60, 70), dtype=np.uint8, endpoint=True))
    output = moving.with_name("aligned.tif")
    output.write_text("precious")
    with pytest.raises(OutputExistsError):
        warp_to_file(moving, np.eye(3), Grid(70, 60), output)
    assert output.read_text() == "precious"
    warp_to_file(moving, np.eye(3), Grid(70, 60), output, overwrite=True)
    assert open_info(output).count == 1


def test_the_image_is_never_written_over(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(rng.integers(0, 255, (60, 70), dtype=np.uint8, endpoint=True))
    before = moving.read_bytes()
    with pytest.raises(UsageError, match="is the input"):
        warp_to_file(moving, np.eye(3), Grid(70, 60), moving, overwrite=True)
    assert moving.read_bytes() == before


def test_a_damaged_image_leaves_no_output(make_raster: Make, rng: np.random.Generator) -> None:
    moving = make_raster(rng.integers(0, 255, (400, 400), dtype=np.uint8))
    moving.write_bytes(moving.read_bytes()[:90_000])
    with pytest.raises(InputError, match="Cannot read"):
        warp_to_file(moving, np.eye(3), Grid(400, 400), moving.with_name("aligned.tif"), overwrite=True)
    assert [path.name for path in moving.parent.iterdir()] == ["image.tif"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from rrl_register.errors import InputError
from rrl_register.raster.grid import Grid
from rrl_register.warping.warp import warp_to_file

moving, limit = Path(sys.argv[1]), int(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    warp_to_file(moving, np.eye(3), Grid(300, 300), moving.with_name("aligned.tif"))
except InputError as error:
    sys.exit(3 if "Cannot write" in str(error) else 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes cannot be limited")
@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_full_disk_is_an_error_and_leaves_nothing(make_raster: Make, rng: np.random.Generator, share: float) -> None:
    """GDAL writes the last tiles when the file is closed, and reports to nobody if that fails."""
    moving = make_raster(rng.integers(0, 255, (300, 300), dtype=np.uint8))
    limit = round(share * 300 * 300)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(moving), str(limit)], capture_output=True, check=False)
    assert done.returncode == 3, done.stderr.decode()
    assert [path.name for path in moving.parent.iterdir()] == ["image.tif"]
