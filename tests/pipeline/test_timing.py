"""Seconds by stage."""

from __future__ import annotations

import pytest

from rrl_register.pipeline import register as clock
from rrl_register.pipeline.register import StageClock


def test_a_stage_within_a_stage_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 4.0, 6.0, 10.0, 11.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    begun: list[str] = []
    timed = StageClock(begun.append)
    with timed("guided"), timed("load"):
        pass
    assert timed.seconds == {"load": 3.0, "guided": 3.0}
    with timed("load"):
        pass
    assert timed.seconds == {"load": 4.0, "guided": 3.0}
    assert begun == ["guided", "load", "load"]


def test_a_stage_that_ends_in_an_error_is_counted() -> None:
    timed = StageClock()
    with pytest.raises(ValueError, match="wrong"), timed("read"):
        raise ValueError("wrong")
    assert timed.seconds["read"] >= 0
