"""From rows of the outbox to envelopes, and what is done about a row that none can be made of.

Such a row, which cannot be read, encoded or sent, is poison: read in a batch, it would take all others with
it, at every try. It is set aside, for good and for all readers: a mark in the table, after which the columns
that did it are no longer read, and a tombstone of the same sequence in its place. Whether a row is poison
depends on nothing but the row, so all processes judge alike."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import structlog
from django.db import DataError
from django.db.models import Case, F, QuerySet, When
from django.utils import timezone

from users.application.envelope import Envelope
from users.application.event_schemas import SET_ASIDE, TOMBSTONE
from users.application.representation import timestamp
from users.models import OutboxEvent

log = structlog.get_logger(__name__)

MAX_BYTES = 512 * 1024
"""Of one envelope as JSON."""

UNREADABLE = "it cannot be read"
UNENCODABLE = "it cannot be written as JSON"
TOO_LARGE = f"it is larger than {MAX_BYTES // 1024} KiB"

_BEFORE = ("event_type", "event_id")
_BEHIND = (
    "user_id",
    "user_version",
    "sequence",
    "request_id",
    "actor_id",
    "schema_version",
    "set_aside_at",
    "set_aside_because",
)
_SAFE = (*_BEFORE, "safe_time", "safe_data", *_BEHIND)
_AS_IT_IS = (*_BEFORE, "occurred_at", "data", *_BEHIND)

COLUMNS = ", ".join(
    (
        *_BEFORE,
        "CASE WHEN set_aside_at IS NULL THEN occurred_at END",
        "CASE WHEN set_aside_at IS NULL THEN data END",
        *_BEHIND,
    )
)
"""What `told` wants of a statement of one's own."""


class Poison(Exception):
    """Of a row, or of some row among several, no envelope can be made; the argument says why."""


def read(rows: QuerySet[OutboxEvent], limit: int) -> list[Envelope]:
    """The first `limit` envelopes of `rows`, in their order. Poison among them is set aside on the way."""
    try:
        return _envelopes(rows, limit)
    except Poison:
        ids = list(rows.values_list("id", flat=True)[:limit])
        return [envelope for id_ in ids for envelope in _read_one(id_)]


def told(rows: Iterable[tuple[Any, ...]]) -> list[Envelope]:
    """Envelopes of rows of COLUMNS. Raises Poison, and sets nothing aside."""
    return [_envelope(row) for row in rows]


def fetch(ask: Callable[[], Iterable[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """The rows that a question has for an answer. Raises Poison when one cannot be read."""
    try:
        return list(ask())
    # A time beyond Python's; a number of thousands of digits; nesting beyond the interpreter's.
    except (DataError, ValueError, OverflowError, RecursionError) as error:
        raise Poison(UNREADABLE) from error


@dataclass(frozen=True, slots=True)
class Tried:
    """An event that was set aside. `because`: why it stays so; None when it can be told now."""

    sequence: int | None
    event_type: str
    event_id: UUID
    because: str | None


def try_again(*, dry_run: bool) -> Iterator[Tried]:
    """Each row that is set aside, oldest first; those that can be told lose their mark."""
    aside = OutboxEvent.objects.filter(set_aside_at__isnull=False).order_by("id")
    for id_, sequence, event_type, event_id in list(
        aside.values_list("id", "sequence", "event_type", "event_id")
    ):
        because = _poison_in(id_)
        if because is None and not dry_run:
            OutboxEvent.objects.filter(id=id_).update(set_aside_at=None, set_aside_because=None)
            log.info("event_released", sequence=sequence, event_id=str(event_id))
        yield Tried(sequence, event_type, event_id, because)


def _poison_in(id_: int) -> str | None:
    """Why the row, with all its columns, cannot be told; None when it can."""
    try:
        for row in fetch(lambda: OutboxEvent.objects.filter(id=id_).values_list(*_AS_IT_IS)):
            _checked(_told(row))
    except Poison as poison:
        return str(poison)
    return None


def _read_one(id_: int) -> list[Envelope]:
    """Empty when the row is gone meanwhile."""
    row = OutboxEvent.objects.filter(id=id_)
    try:
        return _envelopes(row, 1)
    except Poison as poison:
        _set_aside(id_, str(poison))
        return _envelopes(row, 1)


def _set_aside(id_: int, because: str) -> None:
    row = OutboxEvent.objects.filter(id=id_)
    marked = row.filter(set_aside_at=None).update(set_aside_at=timezone.now(), set_aside_because=because)
    if marked:  # else another process was faster
        columns = ("event_id", "event_type", "user_id", "sequence")
        for said in row.values_list(*columns):
            named = {name: str(value) for name, value in zip(columns, said, strict=True)}
            log.error("event_set_aside", because=because, **named)


def _envelopes(rows: QuerySet[OutboxEvent], limit: int) -> list[Envelope]:
    """Raises Poison."""
    # The database itself withholds what poisoned a row that is set aside: fetching it would raise again.
    safe = rows.annotate(
        safe_time=Case(When(set_aside_at=None, then=F("occurred_at"))),
        safe_data=Case(When(set_aside_at=None, then=F("data"))),
    )
    return [_envelope(row) for row in fetch(lambda: safe.values_list(*_SAFE)[:limit])]


def _envelope(row: tuple[Any, ...]) -> Envelope:
    return _checked(_told(row)) if row[-2] is None else _tombstone(row)


def _checked(envelope: Envelope) -> Envelope:
    try:
        size = len(envelope.json)
    except orjson.JSONEncodeError as error:
        raise Poison(UNENCODABLE) from error
    if size > MAX_BYTES:
        raise Poison(TOO_LARGE)
    return envelope


def _told(row: tuple[Any, ...]) -> Envelope:
    event_type, _, occurred_at, data, *_, schema_version, _, _ = row
    if not isinstance(data, dict):
        raise Poison(UNREADABLE)
    return Envelope(_fields(row, event_type, occurred_at, data), schema_version=schema_version)


def _tombstone(row: tuple[Any, ...]) -> Envelope:
    event_type, _, _, _, user_id, *_, set_aside_at, because = row
    data = {"user_id": str(user_id), "event_type": event_type, "because": because}
    return Envelope(_fields(row, SET_ASIDE, set_aside_at, data), schema_version=TOMBSTONE.version)


def _fields(row: tuple[Any, ...], event_type: str, moment: datetime, data: dict[str, Any]) -> dict[str, Any]:
    """The public form: nine fields, whatever became of the row."""
    _, event_id, _, _, user_id, user_version, sequence, request_id, actor_id, *_ = row
    return {
        "event_type": event_type,
        "event_id": str(event_id),
        "timestamp": timestamp(moment),
        "data": data,
        "user_id": str(user_id),
        "user_version": user_version,
        "sequence": sequence,
        "request_id": request_id,
        "actor_id": actor_id,
    }
