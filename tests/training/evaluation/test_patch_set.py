"""Sets of patches on disk: what is read, how SAR is treated, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrl_register.config import Kind
from rrl_register.errors import InputError
from rrl_register.raster.stretch import compress_amplitudes, to_grey
from rrl_register.training.evaluation.patch_set import PatchSet, load_patch_set, other_spectrum

LABELS = np.array([1, 1, 0, 0], np.uint8)


def patches(rng: np.random.Generator, n: int = 4) -> np.ndarray:
    return rng.integers(0, 256, (n, 2, 64, 64), np.uint8)


def stored(folder: Path, images: np.ndarray, labels: np.ndarray = LABELS, name: str = "set") -> tuple[Path, Path]:
    paths = folder / f"{name}_images.npy", folder / f"{name}_labels.npy"
    for path, array in zip(paths, (images, labels), strict=True):
        np.save(path, array)
    return paths


def amplitudes(rng: np.random.Generator, n: int = 4) -> np.ndarray:
    """Speckled amplitudes of four looks, brightest 1."""
    speckle = np.sqrt(rng.gamma(4, 1 / 4, (n, 2, 64, 64)))
    texture = rng.uniform(0.3, 1.2, (n, 2, 8, 8)).repeat(8, axis=2).repeat(8, axis=3)
    return np.clip(speckle * texture / 2.5, 0, 1)


def decibels(rng: np.random.Generator, n: int = 4) -> np.ndarray:
    logs = 20 * np.log10(amplitudes(rng, n) + 1e-3)
    low, high = np.percentile(logs, [0.5, 99.5])
    return np.clip((logs - low) / (high - low), 0, 1)


def test_bytes_become_what_the_network_takes(tmp_path: Path, rng: np.random.Generator) -> None:
    images = patches(rng)
    read = load_patch_set(*stored(tmp_path, images))
    visible, other = read.patches(slice(1, 3))
    assert read.name == "set"
    assert len(read) == 4
    assert read.labels.tolist() == [True, True, False, False]
    assert (visible.shape, visible.dtype) == ((2, 1, 64, 64), np.float32)
    assert np.allclose(visible[:, 0], images[1:3, 0] / 255)
    assert np.allclose(other[:, 0], images[1:3, 1] / 255)


def test_all_layouts_say_the_same(tmp_path: Path, rng: np.random.Generator) -> None:
    images = patches(rng)
    expected = load_patch_set(*stored(tmp_path, images)).patches(slice(None))
    variants = {"last": np.moveaxis(images, 1, 3), "float": images / np.float32(255), "double": images / 255}
    for name, array in variants.items():
        read = load_patch_set(*stored(tmp_path, array, LABELS[:, None], name)).patches(slice(None))
        assert np.allclose(read, expected, atol=1e-6), name


def test_images_stay_on_disk(tmp_path: Path, rng: np.random.Generator) -> None:
    assert isinstance(load_patch_set(*stored(tmp_path, patches(rng))).images, np.memmap)


def test_every_kth_pair_keeps_its_label_and_scene(tmp_path: Path, rng: np.random.Generator) -> None:
    images, labels = patches(rng, 6), np.array([1, 0, 0, 0, 0, 1])
    np.save(tmp_path / "scenes.npy", np.arange(6))
    read = load_patch_set(*stored(tmp_path, images, labels), tmp_path / "scenes.npy", every=2)
    assert read.labels.tolist() == [True, False, False]
    assert read.scenes is not None
    assert read.scenes.tolist() == ["0", "2", "4"]
    assert np.array_equal(read.images, images[::2])


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20))
def test_amplitudes_are_compressed_as_the_pipeline_does(values: list[float]) -> None:
    """The two ends of the values make the pipeline's stretch do nothing."""
    image = np.array([[*[0.0] * 30, *values, *[1.0] * 30]], np.float32)
    expected = to_grey(image[None], np.ones(image.shape, bool), Kind.SAR)
    assert np.allclose(compress_amplitudes(image), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "make", "kind", "linear"),
    [
        ("sar", amplitudes, Kind.AUTO, True),
        ("sar_near", amplitudes, Kind.AUTO, True),
        ("s1_VV", amplitudes, Kind.AUTO, True),
        ("sar", decibels, Kind.AUTO, False),
        ("nir", amplitudes, Kind.AUTO, False),
        ("caesar", amplitudes, Kind.AUTO, False),
        ("sar", decibels, Kind.SAR, True),
        ("sar", amplitudes, Kind.IR, False),
        ("nir", amplitudes, Kind.SAR, True),
    ],
)
@pytest.mark.parametrize("as_bytes", [True, False])
def test_linear_sar_is_told_by_name_and_values(
    name: str, make: object, kind: Kind, linear: bool, as_bytes: bool, rng: np.random.Generator
) -> None:
    values = make(rng)  # type: ignore[operator]
    images = np.rint(values * 255).astype(np.uint8) if as_bytes else values
    assert other_spectrum(name, images, kind)[0] is linear


