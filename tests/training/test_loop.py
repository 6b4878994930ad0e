"""A whole training, tiny: two phases, one log, one checkpoint, interrupted and gone on with."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from rrl_register.errors import InputError, UsageError
from rrl_register.nn.architecture import Architecture, InteractionKind
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.nn.weights import load_weights
from rrl_register.training import loop, validation
from rrl_register.training.bank import is_validation
from rrl_register.training.config import (
    LossConfig,
    OptimizerConfig,
    OptimizerKind,
    PhaseConfig,
    Precision,
    TrainingConfig,
)
from rrl_register.training.datasets import PairFolder
from rrl_register.training.loop import learning_rate, train
from rrl_register.training.run_files import load_checkpoint, running_mean
from weights_files import save_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs to train on and one to validate with: smooth noise, and its negative as another spectrum."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(33)
    training = [f"t{i}" for i in range(99) if not is_validation(f"made/t{i}")][:2]
    kept = next(f"v{i}" for i in count() if is_validation(f"made/v{i}"))
    rows = []
    for name in (*training, kept):
        image = cv2.GaussianBlur(rng.integers(0, 256, (112, 112), dtype=np.uint8), (0, 0), 2)
        cv2.imwrite(str(folder / f"{name}_vis.png"), image)
        cv2.imwrite(str(folder / f"{name}_other.png"), 255 - image)
        files = {"vis": f"{name}_vis.png", "other": f"{name}_other.png"}
        rows.append({"set": "made", "id": name, "family": "nir", **files, "residual_px": "0.1"})
    with (folder / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def make_config(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainingConfig]:
    """Two steps of each phase with batches of four, validated in the middle and at the end."""
    monkeypatch.setattr(validation, "VALIDATION_BATCH", 4)

    def make(**changes: Any) -> TrainingConfig:
        fields: dict[str, Any] = {
            "data": (PairFolder(data),),
            "output": tmp_path / "run",
            "descriptor_phase": PhaseConfig(2, 4, 1e-3, warmup=1),
            "joint_phase": PhaseConfig(2, 4, 1e-3, warmup=1),
            "group_weights": {"made": 1.0},
            "device": "cpu",
            "threads": 1,
            "log_every": 1,
            "validate_every": 2,
            "validation_batches": 1,
        }
        return TrainingConfig(**{**fields, **changes})

    return make


def records(config: TrainingConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]


def test_a_run_in_two_goes_does_each_step_once(
    make_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = make_config()
    ticks = count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    assert train(config, seconds=8) is None
    stopped = load_checkpoint(config.output / "checkpoint.pt")
    assert stopped is not None
    assert 0 < stopped["step"] < 4

    trainer = loop.Trainer(config)
    assert trainer.step == stopped["step"]
    assert all(torch.equal(v, stopped["network"][k]) for k, v in trainer.net.state_dict().items())
    assert all(torch.equal(v, stopped["mean"][k]) for k, v in trainer.mean.module.state_dict().items())
    assert trainer.optimizer.state_dict()["state"].keys() == stopped["optimizer"]["state"].keys()

    finished = train(config)
    assert finished == config.output / "best.pt"
    log = records(config)
    steps = [r for r in log if "fpr95" not in r]
    assert [r["step"] for r in steps] == [1, 2, 3, 4]
    assert all(math.isfinite(r["descriptor"]) and r["lr"] > 0 for r in steps)
    assert ["match" in r for r in steps] == [False, False, True, True]

    validations = {r["step"]: r["fpr95"] for r in log if "fpr95" in r}
    assert {step: set(v) for step, v in validations.items()} == {
        2: {"made/descriptor_far", "made/descriptor_near"},
        4: {"made/descriptor_far", "made/descriptor_near", "made/match_far", "made/match_near"},
    }
    assert all(0 <= rate <= 100 for v in validations.values() for rate in v.values())

    assert train(config) == finished
    assert records(config) == log
    content = load_checkpoint(config.output / "checkpoint.pt")
    assert content is not None
    assert content["mean_updates"] == 2  # of the second phase: the mean starts afresh with it
    at_once = train(make_config(output=tmp_path / "at once"))
    assert at_once is not None
    same, best = load_checkpoint(at_once), load_checkpoint(finished)
    assert same is not None
    assert best is not None
    assert all(torch.equal(value, same["mean"][name]) for name, value in best["mean"].items())
    save_weights(tmp_path / "made.safetensors", content["mean"], {})
    assert not any(torch.isnan(p).any() for p in load_weights(tmp_path / "made.safetensors")[0].parameters())


def test_one_seed_trains_one_network(make_config: Callable[..., TrainingConfig], tmp_path: Path) -> None:
    def trained(name: str, seed: int) -> dict[str, torch.Tensor]:
        phases = {"descriptor_phase": PhaseConfig(1, 4, 1e-3), "joint_phase": PhaseConfig(0, 4, 1e-3)}
        path = train(make_config(output=tmp_path / name, seed=seed, validate_every=100, **phases))
        assert path is not None
        content = load_checkpoint(path)
        assert content is not None
        network: dict[str, torch.Tensor] = content["network"]
        return network

    one, again, other = trained("one", 1), trained("again", 1), trained("other", 2)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    name = "branches.visible.encoder.convs.0.0.weight"
    assert not torch.equal(one[name], other[name])


def test_a_foreign_checkpoint_is_refused_in_one_line(make_config: Callable[..., TrainingConfig]) -> None:
    config = make_config()
    config.output.mkdir()
    (config.output / "checkpoint.pt").write_text("nothing of ours")
    with pytest.raises(InputError, match="remove it to start afresh") as caught:
        train(config)
    assert "\n" not in str(caught.value)


def test_groups_that_the_data_have_not_are_refused(make_config: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(InputError, match="group_weights") as caught:
        train(make_config(group_weights={"else": 1.0}))
    assert "made" in str(caught.value)


def test_the_rate_rises_then_falls() -> None:
    phase = PhaseConfig(steps=100, batch=8, learning_rate=2.0, warmup=10)
    rates = [learning_rate(phase, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == pytest.approx(2.0, rel=0.03)
    assert rates[50] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.02)


def test_the_running_mean_forgets_its_start() -> None:
    network = torch.nn.Linear(1, 1)
    network.weight.data.fill_(100)
    mean = running_mean(network, 0.9)
    network.weight.data.fill_(12)
    mean.update_parameters(network)
    assert float(mean.module.weight) == 12
    network.weight.data.fill_(0)
    mean.update_parameters(network)
    assert float(mean.module.weight) == pytest.approx(12 * 2 / 12)
    for _ in range(200):
        mean.update_parameters(network)
    network.weight.data.fill_(1)
    mean.update_parameters(network)
    assert float(mean.module.weight) == pytest.approx(0.1, abs=1e-3), "the share that is kept ends at 0.9"


def test_the_running_mean_takes_statistics_and_counts_of_batch_norms() -> None:
    norm = torch.nn.BatchNorm1d(2)
    mean = running_mean(norm, 0.9)
    for _ in range(3):
        norm(torch.randn(8, 2, generator=torch.Generator().manual_seed(1)) + 5)
        mean.update_parameters(norm)
    assert int(mean.module.num_batches_tracked) == 3
    assert 0 < float(mean.module.running_mean[0]) < float(norm.running_mean[0])


def test_a_run_with_other_settings_does_not_go_on_from_a_checkpoint(make_config: Callable[..., TrainingConfig]) -> None:
    phases = {"descriptor_phase": PhaseConfig(1, 4, 1e-3), "joint_phase": PhaseConfig(0, 4, 1e-3)}
    train(make_config(**phases))
    train(make_config(**phases, log_every=7, threads=2))
    with pytest.raises(UsageError, match=r"other settings \(seed\)"):
        train(make_config(**phases, seed=5))


def test_a_run_without_progress_ends_early(
    make_config: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([3.0, 2.0, 5.0, 4.0, 1.0])
    monkeypatch.setattr(loop, "score_of", lambda figures: next(scores))
    config = make_config(
        descriptor_phase=PhaseConfig(0, 4, 1e-3), joint_phase=PhaseConfig(9, 4, 1e-3), validate_every=1, patience=2
    )
    best = train(config)
    assert best is not None
    content = load_checkpoint(best)
    assert content is not None
    assert (content["step"], content["score"]) == (2, 2.0)
    assert records(config)[-1]["step"] == 4


def test_initial_weights_are_where_a_run_begins(
    make_config: Callable[..., TrainingConfig], make_network: Callable[..., RRLNet], tmp_path: Path
) -> None:
    given = make_network()
    save_weights(tmp_path / "given.safetensors", given.state_dict(), {})
    still = {"descriptor_phase": PhaseConfig(0, 4, 0.0), "joint_phase": PhaseConfig(0, 4, 0.0)}
    trainer = loop.Trainer(make_config(initial=str(tmp_path / "given.safetensors"), **still))
    state = trainer.net.state_dict()
    assert all(torch.allclose(value, state[name], atol=1e-2, rtol=1e-3) for name, value in given.state_dict().items())
    small = Architecture(width=0.5)
    with pytest.raises(InputError, match="make both the same"):
        loop.Trainer(
            make_config(
                initial=str(tmp_path / "given.safetensors"), architecture=small, output=tmp_path / "small", **still
            )
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"losses": LossConfig(near_misses=False, hard_negatives=False)},
        {"losses": LossConfig(descriptor=0.0, reconstruction=0.0)},
        {"losses": LossConfig(stage_heads=0.0, module_heads=0.0)},
        {"architecture": Architecture(0.5, attention=False, interaction=InteractionKind.DIFFERENCE)},
        {"optimizer": OptimizerConfig(kind=OptimizerKind.NADAM)},
        {"precision": Precision.BFLOAT16},
        {"families": ("nir",)},
    ],
)
def test_every_switch_of_the_ablation_trains(
    make_config: Callable[..., TrainingConfig], changes: dict[str, Any]
) -> None:
    config = make_config(
        descriptor_phase=PhaseConfig(0, 4, 1e-3),
        joint_phase=PhaseConfig(1, 4, 1e-3),
        **{"architecture": Architecture(0.25), **changes},
    )
    best = train(config)
    assert best is not None
    log = records(config)[0]
    assert math.isfinite(log["match"])
    losses = config.losses
    assert ("descriptor" in log, "reconstruction" in log) == (losses.descriptor > 0, losses.reconstruction > 0)
    content = load_checkpoint(best)
    assert content is not None
    assert Architecture.from_dict(content["architecture"]) == config.architecture


def test_families_that_the_data_have_not_are_refused(make_config: Callable[..., TrainingConfig]) -> None:
    with pytest.raises(InputError, match="families"):
        train(make_config(families=("sar",)))


def test_too_few_pairs_to_keep_any_are_trained_on_without_validation(
    make_config: Callable[..., TrainingConfig], data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "single"
    folder.mkdir()
    for name in sorted(data.glob("t*_vis.png"))[:1]:
        for file in (name, name.with_name(name.name.replace("_vis", "_other"))):
            (folder / file.name).write_bytes(file.read_bytes())
    config = make_config(
        data=(PairFolder(folder, family="nir"),),
        descriptor_phase=PhaseConfig(0, 4, 1e-3),
        joint_phase=PhaseConfig(1, 4, 1e-3),
        group_weights={},
    )
    best = train(config)
    assert best is not None
    assert best.name == "best.pt"
    assert not any("fpr95" in record for record in records(config))


def test_curves_are_written_for_tensorboard(make_config: Callable[..., TrainingConfig]) -> None:
    pytest.importorskip("tensorboard")
    config = make_config(
        tensorboard=True, descriptor_phase=PhaseConfig(1, 4, 1e-3), joint_phase=PhaseConfig(0, 4, 1e-3)
    )
    train(config)
    assert list((config.output / "tensorboard").glob("events.*"))


def test_progress_is_told_step_by_step(make_config: Callable[..., TrainingConfig]) -> None:
    told: list[tuple[int, int]] = []
    train(make_config(), progress=lambda step, total, figures: told.append((step, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
