"""A run carried between machines: small files, checked, from which it goes on nearly as if it had stayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gpu_training.slices import MANIFEST, expanded, read_slice, reduced, write_slice
from rrl_register.errors import InputError
from rrl_register.nn.rrlnet import RRLNet
from rrl_register.training.run_files import save_checkpoint

torch.set_num_threads(1)


def checkpoint(n: int = 5000) -> dict[str, Any]:
    """What the training loop saves, of a network of one large and one small tensor."""
    generator = torch.Generator().manual_seed(2)
    large, small = 0.05 * torch.randn(n, generator=generator), torch.randn(3, generator=generator)
    state = {"weight": large, "bias": small, "count": torch.tensor(7)}
    spread = torch.exp(5 * torch.randn(n, generator=generator) - 20).clamp(min=1e-28)
    moments = {"step": torch.tensor(9.0), "exp_avg": large * 0.01, "exp_avg_sq": spread}
    few = {"step": torch.tensor(9.0), "exp_avg": small, "exp_avg_sq": small.square()}
    return {
        "step": 9,
        "score": None,
        "architecture": {},
        "network": state,
        "mean": {name: value + 0 for name, value in state.items()},
        "optimizer": {"state": {0: moments, 1: few}, "param_groups": [{"lr": 0.1}]},
        "generator": torch.Generator().get_state(),
        "best_score": 1.5,
    }


def test_a_run_goes_on_with_nearly_the_same_numbers() -> None:
    before = checkpoint()
    after = expanded(reduced(before))
    for part in ("network", "mean"):
        assert {v.dtype for v in after[part].values()} == {torch.float32, torch.int64}
        assert torch.allclose(after[part]["weight"], before[part]["weight"], rtol=6e-4, atol=1e-7)
        assert torch.equal(after[part]["bias"], before[part]["bias"])
        assert int(after[part]["count"]) == 7
    large, few = after["optimizer"]["state"][0], after["optimizer"]["state"][1]
    second = before["optimizer"]["state"][0]["exp_avg_sq"]
    told_apart = second > second.max() * 2.0**-39
    assert 0.5 < float(told_apart.float().mean()) < 1
    ratio = large["exp_avg_sq"][told_apart] / second[told_apart]
    assert float((ratio - 1).abs().max()) < 0.06
    assert float((large["exp_avg_sq"] / second).min()) > 0.94
    assert torch.equal(large["exp_avg"], torch.zeros(5000))
    assert float(large["step"]) == 9
    assert torch.equal(few["exp_avg"], before["optimizer"]["state"][1]["exp_avg"])
    for name in ("step", "best_score", "score", "generator"):
        assert after[name] is before[name] or torch.equal(after[name], before[name])


def test_moments_of_zero_stay_zero() -> None:
    before = checkpoint()
    second = before["optimizer"]["state"][0]["exp_avg_sq"]
    second[:7] = 0
    after = expanded(reduced(before))["optimizer"]["state"][0]["exp_avg_sq"]
    assert torch.equal(after == 0, second == 0)
    second[:] = 0
    assert not expanded(reduced(before))["optimizer"]["state"][0]["exp_avg_sq"].any()


def test_an_optimizer_takes_what_comes_back() -> None:
    layer = torch.nn.Linear(100, 100)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    content = checkpoint() | {"optimizer": optimizer.state_dict()}
    again = torch.optim.AdamW(layer.parameters())
    again.load_state_dict(expanded(reduced(content))["optimizer"])
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 100)).sum().backward()
    again.step()
    assert 0 < float((layer.weight.detach() - before).abs().max()) < 2e-3


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with a checkpoint of small tensors, the best weights and a log."""
    folder = tmp_path / "run"
    folder.mkdir()
    net = RRLNet()
    save_checkpoint(folder / "checkpoint.pt", checkpoint())
    best = {"step": 5, "score": 1.5, "mean": net.state_dict(), "architecture": net.architecture.to_dict()}
    save_checkpoint(folder / "best.pt", best)
    (folder / "log.jsonl").write_text('{"step": 9}\n')
    return folder


def test_a_run_is_put_together_again(run: Path, tmp_path: Path) -> None:
    files = write_slice(run, tmp_path / "out", piece_mib=15.5)
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert len(files) <= 8
    assert max(file.stat().st_size for file in files) < 16 * 2**20
    assert read_slice(tmp_path / "out", tmp_path / "again") == 9
    again = torch.load(tmp_path / "again" / "checkpoint.pt", weights_only=True)
    assert again.keys() == checkpoint().keys()
    best = torch.load(tmp_path / "again" / "best.pt", weights_only=True)
    whole = torch.load(run / "best.pt", weights_only=True)
    assert (best["step"], best["score"], best["architecture"]) == (5, 1.5, whole["architecture"])
    assert best["mean"].keys() == RRLNet(training_heads=False).state_dict().keys()
    assert all(torch.allclose(v, whole["mean"][k], rtol=1e-3, atol=1e-6) for k, v in best["mean"].items())
    assert (tmp_path / "again" / "log.jsonl").read_text() == '{"step": 9}\n'


def test_a_finished_run_leaves_its_weights_alone(run: Path, tmp_path: Path) -> None:
    whole, finished = (
        sum(f.stat().st_size for f in write_slice(run, tmp_path / name, name == "done")) for name in ("out", "done")
    )
    assert finished < whole
    assert read_slice(tmp_path / "done", tmp_path / "again") == 9
    assert (tmp_path / "again" / "best.pt").is_file()
    assert not (tmp_path / "again" / "checkpoint.pt").exists()


def test_a_later_slice_replaces_an_earlier_one(run: Path, tmp_path: Path) -> None:
    many = write_slice(run, tmp_path / "out", piece_mib=4)
    (run / "best.pt").unlink()
    few = write_slice(run, tmp_path / "out", piece_mib=4)
    assert len(few) < len(many)
    assert sorted(few) == sorted((tmp_path / "out").iterdir())
    assert read_slice(tmp_path / "out", tmp_path / "again") == 9
    assert not (tmp_path / "again" / "best.pt").exists()


def test_damaged_and_missing_pieces_are_named(run: Path, tmp_path: Path) -> None:
    piece = write_slice(run, tmp_path / "out")[0]
    content = piece.read_bytes()
    piece.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"state\.00 is damaged"):
        read_slice(tmp_path / "out", tmp_path / "again")
    piece.unlink()
    with pytest.raises(InputError, match="no complete slice"):
        read_slice(tmp_path / "out", tmp_path / "again")
    (tmp_path / "out" / MANIFEST).write_text(json.dumps([]))
    with pytest.raises(InputError, match="no complete slice"):
        read_slice(tmp_path / "out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_slice_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train first"):
        write_slice(tmp_path, tmp_path / "out")
