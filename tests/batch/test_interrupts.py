"""Workers that end with their parent."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection

from rrl_register.batch.executors import end_with_parent


def sleep_long(lifeline: Connection, started: Connection) -> None:
    end_with_parent(lifeline)
    started.send("started")
    time.sleep(600)


def test_a_process_ends_as_soon_as_the_other_end_closes() -> None:
    context = multiprocessing.get_context("spawn")
    lifeline, own_end = context.Pipe(duplex=False)
    receiver, started = context.Pipe(duplex=False)
    process = context.Process(target=sleep_long, args=(lifeline, started))
    process.start()
    try:
        assert receiver.recv() == "started"
        assert process.is_alive()
        own_end.close()
        process.join(60)
        assert process.exitcode == 1
    finally:
        process.kill()
        process.join()
