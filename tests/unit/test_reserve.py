"""Which threads of reads rest, and what has them back."""

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from granian.wsgi import _callback_wrapper

from tests.together import PATIENCE, eventually
from users.api import reserve
from users.api.reserve import FEW, GRANIAN, LOOK_SECONDS, REST_SECONDS, LastAnswer, Reserve, worked_by
from users.infrastructure.passwords.bulkhead import HASHING


class Clock:
    """Of the wall, and of the processor, which does a share of the time."""

    def __init__(self) -> None:
        self.now = self.worked = 0.0

    def go_on(self, seconds: float, *, share: float) -> None:
        self.now += seconds
        self.worked += share * seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(time, "process_time", lambda: clock.worked)
    monkeypatch.setattr(reserve, "worked_by", lambda _: 0.0)
    return clock


@pytest.fixture
def ours(clock: Clock) -> Reserve:
    return Reserve()


def enough(ours: Reserve) -> int:
    """How many others there have to be, for one to rest."""
    return next(others for others in range(1000) if ours.can_spare(others=others))


def look(ours: Reserve, clock: Clock, *, share: float, others: int = 100) -> None:
    clock.go_on(LOOK_SECONDS * 1.01, share=share)
    ours.can_spare(others=others)


def away(ours: Reserve, number: int) -> ExitStack:
    """So many threads that wait for PostgreSQL, until the stack is closed."""
    stack, here, go = ExitStack(), threading.Semaphore(0), threading.Event()

    def wait() -> None:
        with ours.away():
            here.release()
            go.wait(PATIENCE)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
        stack.callback(thread.join, PATIENCE)
        assert here.acquire(timeout=PATIENCE)
    stack.callback(go.set)
    return stack


def test_a_few_are_enough_while_the_processor_is_busy(ours: Reserve, clock: Clock) -> None:
    for _ in range(10):
        look(ours, clock, share=1.0)
        assert enough(ours) == FEW


def test_where_the_processor_has_time_left_more_are_and_then_fewer_again(ours: Reserve, clock: Clock) -> None:
    """As with a Redis that is far off."""
    for more in range(1, 11):
        look(ours, clock, share=0.9)
        assert enough(ours) == FEW + more
    for more in (9, 8, 7):
        look(ours, clock, share=1.0)
        assert enough(ours) == FEW + more


def test_there_are_never_more_wanted_than_there_are(ours: Reserve, clock: Clock) -> None:
    for _ in range(20):
        look(ours, clock, share=0.1, others=5)
    assert enough(ours) == FEW + 5
    look(ours, clock, share=0.1, others=0)  # a pause takes nothing of it away
    assert enough(ours) == FEW + 5


def test_hashes_are_no_work_of_the_interpreters(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "worked_by", lambda it: clock.worked / 2 if it == hashing.native_id else 0.0)
    end = threading.Event()
    hashing = threading.Thread(target=end.wait, args=[PATIENCE], name=f"{HASHING}_0", daemon=True)
    hashing.start()
    ours = Reserve()
    look(ours, clock, share=1.0)
    end.set()
    assert enough(ours) == FEW + 1


def test_what_a_thread_has_worked_is_what_the_system_says_of_it() -> None:
    before = time.thread_time()
    told = worked_by(threading.get_native_id())
    assert before <= told <= time.thread_time() if sys.platform == "linux" else told == 0


def test_a_thread_that_has_ended_has_worked_nothing() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert thread.native_id
    eventually(lambda: worked_by(thread.native_id or 0) == 0)


def test_it_is_looked_after_a_while_only(ours: Reserve, clock: Clock) -> None:
    clock.go_on(LOOK_SECONDS * 0.99, share=0.1)
    assert enough(ours) == FEW


def test_for_each_who_waits_for_postgresql_there_is_another(ours: Reserve) -> None:
    with away(ours, 7):
        assert enough(ours) == FEW + 7
    assert enough(ours) == FEW + 7  # so many they were lately


def test_how_many_they_were_is_forgotten(ours: Reserve) -> None:
    with away(ours, 7):
        pass
    for _ in range(50_000):
        ours.can_spare(others=0)
    assert enough(ours) == FEW


# --- Rests ----------------------------------------------------------------------------------------------


def let_go_of_an_answer(ours: Reserve) -> None:
    """As a server does when it is sent."""
    answer = LastAnswer(b"{}", ours)
    assert b"".join(answer) == b"{}"


class AtRest:
    """Three threads, with nothing but a call to have them back."""

    def __init__(self, ours: Reserve) -> None:
        self.ours = ours
        self.threads = [
            threading.Thread(target=let_go_of_an_answer, args=[ours], daemon=True) for _ in range(3)
        ]
        for thread in self.threads:
            thread.start()
        eventually(lambda: len(ours.resting) == 3)

    def are(self, number: int) -> bool:
        return number == len(self.ours.resting) == sum(thread.is_alive() for thread in self.threads)


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch, ours: Reserve) -> Iterator[AtRest]:
    monkeypatch.setattr(reserve, "REST_SECONDS", (3 * PATIENCE, 3 * PATIENCE))
    at_rest = AtRest(ours)
    yield at_rest
    while ours.resting:
        ours.call()
    for thread in at_rest.threads:
        thread.join(PATIENCE)


def test_each_call_has_one_back(at_rest: AtRest) -> None:
    for left in (2, 1, 0):
        at_rest.ours.call()
        eventually(lambda left=left: at_rest.are(left))
    at_rest.ours.call()  # nobody is left, and nobody minds


def test_whoever_is_the_first_to_wait_has_one_back_and_later_ones_have_theirs(at_rest: AtRest) -> None:
    with away(at_rest.ours, 1):
        eventually(lambda: at_rest.are(2))
    with away(at_rest.ours, 1):  # whose place is taken by the one who is back
        eventually(lambda: at_rest.are(2))
        with away(at_rest.ours, 1):
            eventually(lambda: at_rest.are(1))


def test_time_to_spare_has_one_back(at_rest: AtRest, clock: Clock) -> None:
    look(at_rest.ours, clock, share=0.5)
    eventually(lambda: at_rest.are(2))
    look(at_rest.ours, clock, share=1.0)
    assert at_rest.are(2)


def test_a_rest_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(REST_SECONDS) <= 2
    monkeypatch.setattr(reserve, "REST_SECONDS", (0.001, 0.002))
    ours = Reserve()
    let_go_of_an_answer(ours)
    assert not ours.resting


def test_a_call_just_as_a_rest_ends_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "REST_SECONDS", (0.0, 0.0002))
    ours, rests = Reserve(), 300

    def call() -> None:
        for _ in range(rests):
            ours.call()
            time.sleep(random.uniform(0, 0.0002))

    def rest() -> None:
        for _ in range(rests):
            ours.rest()

    with ThreadPoolExecutor(5) as pool:
        for done in [pool.submit(act) for act in (rest, rest, rest, call, call)]:
            done.result(PATIENCE)
    assert not ours.resting


def test_granian_sends_an_answer_before_its_thread_rests() -> None:
    done: list[str] = []

    class Ours(Reserve):
        def rest(self) -> None:
            done.append("rested")

    class Protocol:
        def response_bytes(self, status: int, headers: object, body: bytes) -> None:
            done.append(f"sent {body.decode()}")

    ours = Ours()

    def application(environ: dict[str, Any], start: object) -> list[bytes]:
        assert environ["SERVER_SOFTWARE"] == GRANIAN
        return LastAnswer(b"{}", ours)

    _callback_wrapper(application, {})(Protocol(), {})
    assert done == ["sent {}", "rested"]
