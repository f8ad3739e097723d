"""Which threads of reads rest, and what has them back."""

import threading
import time
from collections.abc import Iterator

import pytest

from tests.together import PATIENCE, eventually
from users.api import reserve
from users.api.reserve import HANDING_OVER, STUCK_SECONDS, WORK_SECONDS, LastAnswer, Reserve

QUICK = WORK_SECONDS / 2
ENOUGH = HANDING_OVER + 1
"""Where what is quickest is waiting for nobody."""


def under_way(number: int, *, for_seconds: float = 0.0) -> dict[int, float]:
    return dict.fromkeys(range(number), time.perf_counter() - for_seconds)


@pytest.fixture
def ours() -> Reserve:
    """One that has seen a quick read of each kind."""
    ours = Reserve()
    for remembered in (True, False):
        assert not ours.can_spare(QUICK, remembered=remembered, others={})
    return ours


@pytest.mark.parametrize("remembered", [True, False])
def test_who_is_one_too_many_can_be_spared(ours: Reserve, remembered: bool) -> None:
    slow = 100 * QUICK
    assert not ours.can_spare(slow, remembered=remembered, others=under_way(ENOUGH - 1))
    assert ours.can_spare(slow, remembered=remembered, others=under_way(ENOUGH))


def test_reads_that_are_stuck_keep_nobody_from_his_work(ours: Reserve) -> None:
    """Or the few that answer would rest, while those who wait for PostgreSQL go on waiting."""
    stuck = under_way(50, for_seconds=STUCK_SECONDS * 2)
    assert not ours.can_spare(QUICK, remembered=True, others=stuck)
    at_work = {-number: began for number, began in under_way(ENOUGH).items()}
    assert ours.can_spare(QUICK, remembered=True, others=stuck | at_work)


@pytest.mark.parametrize("remembered", [True, False])
def test_where_even_the_shortest_waits_for_long_more_are_needed(remembered: bool) -> None:
    """As with a Redis that is far off."""
    far = Reserve()
    waits = 10 * WORK_SECONDS
    assert not far.can_spare(waits, remembered=remembered, others=under_way(HANDING_OVER + 9))
    assert far.can_spare(waits, remembered=remembered, others=under_way(HANDING_OVER + 10))


def test_what_is_remembered_and_what_is_not_have_each_their_own_measure(ours: Reserve) -> None:
    far = Reserve()
    assert not far.can_spare(QUICK, remembered=True, others={})
    assert not far.can_spare(10 * WORK_SECONDS, remembered=False, others=under_way(ENOUGH))
    assert far.can_spare(10 * WORK_SECONDS, remembered=True, others=under_way(ENOUGH))


def test_how_short_it_once_was_is_forgotten(ours: Reserve) -> None:
    """As when Redis moves away."""
    waits = 10 * WORK_SECONDS
    for _ in range(100_000):
        if not ours.can_spare(waits, remembered=True, others=under_way(ENOUGH)):
            return
    pytest.fail("It is remembered for ever.")


def let_go_of_an_answer(ours: Reserve) -> None:
    """As a server does when it is sent."""
    answer = LastAnswer(b"{}", ours)
    assert b"".join(answer) == b"{}"


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Reserve, list[threading.Thread]]]:
    """Three threads, with nothing but a call to have them back."""
    monkeypatch.setattr(reserve, "REST_SECONDS", (PATIENCE, PATIENCE))
    ours = Reserve()
    threads = [threading.Thread(target=let_go_of_an_answer, args=[ours], daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(ours.resting) == len(threads))
    yield ours, threads
    while ours.resting:
        ours.call()
    for thread in threads:
        thread.join(PATIENCE)


def test_each_call_has_one_back(at_rest: tuple[Reserve, list[threading.Thread]]) -> None:
    ours, threads = at_rest
    for left in (2, 1, 0):
        ours.call()
        eventually(lambda left=left: sum(thread.is_alive() for thread in threads) == left)  # type: ignore[misc]
        assert len(ours.resting) == left
    ours.call()  # nobody is left, and nobody minds


def test_a_rest_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve, "REST_SECONDS", (0.001, 0.002))
    ours = Reserve()
    let_go_of_an_answer(ours)
    assert not ours.resting
