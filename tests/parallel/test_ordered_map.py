"""Work in threads whose results are taken in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from rrl_register.parallel import ordered_map, ordered_threads


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert list(ordered_map(work, range(30), threads)) == [item * item for item in range(30)]


def test_work_is_done_in_several_threads() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(ordered_map(lambda item: meeting.wait(), range(6), 3))) == 6


def test_few_results_are_in_memory_at_a_time() -> None:
    begun: list[int] = []
    results = ordered_map(begun.append, range(100), 2)
    for taken in range(1, 20):
        next(results)
        assert len(begun) <= taken + 4
    results.close()
    assert len(begun) < 30


def test_an_error_arrives_in_its_turn_and_stops_what_was_not_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ZeroDivisionError("item 3")
        return item

    taken = []
    with pytest.raises(ZeroDivisionError, match="item 3"):
        for result in ordered_map(work, range(1000), 2):
            taken.append(result)
    assert taken == [0, 1, 2]
    assert len(begun) < 20


def test_nothing_to_do_is_done_at_once() -> None:
    assert list(ordered_map(str, [], 2)) == []


def test_there_is_a_thread_for_each_core_within_reason() -> None:
    assert 1 <= ordered_threads() <= 8


def test_items_are_taken_as_results_are() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    results = ordered_map(str, items(), 2)
    assert not taken  # not before the first result is requested
    assert next(results) == "0"
    assert len(taken) == 4
    results.close()


def test_closing_waits_for_what_runs() -> None:
    running, ended = threading.Event(), []

    def work(item: int) -> int:
        if item:
            running.set()
            time.sleep(0.05)
            ended.append(item)
        return item

    results = ordered_map(work, range(3), 1)
    assert next(results) == 0
    assert running.wait(10)
    results.close()
    assert 1 in ended
    assert not any(thread.name.startswith("rrl-ordered") for thread in threading.enumerate())