def test_compressed_amplitudes_are_not_compressed_again(rng: np.random.Generator) -> None:
    images = compress_amplitudes(amplitudes(rng).astype(np.float32))
    assert other_spectrum("sar", images)[0] is False


def test_what_looks_like_amplitudes_under_another_name_is_hinted_at(rng: np.random.Generator) -> None:
    assert "--other-kind sar" in other_spectrum("unnamed", amplitudes(rng))[1]
    assert "--other-kind" not in other_spectrum("unnamed", decibels(rng))[1]


def test_only_the_second_patch_is_compressed(rng: np.random.Generator) -> None:
    images = amplitudes(rng).astype(np.float32)
    visible, other = PatchSet("sar", images, LABELS > 0, linear=True).patches(slice(None))
    assert np.array_equal(visible[:, 0], images[:, 0])
    assert np.array_equal(other[:, 0], compress_amplitudes(images[:, 1]))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 2, 32, 32), np.uint8), LABELS, "(4, 2, 32, 32)"),
        (np.zeros((4, 2, 64, 64), np.uint16), LABELS, "uint16"),
        (np.zeros((0, 2, 64, 64), np.uint8), LABELS[:0], "(0, 2, 64, 64)"),
        (np.zeros((4, 2, 64, 64), np.uint8), LABELS[:3], "3 entries for the 4 pairs"),
        (np.zeros((4, 2, 64, 64), np.uint8), LABELS * 2, "one label a pair"),
        (np.zeros((4, 2, 64, 64), np.uint8), np.array([1, np.nan, 0, 0]), "one label a pair"),
        (np.zeros((4, 2, 64, 64), np.uint8), np.eye(4), "one label a pair"),
        (np.zeros((4, 2, 64, 64), np.uint8), np.ones(4), "4 of the 4 pairs"),
        (np.zeros((4, 2, 64, 64), np.uint8), np.zeros(4), "0 of the 4 pairs"),
    ],
)
def test_what_is_no_set_is_refused(tmp_path: Path, images: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_patch_set(*stored(tmp_path, images, labels))
    assert said in str(caught.value)


@pytest.mark.parametrize("value", [1.5, -0.1, np.nan])
def test_floats_outside_the_range_are_refused(tmp_path: Path, value: float) -> None:
    images = np.full((4, 2, 64, 64), 0.5, np.float32)
    images[3, 1, 5, 5] = value
    read = load_patch_set(*stored(tmp_path, images))
    read.patches(slice(0, 3))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        read.patches(slice(3, 4))


def test_files_that_hold_no_array_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    images, labels = stored(tmp_path, patches(rng))
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "many.npz", a=LABELS)
    np.save(tmp_path / "objects.npy", np.array([{}, None, 1, 2], object), allow_pickle=True)
    for name in ("text.npy", "empty.npy", "many.npz", "objects.npy", "missing.npy"):
        with pytest.raises(InputError, match=name):
            load_patch_set(images, tmp_path / name)
    with pytest.raises(InputError, match="one scene a pair"):
        np.save(tmp_path / "scenes.npy", np.ones((4, 2), int))
        load_patch_set(images, labels, tmp_path / "scenes.npy")
