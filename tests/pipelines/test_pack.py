"""Packed training images: they come back as they went in, nearly, and train where little is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gpu_training.pack import Pack, write_pack
from rrl_register.errors import InputError, OutputExistsError
from rrl_register.training.bank import PairImages, ReadImages, Source, make_pair
from rrl_register.training.config import make_training_config

REPOSITORY = Path(__file__).resolve().parents[2]
MISSING = ("rasterio", "affine", "scipy", "sklearn")
"""Not installed on the machines that train."""


@dataclass(frozen=True)
class Held(Source):
    """A data set in memory: the first pairs train, the last one is kept."""

    pairs: tuple[PairImages, ...]

    def load(self, validation: bool) -> list[PairImages]:
        return list(self.pairs[-1:] if validation else self.pairs[:-1])


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return cv2.GaussianBlur(rng.integers(0, 256, shape, dtype=np.uint8), (0, 0), 2)


@pytest.fixture
def pairs(rng: np.random.Generator) -> Held:
    """One pair in colours, half of it without data, a grey one, and a stack of 300 patches."""
    valid = np.ones((130, 150), bool)
    valid[:, :70] = False
    colours = smooth(rng, 130, 150, 3).transpose(2, 0, 1)
    grey, other = smooth(rng, 130, 150)[None], smooth(rng, 130, 150)[None].astype(np.float32)
    patches = np.stack([[smooth(rng, 64, 64)] * 2 for _ in range(300)])
    patches[:, 1] = 255 - patches[:, 1]
    return Held(
        (
            make_pair("made/1", "nir", "made", ReadImages(np.ascontiguousarray(colours), other, valid)),
            PairImages("cut/1", "nir", "cut", torch.from_numpy(patches), None),
            make_pair("made/2", "sar", "radar", ReadImages(grey, other, np.ones_like(valid))),
        )
    )


def test_pairs_come_back_as_they_went_in(pairs: Held, tmp_path: Path) -> None:
    done = write_pack(tmp_path / "a.pack", [pairs], quality=95)
    assert (done.pairs, done.size, done.quality) == (302, (tmp_path / "a.pack").stat().st_size, 95)
    pack = Pack(tmp_path / "a.pack")
    for validation in (False, True):
        loaded = pack.load(validation)
        assert [(p.name, p.family, p.group) for p in loaded] == [
            (p.name, p.family, p.group) for p in pairs.load(validation)
        ]
        for back, before in zip(loaded, pairs.load(validation), strict=True):
            assert back.planes.shape == before.planes.shape
            assert float((back.planes.float() - before.planes.float()).abs().mean()) < 3
            assert (back.points is None) == (before.points is None)
            if back.points is not None and before.points is not None:
                assert set(map(tuple, back.points.tolist())) == set(map(tuple, before.points.tolist()))
                assert torch.equal(back.valid, before.valid)


def test_quality_is_lowered_until_the_pack_fits(pairs: Held, tmp_path: Path) -> None:
    best = write_pack(tmp_path / "best.pack", [pairs], quality=90)
    limit = 0.7 * best.size / 2**20
    done = write_pack(tmp_path / "small.pack", [pairs], quality=90, max_mib=limit)
    assert done.size <= limit * 2**20
    assert 30 <= done.quality < 90
    better = write_pack(tmp_path / "better.pack", [pairs], quality=done.quality + 4)
    assert better.size > limit * 2**20


def test_what_never_fits_is_refused_and_leaves_nothing(pairs: Held, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 pairs need .* at most 0\.0 MiB"):
        write_pack(tmp_path / "a.pack", [pairs], max_mib=0.001)
    with pytest.raises(InputError, match="no pairs to pack"):
        write_pack(tmp_path / "a.pack", [])
    assert list(tmp_path.iterdir()) == []


def test_a_pack_is_not_replaced_unasked(pairs: Held, tmp_path: Path) -> None:
    write_pack(tmp_path / "a.pack", [pairs], quality=30)
    with pytest.raises(OutputExistsError):
        write_pack(tmp_path / "a.pack", [pairs])
    assert write_pack(tmp_path / "a.pack", [pairs], quality=40, overwrite=True).quality == 40


def test_images_too_large_for_the_format_are_named(tmp_path: Path) -> None:
    planes = torch.zeros(1, 2, 8, 17_000, dtype=torch.uint8)
    wide = PairImages("made/1", "nir", "made", planes, torch.zeros(0, 2))
    with pytest.raises(InputError, match=r"17000 x 8 px cannot be packed"):
        write_pack(tmp_path / "a.pack", [Held((wide, wide))])


@pytest.mark.parametrize("content", [b"", b"nothing of ours", (8).to_bytes(8, "little") + b'{"a":{}}'])
def test_a_foreign_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pack").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pack") as caught:
        Pack(tmp_path / "a.pack").load(False)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="gone"):
        Pack(tmp_path / "gone").load(False)


def test_a_pack_trains_where_rasters_cannot_be_read(pairs: Held, tmp_path: Path) -> None:
    write_pack(tmp_path / "a.pack", [pairs], quality=50)
    program = f"""
import sys
for name in {MISSING!r}:
    sys.modules[name] = None
from pathlib import Path
from gpu_training.pack import Pack
from rrl_register.training.config import make_training_config
from rrl_register.training.loop import train
phase = {{"steps": 1, "batch": 4, "learning_rate": 1e-3}}
settings = {{"data": Pack(Path("a.pack")), "output": "run", "descriptor_phase": phase,
             "joint_phase": phase | {{"steps": 0}}, "device": "cpu", "threads": 1, "validation_batches": 1}}
print(train(make_training_config(settings)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "pipelines")])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(Path("run") / "checkpoint.pt")]


def test_a_pack_may_lie_anywhere() -> None:
    here, there = (make_training_config({"data": Pack(Path(name)), "output": "b"}) for name in ("one", "two"))
    assert here.recipe() == there.recipe()
    assert here.settings() != there.settings()
