"""The outbox table: facts written with the change they tell of, and their public order.

A row's `id` says nothing public: concurrent transactions commit in any order. The relay gives the
`sequence` after commit, under the lock of one counter row, so whoever reads by sequence misses nothing."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import orjson
import structlog
from django.db import InterfaceError, OperationalError, connection, transaction

from users.application.envelope import Envelope
from users.application.representation import timestamp
from users.infrastructure import envelopes, prepared
from users.infrastructure.envelopes import Poison
from users.models import OutboxEvent, RelayPosition
from users_domain.events import UserEvent

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Backlog:
    """`pending`: committed events that are not known to be in the stream; `lag_seconds`: the age of the
    oldest of them."""

    pending: int
    lag_seconds: float


_COLUMNS = (
    "event_id, event_type, schema_version, user_id, user_version, occurred_at, actor_id, request_id, data"
)
_PLACES = "(%s::uuid, %s, %s::smallint, %s::uuid, %s::int, %s::timestamptz, %s, %s, %s::jsonb)"


def write_with(change: str, values: Sequence[Any], events: Sequence[UserEvent]) -> bool:
    """Executes `change`, which returns the one row that it makes or changes, and writes the events of it, in
    one statement. False, and no event, when it changes none. Outside any transaction it is one of its own.

    The row comes first: an event gets its id when the row is ours, which keeps a user's ids in order."""
    told = [value for event in events for value in _values(event)]
    statement = _with_events(change, len(events)) if events else change
    try:
        return bool(prepared.rows(statement, [*values, *told], repeatable=False))
    except (OperationalError, InterfaceError):
        was_sent = connection.connection is not None and not connection.in_atomic_block
        if not was_sent or connection.is_usable() or not was_committed(events):
            raise
        return True


def was_committed(events: Sequence[UserEvent]) -> bool:
    """After a connection broke during a COMMIT, or a statement that is its own transaction, which is neither
    success nor failure: whether the table holds these events. Raises the database's own error while
    PostgreSQL cannot be asked."""
    connection.close()
    committed = bool(events) and holds(events[0].event_id)
    log.warning("commit_interrupted", committed=committed)
    return committed


@cache
def _with_events(change: str, count: int) -> str:
    return f"""
        WITH changed AS ({change})
        INSERT INTO outbox ({_COLUMNS})
        SELECT told.* FROM changed, (VALUES {", ".join([_PLACES] * count)}) AS told ({_COLUMNS})
        ORDER BY told.user_version RETURNING 1
    """  # noqa: S608 - of constants


def _values(event: UserEvent) -> tuple[Any, ...]:
    return (
        event.event_id,
        event.event_type,
        event.schema_version,
        event.user_id.value,
        event.user_version,
        event.occurred_at,
        event.actor_id,
        structlog.contextvars.get_contextvars().get("request_id"),
        orjson.dumps(_json(event.data())).decode(),
    )


def _json(data: dict[str, Any]) -> dict[str, Any]:
    return {key: timestamp(value) if isinstance(value, datetime) else value for key, value in data.items()}


def holds(event_id: UUID) -> bool:
    return OutboxEvent.objects.filter(event_id=event_id).exists()


