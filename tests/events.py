"""Events written straight into the outbox, without users and commands behind them."""

from typing import Any

from django.db import connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from users.models import OutboxEvent

HUGE = '{"text": "%s"}' % ("x" * 600 * 1024)

POISON = {
    "a time without end": ("occurred_at", "infinity"),
    "a time before all time": ("occurred_at", "-infinity"),
    "a time beyond Python's": ("occurred_at", "20000-01-01T00:00:00Z"),
    "a time before Christ": ("occurred_at", "0300-01-01 00:00:00+00 BC"),
    "an integer beyond 64 bits": ("data", '{"n": 18446744073709551616}'),
    "a number of 400 digits": ("data", '{"n": 1e400}'),
    "a number of 5,000 digits": ("data", '{"n": %s}' % ("9" * 5000)),
    "nesting beyond the encoder's": ("data", '{"n": %s1%s}' % ("[" * 300, "]" * 300)),  # noqa: UP031
    "nesting beyond Python's": ("data", '{"n": %s1%s}' % ("[" * 3000, "]" * 3000)),  # noqa: UP031
    "data that is no object": ("data", "[1]"),
    "data that is null": ("data", "null"),
    "more than 512 KiB": ("data", HUGE),
}
"""What makes a row impossible to tell: a column, and its value as PostgreSQL's text."""


def rows(count: int, **columns: Any) -> list[OutboxEvent]:
    """That many committed events of as many users, that nobody has numbered yet."""
    return OutboxEvent.objects.bulk_create(
        OutboxEvent(
            **{
                "event_id": uuid7(),
                "event_type": "user.renamed",
                "user_id": uuid7(),
                "user_version": 1,
                "occurred_at": timezone.now(),
                "data": {"name": "Ann"},
            }
            | columns
        )
        for _ in range(count)
    )


def spoil(event: OutboxEvent, column: str, value: str) -> None:
    """Writes what no command would: by PostgreSQL's own text, as Python may not be able to say it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE outbox SET {column} = %s::text::{'jsonb' if column == 'data' else 'timestamptz'} "
            "WHERE id = %s",
            [value, event.pk],
        )


def mend(event: OutboxEvent, **columns: Any) -> None:
    OutboxEvent.objects.filter(id=event.pk).update(**columns)
