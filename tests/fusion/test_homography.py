"""Homographies of batches of tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from kornia.geometry.transform import warp_perspective

from rrl_register.config import Device, EstimateConfig, Kind, MatchConfig, ModelChoice, ReadConfig, RegisterConfig
from rrl_register.errors import InputError, UsageError
from rrl_register.exchange.registration import Registration
from rrl_register.fusion import homography as module
from rrl_register.fusion.homography import RRLHomography
from rrl_register.warping.warp import warp_array

MATRIX = np.array([[1.02, 0.03, 4.0], [-0.02, 0.98, -2.5], [1e-5, -2e-5, 1.0]])
Build = Callable[..., Registration]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, object]]]:
    """Lets ``register`` give, or raise, one thing after the other; records what it was asked."""

    def prepare(*things: Registration | Exception) -> list[dict[str, object]]:
        waiting, asked = list(things), []

        def register(fixed: np.ndarray, moving: np.ndarray, config: RegisterConfig, scorer: object) -> Registration:
            asked.append({"fixed": fixed, "moving": moving, "config": config, "scorer": scorer})
            thing = waiting.pop(0)
            if isinstance(thing, Exception):
                raise thing
            return thing

        monkeypatch.setattr(module, "register", register)
        return asked

    return prepare


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (np.sin(rows / 7) + np.cos(columns / 9) + 3).astype(np.float32)


def test_kornia_warps_as_this_package_does(answers: Callable[..., object], make_registration: Build) -> None:
    answers(make_registration(matrix=MATRIX))
    moving = smooth((80, 90))
    found = RRLHomography()(torch.zeros(1, 3, 70, 100), torch.from_numpy(moving)[None, None])
    warped = warp_perspective(torch.from_numpy(moving)[None, None], found.matrix, (70, 100))[0, 0].numpy()
    # Both treat places at the very edge in their own way.
    ours = warp_array(moving, MATRIX, (70, 100), "bilinear")[0]
    deep = warp_array(moving, MATRIX, (70, 100), "bilinear", np.pad(np.ones((72, 82), bool), 4))[1]
    assert deep.sum() > 4000
    assert np.abs(warped - ours)[deep].max() < 2e-3


def test_failures_are_nan_and_never_an_identity(answers: Callable[..., object], make_registration: Build) -> None:
    failed = make_registration(matrix=None, status="failed", reason="too few", confidence=0.1)
    answers(make_registration(matrix=MATRIX), failed, InputError("no valid pixel"))
    found = RRLHomography()(torch.zeros(3, 1, 60, 60), torch.zeros(3, 1, 60, 60))
    assert found.ok.tolist() == [True, False, False]
    assert found.matrix[1:].isnan().all()
    assert torch.allclose(found.matrix[0], torch.tensor(MATRIX, dtype=torch.float32))
    assert found.reasons == ("", "too few", "no valid pixel")
    assert found.confidence.tolist() == pytest.approx([0.9, 0.1, 0.0])


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
        (torch.uint8, torch.float32),
    ],
)
def test_matrices_are_of_a_type_that_warps(
    answers: Callable[..., object], make_registration: Build, given: torch.dtype, returned: torch.dtype
) -> None:
    answers(make_registration())
    images = torch.zeros(1, 1, 60, 60, dtype=given)
    assert RRLHomography()(images, images).matrix.dtype == returned


def test_one_network_serves_the_batch(answers: Callable[..., list[dict]], make_registration: Build) -> None:
    asked = answers(make_registration(), make_registration())
    module = RRLHomography(RegisterConfig(read=ReadConfig(moving_kind=Kind.SAR)))
    module(torch.zeros(2, 3, 60, 60), torch.ones(2, 1, 50, 40))
    assert asked[0]["scorer"] is asked[1]["scorer"]
    assert (asked[0]["fixed"].shape, asked[0]["moving"].shape) == ((3, 60, 60), (1, 50, 40))
    assert asked[0]["config"].read.moving_kind is Kind.SAR
    assert asked[0]["config"].estimate.model is ModelChoice.HOMOGRAPHY


def test_an_empty_batch_has_no_homographies() -> None:
    found = RRLHomography()(torch.zeros(0, 3, 60, 60), torch.zeros(0, 3, 60, 60))
    assert (found.matrix.shape, found.ok.shape, found.reasons) == ((0, 3, 3), (0,), ())


def test_nothing_in_it_is_trained() -> None:
    assert not any(parameter.requires_grad for parameter in RRLHomography().parameters())


@pytest.mark.parametrize("shapes", [((3, 60, 60), (3, 60, 60)), ((2, 3, 60, 60), (1, 3, 60, 60))])
def test_shapes_that_are_no_batch_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(UsageError, match=r"needed \(N, C, H, W\)"):
        RRLHomography()(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("model", [ModelChoice.POLYNOMIAL2, ModelChoice.THIN_PLATE])
def test_models_that_are_no_matrix_are_refused(model: ModelChoice) -> None:
    with pytest.raises(UsageError, match="not a matrix"):
        RRLHomography(RegisterConfig(estimate=EstimateConfig(model=model)))


def test_a_real_pair_of_tensors_is_registered(samples: Path, truth_of: Callable[[str], np.ndarray]) -> None:
    """A part of the real pair, without its georeference; the second item of the batch holds nothing."""
    top, left, side = 120, 80, 200
    with rasterio.open(samples / "rgb_nir_fixed.tif") as fixed, rasterio.open(samples / "rgb_nir_moving.tif") as moving:
        part = (slice(None), slice(top, top + side), slice(left, left + side))
        images = [torch.from_numpy(dataset.read()[part].astype(np.float32)) for dataset in (fixed, moving)]
    match = MatchConfig(n_keypoints=40, rotation="none", scale="none", max_shift="40px", device=Device.CPU)
    find = RRLHomography(RegisterConfig(ReadConfig(moving_kind=Kind.IR), match))
    found = find(*(torch.stack([image, torch.zeros_like(image)]) for image in images))
    assert found.ok.tolist() == [True, False]
    shift = np.array([[1, 0, left], [0, 1, top], [0, 0, 1.0]])
    truth = np.linalg.inv(shift) @ truth_of("rgb_nir") @ shift
    corners = np.array([[50, 150, 150, 50], [50, 50, 150, 150], [1, 1, 1, 1.0]])
    one, other = (matrix @ corners for matrix in (found.matrix[0].double().numpy(), truth))
    assert np.linalg.norm(one[:2] / one[2] - other[:2] / other[2], axis=0).max() < 2
