"""How a server's threads are shared: whatever their number, some are left for the short requests."""

import os
from pathlib import Path

import pytest

from config import threads


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("number", [*range(1, 40), 64, 100, 500])
def test_what_is_shared_out_fits_and_leaves_some_free(number: int, workers: int) -> None:
    feed_waits = threads.default_feed_waits(number)
    hashing = threads.default_hashing(number, workers, feed_waits=feed_waits)
    queue = threads.default_queue(number, feed_waits=feed_waits, hashing=hashing)
    free = number - feed_waits - hashing - queue

    assert free == threads.left_free(number)
    assert free >= min(8, number / 4) or number == 1
    assert hashing >= 1


@pytest.mark.parametrize(
    ("number", "free", "feed_waits", "hashes"),
    [(80, 8, 8, 64), (32, 8, 3, 21), (16, 4, 1, 11), (8, 2, 1, 5), (4, 1, 1, 2)],
)
def test_the_shares_are_those_of_the_documents(number: int, free: int, feed_waits: int, hashes: int) -> None:
    queue = threads.default_queue(number, feed_waits=feed_waits, hashing=1)
    found = threads.left_free(number), threads.default_feed_waits(number), queue + 1
    assert found == (free, feed_waits, hashes)


def test_by_default_a_single_process_has_room_for_64_who_register_at_once() -> None:
    """How connections fall to processes is chance, and one of them may be starting."""
    number = threads.DEFAULT_THREADS
    assert number - threads.left_free(number) - threads.default_feed_waits(number) == 64


@pytest.mark.parametrize(
    ("said", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("100 50\n", 2),
        ("1600000 100000\n", 8),
        ("", 8),
        ("nonsense", 8),
        ("100000 0", 8),
        (None, 8),
    ],
)
def test_a_container_has_as_many_cores_as_it_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    if said is not None:
        threads.QUOTA.write_text(said)
    assert threads.cores() == cores


@pytest.mark.parametrize(("workers", "hashing"), [(1, 8), (2, 4), (3, 3), (8, 1), (16, 1)])
def test_all_processes_together_hash_on_as_many_cores_as_there_are(
    monkeypatch: pytest.MonkeyPatch, workers: int, hashing: int
) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    assert threads.default_hashing(80, workers, feed_waits=8) == hashing


def test_a_queue_that_somebody_leaves_no_room_for_is_empty() -> None:
    assert threads.default_queue(16, feed_waits=12, hashing=2) == 0
