"""The outbox table: facts written with the change they tell of, and their public order.

A row's `id` says nothing public: concurrent transactions commit in any order. The relay gives the
`sequence` after commit, under the lock of one counter row, so whoever reads by sequence misses nothing."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from users.application.envelope import Envelope
from users.application.representation import timestamp
from users.infrastructure import envelopes
from users.models import OutboxEvent, RelayPosition
from users_domain.events import UserEvent


@dataclass(frozen=True, slots=True)
class Backlog:
    """`pending`: committed events that are not known to be in the stream; `lag_seconds`: the age of the
    oldest of them."""

    pending: int
    lag_seconds: float


def append(events: Iterable[UserEvent]) -> None:
    """Within the command's transaction, after its compare-and-swap, which keeps a user's ids in order."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    OutboxEvent.objects.bulk_create(
        OutboxEvent(
            event_id=event.event_id,
            event_type=event.event_type,
            schema_version=event.schema_version,
            user_id=event.user_id.value,
            user_version=event.user_version,
            occurred_at=event.occurred_at,
            actor_id=event.actor_id,
            request_id=request_id,
            data=_json(event.data()),
        )
        for event in events
    )


def _json(data: dict[str, Any]) -> dict[str, Any]:
    return {key: timestamp(value) if isinstance(value, datetime) else value for key, value in data.items()}


def holds(event_id: UUID) -> bool:
    return OutboxEvent.objects.filter(event_id=event_id).exists()


def give_sequences(limit: int) -> int:
    """Numbers committed rows that have no sequence yet, in id order, and answers how many. Zero also when
    another worker is at it: the counter's lock is never waited for."""
    if not OutboxEvent.objects.filter(sequence=None).exists():
        return 0  # an idle worker writes nothing, not even a row lock
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT sequenced FROM relay_position WHERE id = 1 FOR UPDATE SKIP LOCKED")
        row = cursor.fetchone() or _new_position(cursor)
        if row is None:
            return 0
        # A statement of its own: its snapshot is younger than the lock, so no row is numbered twice.
        cursor.execute(
            """
            WITH unsequenced AS (
                SELECT id, row_number() OVER (ORDER BY id) AS place
                FROM (SELECT id FROM outbox WHERE sequence IS NULL ORDER BY id LIMIT %s) AS oldest
            ), given AS (
                UPDATE outbox SET sequence = %s + unsequenced.place
                FROM unsequenced WHERE outbox.id = unsequenced.id RETURNING 1
            )
            UPDATE relay_position SET sequenced = sequenced + (SELECT count(*) FROM given) WHERE id = 1
            RETURNING sequenced
            """,
            [limit, row[0]],
        )
        return int(cursor.fetchone()[0] - row[0])


def _new_position(cursor: CursorWrapper) -> tuple[int] | None:
    """The counter's row, made when it is missing, behind the numbers that are in use. None when it is there,
    and locked by another worker; an INSERT that hit upon it would wait for that one."""
    if RelayPosition.objects.filter(id=1).exists():
        return None
    cursor.execute(
        """
        INSERT INTO relay_position (id, sequenced, published)
        SELECT 1, coalesce(max(sequence), 0), 0 FROM outbox
        ON CONFLICT DO NOTHING RETURNING sequenced
        """
    )
    row: tuple[int] | None = cursor.fetchone()
    return row


def step_over(top: Callable[[], int], event_ids: Callable[[int, int], Mapping[int, str]]) -> bool:
    """For a stream that is ahead of this table, which was restored from a backup, or failed over to a replica
    that lagged behind: no number is given again that consumers have seen. Rows that were not published get
    new ones, but for those that the stream has under the number they bear. Answers whether it had to.

    `top` and `event_ids` ask the stream, while the counter is locked, so that of two who step over at once
    the second finds nothing to do."""
    with transaction.atomic():
        position = RelayPosition.objects.select_for_update().get(id=1)
        highest = top()
        there = event_ids(position.published, min(highest, position.sequenced))
        unsent = OutboxEvent.objects.filter(sequence__gt=position.published)
        rows = list(unsent.filter(sequence__in=there).values_list("sequence", "event_id"))
        known = [event_id for sequence, event_id in rows if there.get(sequence or 0) == str(event_id)]
        if highest <= position.sequenced and len(known) == len(rows):
            return False
        RelayPosition.objects.filter(id=1).update(sequenced=max(highest, position.sequenced))
        unsent.exclude(event_id__in=known).update(sequence=None)
    return True


def position() -> tuple[int, int]:
    """The last sequence given out, and the last one known to be in the stream."""
    row = RelayPosition.objects.filter(id=1).values_list("sequenced", "published").first()
    return row or (0, 0)


def batch(after: int, limit: int) -> list[Envelope]:
    """Envelopes behind the sequence `after`, in order."""
    return envelopes.read(OutboxEvent.objects.filter(sequence__gt=after).order_by("sequence"), limit)


def mark_published(sequence: int) -> None:
    """Durably, and never backward: another worker may be further."""
    RelayPosition.objects.filter(id=1, published__lt=sequence).update(published=sequence)


def set_aside() -> int:
    """How many events are set aside now."""
    return OutboxEvent.objects.filter(set_aside_at__isnull=False).count()


def beat() -> None:
    """Notes that a worker's relay has just been at work."""
    with connection.cursor() as cursor:
        _new_position(cursor)
        cursor.execute("UPDATE relay_position SET heartbeat_at = now() WHERE id = 1")


def heartbeat_age() -> float:
    """Seconds since the last beat of any worker; infinite when there was none. By PostgreSQL's clock, which
    all share."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM now() - heartbeat_at) FROM relay_position WHERE id = 1")
        row = cursor.fetchone()
    return math.inf if row is None or row[0] is None else max(0.0, float(row[0]))


def backlog() -> Backlog:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*),
                coalesce(extract(epoch FROM now() - min(occurred_at) FILTER (WHERE isfinite(occurred_at))), 0)
            FROM outbox
            WHERE sequence IS NULL
                OR sequence > coalesce((SELECT published FROM relay_position WHERE id = 1), 0)
            """
        )
        pending, lag = cursor.fetchone()
    return Backlog(pending, max(0.0, float(lag)))
