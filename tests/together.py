"""Several threads at once, and waiting for what others bring about: with a deadline, never a fixed sleep.

Nobody waits longer for having more time, so there is as much as pytest leaves: a test fails because something
does not happen, not because the machine was busy with others."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

PATIENCE = 60
"""Seconds, for what comes in milliseconds unless something is broken; half of what a test may take."""


def together(acts: Iterable[Callable[[], Any]], *, seconds: float = PATIENCE) -> list[Any]:
    """Runs each in a thread of its own, all let loose at the same moment, each with its own connection to
    PostgreSQL. Answers what they returned, or the exception that they raised, in order."""
    acts = list(acts)
    outcomes: list[Any] = [None] * len(acts)
    gate = threading.Barrier(len(acts))

    def run(number: int, act: Callable[[], Any]) -> None:
        try:
            gate.wait(seconds)
            outcomes[number] = act()
        except Exception as error:  # noqa: BLE001
            outcomes[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
        assert not thread.is_alive(), "a thread does not come back"
    return outcomes


@contextmanager
def in_background(act: Callable[[threading.Event], Any], *, seconds: float = PATIENCE) -> Iterator[None]:
    """Runs `act(stop)` in a thread while the block runs; then `stop` is set, and what it raised is raised."""
    stop, raised = threading.Event(), []

    def run() -> None:
        try:
            act(stop)
        except Exception as error:  # noqa: BLE001
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(seconds)
    assert not thread.is_alive(), "the thread in the background does not stop"
    if raised:
        raise raised[0]


def eventually(check: Callable[[], Any], *, seconds: float = PATIENCE, every: float = 0.01) -> Any:
    """The first true answer of `check`. Fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        assert time.monotonic() < deadline, f"{check} did not come true in {seconds} s"
        time.sleep(every)
