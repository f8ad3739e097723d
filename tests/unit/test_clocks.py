"""Times as they are written on a command line, and pauses after failures."""

from argparse import ArgumentTypeError
from datetime import timedelta

import pytest
from django.utils import timezone

import tests.environment  # noqa: F401
from users.infrastructure.worker import LONGEST_PAUSE_SECONDS, pause_after
from users.management.moments import past_moment


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90d", timedelta(days=90)),
        ("1d12h", timedelta(hours=36)),
        ("2w", timedelta(weeks=2)),
        ("5m", timedelta(minutes=5)),
    ],
)
def test_how_long_ago(text, ago):
    now = timezone.now()

    assert now - ago <= past_moment(text) <= timezone.now() - ago


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "0d", "1y", "٣d", "2026-01-31T09:30:00Z", "9" * 5000 + "d"]
)
def test_what_is_no_duration(text):
    with pytest.raises(ArgumentTypeError, match="is no duration"):
        past_moment(text)


@pytest.mark.parametrize(
    ("failures", "most"), [(1, 0.4), (2, 0.8), (3, 1.6), (4, 3.0), (5, 3.0), (100_000, 3.0)]
)
def test_a_pause_is_anything_up_to_a_limit_that_doubles_and_then_stays(failures, most):
    drawn = [pause_after(failures, 0.2) for _ in range(2000)]

    assert 0 <= min(drawn) < most * 0.05
    assert most * 0.95 < max(drawn) <= most <= LONGEST_PAUSE_SECONDS


def test_a_rare_duty_is_not_done_more_often_because_it_fails():
    drawn = [pause_after(3, 600) for _ in range(2000)]

    assert 250 < sum(drawn) / len(drawn) < 350
    assert max(drawn) <= 600
