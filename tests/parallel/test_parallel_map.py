"""Work that threads share, which are kept."""

from __future__ import annotations

import os
import threading

import cv2
import pytest

from rrl_register.parallel import MAX_POOL_THREADS, parallel_map, pool_threads


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getNumThreads", lambda: 3)


def test_results_come_in_the_order_of_the_items() -> None:
    assert parallel_map(lambda item: item * item, range(50)) == [item * item for item in range(50)]
    assert parallel_map(str, []) == []


def test_several_work_at_a_time_and_the_caller_is_one_of_them() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def work(_: int) -> str:
        meeting.wait()
        return threading.current_thread().name

    names = set(parallel_map(work, range(3)))
    assert len(names) == 3 and threading.current_thread().name in names


def test_threads_are_kept() -> None:
    def work(_: int) -> int:
        return threading.get_ident()

    found = {ident for _ in range(40) for ident in parallel_map(work, range(3))}
    assert len(found) <= MAX_POOL_THREADS


def test_one_thread_is_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getNumThreads", lambda: 0)
    assert pool_threads() == 1
    assert set(parallel_map(lambda _: threading.get_ident(), range(9))) == {threading.get_ident()}


def test_work_may_share_out_its_own() -> None:
    def deep(level: int) -> int:
        return 1 if level == 0 else sum(parallel_map(deep, [level - 1] * 4))

    assert sum(parallel_map(deep, [3] * (2 * MAX_POOL_THREADS))) == 2 * MAX_POOL_THREADS * 4**3


def test_an_error_is_raised_and_stops_what_was_not_begun() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 5:
            raise ZeroDivisionError("item 5")
        done.append(item)

    with pytest.raises(ZeroDivisionError, match="item 5"):
        parallel_map(work, range(100_000))
    assert len(done) < 100_000 - 1
    assert parallel_map(str, range(3)) == ["0", "1", "2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no such system call")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    meeting = threading.Barrier(2, timeout=10)
    parallel_map(lambda _: meeting.wait(), range(2))
    child = os.fork()
    if child == 0:
        try:
            again = threading.Barrier(2, timeout=10)
            parallel_map(lambda _: again.wait(), range(2))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_first_of_several_errors_is_raised() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def work(item: int) -> None:
        meeting.wait()
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        parallel_map(work, range(3))
