"""How many processes serve requests, with how many threads, and how many of those may be held up at once.

Who waits for news of the feed or for his turn to hash holds a thread. However many do, some are left for
everybody else, in each process."""

import os
from pathlib import Path

DEFAULT_THREADS = 80
"""So that 64 who want one address at the same time find room in a single process."""
LEFT_FREE = 8
"""Or a quarter of them, where that is less."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux tells a container how much of the processors it gets: microseconds in each so many."""


def cores() -> int:
    """Those that this process may use."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(seen, quota() or seen)


def quota() -> int | None:
    """As many cores as the container's share comes to. None without a limit, or where nobody says."""
    try:
        share, period = map(int, QUOTA.read_text().split())
        return max(1, -(-share // period))
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def default_workers() -> int:
    return min(cores(), 4)


def left_free(threads: int) -> int:
    """What no setting takes from the short requests; of a single thread nothing can be left."""
    return min(LEFT_FREE, (threads + 3) // 4) if threads > 1 else 0


def default_feed_waits(threads: int) -> int:
    return max(threads // 10, 1) if threads > 2 else 0


def default_hashing(threads: int, workers: int, *, feed_waits: int) -> int:
    """As many at once as cores, shared among the processes."""
    return max(1, min(-(-cores() // workers), threads - left_free(threads) - feed_waits))


def default_queue(threads: int, *, feed_waits: int, hashing: int) -> int:
    """All the others: whoever may wait saves a client a second try."""
    return max(0, threads - left_free(threads) - feed_waits - hashing)
