"""Stretches of time as the index of words knows them: each user is born in one hour, in one period of 8
hours, in one of 64, and so on to some years (`users_periods`, migration 0007)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LENGTHS = range(6)
"""A period of length n has 8^n hours."""
AT_ONCE = 16
"""Into so many periods a stretch is cut at most, unless the longest are too short."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """`keys` are the periods, as numbers; the oldest begins at `since`. `shortest`: it is one hour."""

    keys: list[int]
    since: datetime
    shortest: bool


def stretch(since: datetime, until: datetime) -> Stretch:
    """Whole periods, as short as may be, that hold all between these two moments, both included."""
    first, last = _hour(since), _hour(until)
    length = next((n for n in LENGTHS if _number(last, n) - _number(first, n) < AT_ONCE), LENGTHS[-1])
    numbers = range(_number(first, length), _number(last, length) + 1)
    return Stretch(
        keys=[number << 3 | length for number in numbers],
        since=EPOCH + (numbers[0] << 3 * length) * HOUR,
        shortest=length == 0 and len(numbers) == 1,
    )


def _hour(moment: datetime) -> int:
    return (moment - EPOCH) // HOUR


def _number(hour: int, length: int) -> int:
    return hour >> 3 * length
