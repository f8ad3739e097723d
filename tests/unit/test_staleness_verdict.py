"""The judge of the staleness checker: what is guilty, and how little the stated exception excuses."""

from dataclasses import replace

import pytest

from tests.staleness.board import COUNTED, Board
from tests.staleness.verdict import BREAKER, REPAIR, Sleep, Suspect, Write, judge

SLEEP = Sleep(began=1000 * REPAIR, woke=1004 * REPAIR)
FAILED = Write(user=1, version=7, begun=SLEEP.began + 1, ended=SLEEP.began + REPAIR, kills=True)
OLD = Suspect("old", user=1, got=6, due=7, begun=SLEEP.woke + 1, ended=SLEEP.woke + 2)
TOKEN = replace(OLD, kind="token", got=FAILED.begun - 1, due=FAILED.begun)


def is_guilty(suspect, writes=(FAILED,), sleeps=(SLEEP,)):
    verdict = judge([suspect], list(writes), list(sleeps))
    assert len(verdict.guilty) + len(verdict.excepted) == 1
    return bool(verdict.guilty)


@pytest.mark.parametrize("suspect", [OLD, TOKEN], ids=["user", "token"])
def test_what_lacks_a_write_that_redis_slept_through_is_excepted_when_redis_is_just_back(suspect):
    assert not is_guilty(suspect)


@pytest.mark.parametrize("suspect", [OLD, TOKEN], ids=["user", "token"])
def test_without_a_sleep_it_is_guilty(suspect):
    assert is_guilty(suspect, sleeps=[])


@pytest.mark.parametrize("suspect", [OLD, TOKEN], ids=["user", "token"])
def test_so_it_is_when_the_epoch_must_be_new_by_then(suspect):
    late = SLEEP.woke + REPAIR + 1
    assert is_guilty(replace(suspect, begun=late, ended=late + 1))


def test_and_while_redis_slept_for_nobody_can_have_read_from_it():
    assert is_guilty(replace(OLD, begun=FAILED.ended + 1, ended=SLEEP.woke - 1))


def test_who_asked_while_redis_slept_and_was_answered_when_it_was_back_is_excepted():
    assert not is_guilty(replace(OLD, begun=FAILED.ended + 1))


@pytest.mark.parametrize("suspect", [OLD, TOKEN], ids=["user", "token"])
def test_another_write_that_is_lacking_too_and_reached_redis_is_not_excused(suspect):
    before = replace(FAILED, version=7, begun=SLEEP.began - 2, ended=SLEEP.began - 1)
    earlier = replace(suspect, got=6 if suspect.kind == "old" else before.begun - 1)
    assert is_guilty(earlier, [before, replace(FAILED, version=8)])


def test_a_write_that_an_open_circuit_breaker_may_have_kept_from_redis_is_excused():
    begun = SLEEP.woke + BREAKER - 1
    late = replace(FAILED, begun=begun, ended=begun + 1)
    assert not is_guilty(replace(OLD, begun=begun + 2, ended=begun + 3), [late])
    assert is_guilty(replace(OLD, begun=begun + 2 + REPAIR, ended=begun + 3 + REPAIR), [late])


def test_a_write_after_that_is_not():
    begun = SLEEP.woke + BREAKER + 1
    late = replace(FAILED, begun=begun, ended=begun + 1)
    assert is_guilty(replace(OLD, begun=begun + 2, ended=begun + 3), [late])


@pytest.mark.parametrize("kind", ["min_version", "body", "content", "304", "status", "login"])
def test_nothing_else_is_ever_excused(kind):
    assert is_guilty(replace(OLD, kind=kind))


def test_who_lacks_nothing_that_anybody_noted_is_guilty_all_the_same():
    assert is_guilty(replace(OLD, user=2))


def test_the_board_tells_other_processes_the_newest_of_what_all_writers_were_answered(tmp_path):
    mine, theirs = Board(tmp_path / "board", users=3), Board(tmp_path / "board", users=3)

    mine.note(0, 1, version=5, begun=100, kills=True)
    mine.note(1, 1, version=4, begun=200, kills=False)
    mine.note(0, 1, version=3, begun=50, kills=True)

    assert [theirs.newest(user) for user in range(3)] == [0, 5, 0]
    assert [theirs.killed(user) for user in range(3)] == [0, 100, 0]
    assert not theirs.over
    mine.end()
    assert theirs.over
    assert theirs.counts()["reads"] == 0


def test_the_board_adds_up_what_the_readers_count(tmp_path):
    board = Board(tmp_path / "board", users=1)
    for reader in range(2):
        board.count(reader, dict.fromkeys(COUNTED, 0) | {"reads": 2 + reader, "suspects": 5})
    assert board.counts() == dict.fromkeys(COUNTED, 0) | {"reads": 5, "suspects": 10}
