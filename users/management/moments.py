"""Points in time as people write them on a command line."""

import re
from argparse import ArgumentTypeError
from datetime import datetime, timedelta

from django.utils import timezone

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"(\d+[wdhm])+", re.ASCII)
_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes"}


def future_moment(text: str) -> datetime:
    """An argument's type: `2026-01-31T09:30:00Z` or, from now on, `7d`, `12h`, `1d12h` (w, d, h, m)."""
    now = timezone.now()
    try:
        moment = now + _duration(text) if _DURATION.fullmatch(text) else _rfc_3339(text)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is neither a time with its zone, such as 2026-01-31T09:30:00Z, "
            "nor a duration, such as 7d or 12h"
        ) from None
    if moment <= now:
        raise ArgumentTypeError(f"{text!r} does not lie in the future")
    return moment


def duration(text: str) -> timedelta:
    """An argument's type: `90d`, `12h`, `1d12h` (w, d, h, m)."""
    try:
        if _DURATION.fullmatch(text):
            return _duration(text)
    except OverflowError:
        pass
    raise ArgumentTypeError(f"{text!r} is no duration, such as 90d or 12h")


def past_moment(text: str) -> datetime:
    """An argument's type: how long ago, as `90d`, `12h`, `1d12h` (w, d, h, m); more than nothing."""
    now = timezone.now()
    try:
        moment = now - _duration(text) if _DURATION.fullmatch(text) else None
    except (ValueError, OverflowError):
        moment = None
    if moment is None or moment >= now:
        raise ArgumentTypeError(f"{text!r} is no duration, such as 90d or 12h")
    return moment


def _duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+)([wdhm])", text)
    return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


def _rfc_3339(text: str) -> datetime:
    if not _RFC_3339.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text.upper())
