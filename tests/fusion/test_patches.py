"""Patches of stacks: which, in what order, and as a dataset for PyTorch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.errors import InputError, UsageError
from rrl_register.fusion.aligned_stack import AlignedStack
from rrl_register.fusion.patches import Patches, iter_patches
from rrl_register.raster.grid import Grid


@pytest.fixture
def data(rng: np.random.Generator) -> np.ndarray:
    values = rng.random((2, 40, 50), np.float32) + 1
    values[1, :, :20] = np.nan
    return values


@given(height=st.integers(4, 40), width=st.integers(4, 40), size=st.integers(1, 4), stride=st.integers(1, 4))
def test_every_pixel_is_in_a_patch(height: int, width: int, size: int, stride: int) -> None:
    stride = min(stride, size)
    seen = np.zeros((height, width), int)
    for patch in iter_patches(np.zeros((1, height, width)), size, stride):
        seen[patch.row : patch.row + size, patch.column : patch.column + size] += 1
    assert seen.min() >= 1


def test_patches_are_what_they_say(data: np.ndarray) -> None:
    for patch in iter_patches(data, 16, 8, min_valid=0):
        part = data[:, patch.row : patch.row + 16, patch.column : patch.column + 16]
        assert np.array_equal(patch.data, np.nan_to_num(part, nan=0.0))
        assert (patch.valid == np.isfinite(part).all(axis=0)).all()


def test_the_order_is_row_by_row(data: np.ndarray) -> None:
    places = Patches(data, 20, 15, 0).places
    assert places == [(row, column) for row in (0, 15, 20) for column in (0, 15, 30)]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_patches_with_too_little_data_are_left_out(data: np.ndarray, share: float) -> None:
    patches = Patches(data, 8, 4, share)
    everything = Patches(data, 8, 4, 0)
    assert patches.places == [(p.row, p.column) for p in everything if p.valid.mean() >= share]


def test_the_fill_is_what_was_asked_for(data: np.ndarray) -> None:
    first = next(iter_patches(data, 16, min_valid=0, fill=-1.0))
    assert (first.data[1] == -1).all()
    assert (first.data[0] > 0).all()


def test_files_and_stacks_give_the_same_as_arrays(data: np.ndarray, make_raster: Callable[..., Path]) -> None:
    path = make_raster(data, nodata=np.nan)
    stack = AlignedStack(Grid(50, 40), (), (), path)
    wanted = list(iter_patches(data, 16, 10))
    for source in (path, str(path), stack):
        found = list(iter_patches(source, 16, 10))
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_nodata_values_of_a_file_are_no_data(make_raster: Callable[..., Path]) -> None:
    values = np.full((2, 8, 8), 7, np.uint8)
    values[0, :4] = 0
    patch = next(iter_patches(make_raster(values, nodata=0), 8))
    assert (patch.valid == (values[0] > 0)).all()


def test_patches_go_to_other_processes_as_a_path(data: np.ndarray, make_raster: Callable[..., Path]) -> None:
    patches = Patches(make_raster(data), 16)
    packed = pickle.dumps(patches)
    assert len(packed) < 2000
    assert np.array_equal(pickle.loads(packed)[1].data, patches[1].data)


def test_threads_read_at_the_same_time(data: np.ndarray, make_raster: Callable[..., Path]) -> None:
    patches = Patches(make_raster(data, nodata=np.nan), 16, 4, 0)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(patches.__getitem__, range(len(patches))))
    for patch in found:
        part = data[:, patch.row : patch.row + 16, patch.column : patch.column + 16]
        assert np.array_equal(patch.data, np.nan_to_num(part, nan=0.0))


def test_a_file_that_is_damaged_later_is_told(data: np.ndarray, make_raster: Callable[..., Path]) -> None:
    path = make_raster(data)
    patches = Patches(path, 16, min_valid=0)
    copy = pickle.dumps(patches)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="Cannot read"):
        pickle.loads(copy)[len(patches) - 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 0}, "needed at least 1 px"),
        ({"stride": 0}, "needed at least 1 px"),
        ({"min_valid": 1.5}, "needed 0 to 1"),
        ({"size": 64}, "try a smaller size"),
    ],
)
def test_settings_that_make_no_sense_are_refused(data: np.ndarray, settings: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        iter_patches(data, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("stack", [np.zeros((4, 4)), np.zeros((1, 4, 4), complex), 5])
def test_what_is_no_stack_is_refused(stack: object) -> None:
    with pytest.raises(UsageError, match="needed"):
        iter_patches(stack, 2)  # type: ignore[arg-type]


def test_a_missing_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        iter_patches(tmp_path / "none.tif")


def test_patches_do_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, rrl_register\n"
        "list(rrl_register.iter_patches(np.zeros((1, 8, 8)), 4))\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_dataset_feeds_a_loader_with_workers(data: np.ndarray, make_raster: Callable[..., Path]) -> None:
    from torch.utils.data import DataLoader

    from rrl_register.fusion.torch_patches import PatchDataset

    dataset = PatchDataset(make_raster(data, nodata=np.nan), size=16, stride=10, min_valid=0.5)
    loader = DataLoader(dataset, batch_size=3, num_workers=1, multiprocessing_context="spawn")
    batches = list(loader)
    assert sum(len(batch["data"]) for batch in batches) == len(dataset)
    assert batches[0]["data"].shape == (3, 2, 16, 16)
    first = dataset.patches[0]
    assert np.array_equal(batches[0]["data"][0].numpy(), first.data)
    assert np.array_equal(batches[0]["valid"][0].numpy(), first.valid)
    assert (int(batches[0]["row"][0]), int(batches[0]["column"][0])) == (first.row, first.column)