# The counter is locked, or passed by where another worker has it; with nothing to number it is left alone,
# so that an idle worker writes nothing. What has no number yet the statement sees as of its beginning, which
# is before the lock: somebody may have numbered it in between. Then the counter that is locked is another
# version than the one that the statement sees, and nothing is done: `ours` is empty, the caller tries again.
_NUMBERING = """
    WITH counter AS (
        SELECT sequenced, published, xmin AS version FROM relay_position
        WHERE id = 1 AND EXISTS (SELECT FROM outbox WHERE sequence IS NULL)
        FOR UPDATE SKIP LOCKED
    ), ours AS (
        SELECT sequenced FROM counter WHERE version = (SELECT xmin FROM relay_position WHERE id = 1)
    ), unsequenced AS (
        SELECT id, row_number() OVER (ORDER BY id) AS place
        FROM (
            SELECT id FROM outbox WHERE sequence IS NULL AND EXISTS (SELECT FROM ours) ORDER BY id LIMIT %s
        ) AS oldest
    ), given AS (
        UPDATE outbox SET sequence = ours.sequenced + unsequenced.place
        FROM unsequenced, ours WHERE outbox.id = unsequenced.id RETURNING outbox.*
    ), counted AS (
        UPDATE relay_position SET sequenced = (SELECT max(sequence) FROM given)
        WHERE id = 1 AND EXISTS (SELECT FROM given)
    )
"""
NUMBER = f"""{_NUMBERING}
    SELECT EXISTS (SELECT FROM ours), (SELECT count(*) FROM given) FROM counter
"""  # noqa: S608 - of constants
NUMBER_AND_READ = f"""{_NUMBERING}
    SELECT EXISTS (SELECT FROM ours), counter.published, counter.sequenced, {envelopes.COLUMNS}
    FROM counter LEFT JOIN given ON true ORDER BY given.sequence
"""  # noqa: S608 - of constants

POSITION = "SELECT sequenced, published FROM relay_position WHERE id = 1"
# Nobody waits until this is on the disk: what a crash of PostgreSQL takes back is found in the stream.
MARK_PUBLISHED = """
    UPDATE relay_position SET published = %s WHERE id = 1 AND published < %s
    RETURNING set_config('synchronous_commit', 'off', true)
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What follows the sequence `after`, the last one known to be in the stream. `more`: whether something
    else may be waiting behind it."""

    after: int
    envelopes: list[Envelope]
    more: bool


def next_batch(limit: int) -> Batch:
    """Numbers what has no number yet, and answers what is to be published next: what has just been numbered,
    if all before it is in the stream already, which is one statement; else what is read then."""
    with suppress(Poison):
        rows = _numbered(NUMBER_AND_READ, limit)
        if rows and rows[0][1] == rows[0][2]:
            told = envelopes.told(row[3:] for row in rows if row[3])
            return Batch(rows[0][1], told, more=len(told) == limit)
    sequenced, published = position()
    waiting = batch(published, limit) if published < sequenced else []
    return Batch(published, waiting, more=bool(waiting))


def give_sequences(limit: int) -> int:
    """Numbers committed rows that have no sequence yet, in id order, and answers how many. Zero also when
    another worker is at it: the counter's lock is never waited for."""
    rows = _numbered(NUMBER, limit)
    return int(rows[0][1]) if rows else 0


def _numbered(numbering: str, limit: int) -> list[tuple[Any, ...]]:
    """What the statement answers; nothing where nothing has no number, or another worker is at it. Raises
    Poison, after it was carried out, when it answers what cannot be read."""
    while True:
        rows = envelopes.fetch(lambda: prepared.rows(numbering, [limit]))
        if rows and rows[0][0]:
            return rows
        if not rows and (_position() or not _new_position()):
            return []


def _new_position() -> bool:
    """Makes the counter's row where it is missing, behind the numbers that are in use. False when somebody
    else has just done so."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO relay_position (id, sequenced, published)
            SELECT 1, coalesce(max(sequence), 0), 0 FROM outbox
            ON CONFLICT DO NOTHING
            """
        )
        return bool(cursor.rowcount)


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
    return _position() or (0, 0)


def _position() -> tuple[int, int] | None:
    for sequenced, published in prepared.rows(POSITION, []):
        return sequenced, published
    return None


def batch(after: int, limit: int) -> list[Envelope]:
    """Envelopes behind the sequence `after`, in order."""
    return envelopes.read(OutboxEvent.objects.filter(sequence__gt=after).order_by("sequence"), limit)


def mark_published(sequence: int) -> None:
    """Never backward: another worker may be further."""
    prepared.rows(MARK_PUBLISHED, [sequence, sequence])


def set_aside() -> int:
    """How many events are set aside now."""
    return OutboxEvent.objects.filter(set_aside_at__isnull=False).count()


def beat() -> None:
    """Notes that a worker's relay has just been at work."""
    with connection.cursor() as cursor:
        if not _position():
            _new_position()
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
