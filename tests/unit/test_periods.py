"""Stretches of time in whole periods: nothing that they are asked for is left out."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from users.infrastructure.periods import AT_ONCE, EPOCH, HOUR, LENGTHS, stretch

MOMENTS = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
LATE = datetime(2026, 11, 23, 10, 59, 59, 999999, tzinfo=UTC)


def periods(moment: datetime) -> set[int]:
    """As `users_periods` numbers those that a moment lies in."""
    hour = (moment - EPOCH) // HOUR
    return {hour // 8**length * 8 + length for length in LENGTHS}


@given(MOMENTS, MOMENTS, MOMENTS)
def test_whoever_was_born_in_a_stretch_is_in_one_of_its_periods(one, another, between):
    since, until = sorted([one, another])
    found = stretch(since, until)

    for moment in (since, until, min(max(between, since), until)):
        assert len(periods(moment) & set(found.keys)) == 1


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=20_000)))
def test_nobody_older_than_its_beginning_is_in_them(until, width):
    found = stretch(until - width, until)

    assert found.since <= until - width
    assert periods(found.since) & set(found.keys)
    assert not periods(found.since - timedelta(microseconds=1)) & set(found.keys)


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=20_000)))
def test_periods_are_few_and_not_much_longer_than_was_asked_for(until, width):
    found = stretch(until - width, until)

    assert 1 <= len(found.keys) <= AT_ONCE
    assert until - found.since <= 2 * width + HOUR


def test_the_shortest_stretch_is_the_hour_itself():
    assert stretch(LATE, LATE).shortest
    assert stretch(LATE - HOUR + timedelta(microseconds=1), LATE).shortest
    assert not stretch(LATE - HOUR, LATE).shortest
    assert stretch(LATE, LATE).since == LATE.replace(minute=0, second=0, microsecond=0)
