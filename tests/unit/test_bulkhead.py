"""The bulkhead around hashing, with work that stands still until it is let go: who gets in, in which order,
in which thread, and what becomes of those who do not."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import pytest

from tests.together import eventually
from users.application.errors import Unavailable
from users.infrastructure.passwords import bulkhead as module
from users.infrastructure.passwords.bulkhead import Bulkhead

ROOT = Path(__file__).resolve().parents[2]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")


def nothing() -> None:
    """Work that is done at once."""


def enter(bulkhead: Bulkhead, work: Callable[[], object] = nothing, *, wait_seconds: float = 60) -> object:
    with bulkhead.room():
        return bulkhead.run(work, wait_seconds=wait_seconds)


def in_thread(act: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        with suppress(Unavailable):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@contextmanager
def held(bulkhead: Bulkhead, places: int = 1) -> Iterator[None]:
    """All its places are taken while the block runs."""
    go, under_way = threading.Event(), threading.Semaphore(0)

    def stand() -> None:
        under_way.release()
        go.wait(60)

    threads = [in_thread(lambda: enter(bulkhead, stand)) for _ in range(places)]
    assert all(under_way.acquire(timeout=60) for _ in threads)
    try:
        yield
    finally:
        go.set()
        for thread in threads:
            thread.join(60)


def queued(bulkhead: Bulkhead, act: Callable[[], object]) -> threading.Thread:
    """A thread that waits for its turn, behind all who waited before."""
    before = len(bulkhead._turns)
    thread = in_thread(act)
    eventually(lambda: len(bulkhead._turns) > before)
    return thread


def test_work_is_done_in_a_thread_of_its_own_and_its_answer_comes_back() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=0)
    thread = enter(bulkhead, threading.current_thread)

    assert thread is not threading.current_thread()
    assert enter(bulkhead, threading.current_thread) is thread


def test_what_work_raises_comes_back_and_its_place_is_free_again() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            enter(bulkhead, lambda: 1 // 0, wait_seconds=0)


def test_no_more_works_at_once_than_there_are_places_and_all_of_it_gets_done() -> None:
    bulkhead, lock = Bulkhead(concurrency=2, queue=18), threading.Lock()
    running, most, done = 0, 0, 0

    def work() -> None:
        nonlocal running, most, done
        with lock:
            running, most = running + 1, max(most, running + 1)
        with lock:
            running, done = running - 1, done + 1

    threads = [in_thread(lambda: enter(bulkhead, work)) for _ in range(20)]
    for thread in threads:
        thread.join(60)
    assert (most <= 2, done) == (True, 20)


def test_turns_come_in_the_order_of_asking() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=8)
    order: list[int] = []

    def call(number: int) -> None:
        enter(bulkhead, lambda: order.append(number))

    with held(bulkhead):
        threads = [queued(bulkhead, partial(call, number)) for number in range(8)]
    for thread in threads:
        thread.join(60)
    assert order == list(range(8))


def test_who_finds_no_room_is_told_at_once() -> None:
    bulkhead = Bulkhead(concurrency=2, queue=1)
    with held(bulkhead, 2):
        waiting = queued(bulkhead, lambda: enter(bulkhead))
        for _ in range(3):
            with pytest.raises(Unavailable) as refusal:
                enter(bulkhead)
            assert refusal.value.retry_after == 2
    waiting.join(60)
    with bulkhead.room(), bulkhead.room(), bulkhead.room(), pytest.raises(Unavailable):
        enter(bulkhead)  # as many as before find a room, and no more


def test_who_waits_too_long_is_told_and_leaves_nothing_behind() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=2)
    done: list[str] = []
    with held(bulkhead):
        with pytest.raises(Unavailable) as refusal, bulkhead.room():
            bulkhead.run(lambda: done.append("work"), wait_seconds=0.01, first=lambda: done.append("first"))
        assert refusal.value.retry_after == 5
        behind = queued(bulkhead, lambda: enter(bulkhead, lambda: done.append("behind")))
    behind.join(60)
    assert done == ["behind"]
    assert enter(bulkhead, lambda: "free", wait_seconds=0) == "free"


def test_who_would_not_wait_is_told_at_once_and_never_overtakes() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=2)
    with held(bulkhead):
        waiting = queued(bulkhead, lambda: enter(bulkhead))
        with pytest.raises(Unavailable):
            enter(bulkhead, wait_seconds=0)
        assert len(bulkhead._turns) == 1
    waiting.join(60)


def test_a_turn_that_comes_at_the_last_moment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    bulkhead = Bulkhead(concurrency=1, queue=1)
    free = threading.Event()

    class Late(threading.Event):
        """Says that the time is over although the turn came meanwhile."""

        def wait(self, timeout: float | None = None) -> bool:
            free.set()
            assert super().wait(60)
            return False

    with held(bulkhead):
        monkeypatch.setattr(threading, "Event", Late)
        answers: list[object] = []
        thread = in_thread(lambda: answers.append(enter(bulkhead, lambda: "late")))
        assert free.wait(60)
        monkeypatch.undo()
    thread.join(60)
    assert answers == ["late"]
    assert enter(bulkhead, lambda: "free", wait_seconds=0) == "free"


def test_first_runs_in_the_callers_thread_when_his_turn_has_come() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=1)
    seen: list[threading.Thread] = []

    def first() -> None:
        seen.append(threading.current_thread())

    def call() -> None:
        with bulkhead.room():
            bulkhead.run(nothing, wait_seconds=60, first=first)

    with held(bulkhead):
        caller = queued(bulkhead, call)
        assert seen == []
    caller.join(60)
    assert seen == [caller]


def test_what_first_raises_saves_the_work_and_frees_the_place() -> None:
    bulkhead = Bulkhead(concurrency=1, queue=0)
    done: list[str] = []
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), bulkhead.room():
            bulkhead.run(lambda: done.append("work"), wait_seconds=0, first=lambda: 1 // 0)
    assert done == []


def test_work_that_takes_too_long_keeps_its_place_but_not_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    bulkhead, go = Bulkhead(concurrency=1, queue=1), threading.Event()
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.01)
    with pytest.raises(Unavailable):
        enter(bulkhead, lambda: go.wait(60))
    with pytest.raises(Unavailable):
        enter(bulkhead, wait_seconds=0)
    go.set()
    assert eventually(lambda: bulkhead._places)


def test_its_threads_start_when_they_are_needed_and_are_no_more_than_its_places() -> None:
    def hashing() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name.startswith("hashing")}

    before = hashing()
    bulkhead = Bulkhead(concurrency=2, queue=8)
    assert hashing() == before
    with held(bulkhead, 2):
        assert len(hashing() - before) == 2
    for _ in range(5):
        enter(bulkhead)
    assert len(hashing() - before) == 2


def test_work_knows_whose_request_it_belongs_to() -> None:
    """The log takes the request id from there."""
    request: ContextVar[str] = ContextVar("request")
    request.set("abc")
    assert enter(Bulkhead(concurrency=1, queue=0), request.get) == "abc"


def own_priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@on_linux
def test_others_go_first_and_only_its_own_threads_are_lowered() -> None:
    before = own_priority()
    assert enter(Bulkhead(concurrency=1, queue=0, niceness=5), own_priority) == before + 5
    assert enter(Bulkhead(concurrency=1, queue=0), own_priority) == before
    assert own_priority() == before


@on_linux
def test_where_priorities_may_not_be_changed_work_is_done_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    assert enter(Bulkhead(concurrency=1, queue=0, niceness=5), own_priority) == own_priority()


def test_elsewhere_a_priority_would_be_that_of_the_process_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[object] = []
    monkeypatch.setattr(os, "setpriority", lambda *to: changed.append(to), raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert enter(Bulkhead(concurrency=1, queue=0, niceness=5), lambda: "done") == "done"
    assert changed == []


ENDING = """
import threading, time
from users.infrastructure.passwords.bulkhead import Bulkhead
bulkhead, begun = Bulkhead(concurrency=1, queue=5), threading.Event()
def call():
    with bulkhead.room():
        bulkhead.run(lambda: (begun.set(), time.sleep(0.3)), wait_seconds=60)
for _ in range(6):
    threading.Thread(target=call, daemon=True).start()
begun.wait(60)
"""


def test_a_process_ends_although_others_wait_for_their_turn() -> None:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"}
    subprocess.run([sys.executable, "-c", ENDING], cwd=ROOT, env=environment, timeout=60, check=True)
