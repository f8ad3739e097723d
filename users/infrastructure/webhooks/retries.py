"""When to try again."""

import random
from collections.abc import Callable

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 3600.0


def delay(
    failures: int, retry_after: float | None, *, draw: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds to wait after that many failures in a row (from 1 on): doubled each time up to an hour, less up
    to a quarter at random, so that receivers which fell together are not all called together. No sooner than
    the receiver asked for, but never later than in an hour."""
    doubled = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 30))
    return min(LONGEST_SECONDS, max(draw(0.75 * doubled, doubled), retry_after or 0))
