"""UserReads over PostgreSQL: one statement a question, but for searches, which take a few (`search`); tuples
to ready JSON, no model instances."""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString

import orjson
from django.db import connection

from users.application.envelope import Envelope
from users.application.event_schemas import SET_ASIDE
from users.application.ports import Listed, Position, UserCriteria
from users.application.representation import UserView, ready, representation
from users.infrastructure import envelopes, prepared
from users.infrastructure.listing import Listing
from users.models import OutboxEvent, RelayPosition

COLUMNS = (
    "id",
    "email",
    "name",
    "status",
    "roles",
    "email_verified",
    "block_reason",
    "blocked_at",
    "blocked_until",
    "blocked_by",
    "created_at",
    "updated_at",
    "version",
    "token_version",
    "ended_sessions",
)
_BY_ID: LiteralString = f"SELECT {', '.join(COLUMNS)} FROM users WHERE id = %s::uuid"  # noqa: S608
# Planned anew each time, as PostgreSQL takes one id for cheaper than the ten that it expects of any array.
_BY_IDS: LiteralString = f"SELECT {', '.join(COLUMNS)} FROM users WHERE id = ANY(%s::uuid[])"  # noqa: S608

_LISTING = Listing(COLUMNS[:13])


class DatabaseReads:
    def view(self, user_id: str) -> UserView | None:
        return next(map(_view, prepared.rows(_BY_ID, [user_id])), None)

    def views(self, user_ids: Collection[str]) -> list[UserView]:
        return [_view(row) for row in prepared.rows(_BY_IDS, [list(user_ids)])]

    def users(self, criteria: UserCriteria, after: Position | None, limit: int) -> list[Listed]:
        rows, reached = _LISTING.page(criteria, after, limit)
        page = [Listed(orjson.dumps(_fields(row)), Position(row[10], str(row[0]))) for row in rows]
        return [*page, Listed(None, reached)] if reached else page

    def history(self, user_id: str, after_version: int, limit: int) -> list[Envelope]:
        rows = OutboxEvent.objects.filter(user_id=user_id, user_version__gt=after_version)
        return envelopes.read(rows.order_by("user_version"), limit)

    def feed(self, after_sequence: int, limit: int, types: Collection[str] = ()) -> list[Envelope]:
        if types:
            rows = OutboxEvent.objects.filter(sequence__in=_first_of_types(after_sequence, limit, types))
        else:
            rows = OutboxEvent.objects.filter(sequence__gt=after_sequence)
        return envelopes.read(rows.order_by("sequence"), limit)

    def pruned(self) -> int:
        return RelayPosition.objects.filter(id=1).values_list("pruned", flat=True).first() or 0


# Asked for `event_type = ...` in the order of the sequence, PostgreSQL may expect to meet enough of a common
# type soon, and walk over all the others when there are none any more. This only the index that begins with
# the type can answer, and at once.
_OF_TYPE = """(
    SELECT sequence FROM outbox
    WHERE (event_type, sequence) > (%s, %s) AND event_type <= %s
    ORDER BY event_type, sequence LIMIT %s
)"""
_SET_ASIDE = """(
    SELECT sequence FROM outbox
    WHERE set_aside_at IS NOT NULL AND sequence > %s
    ORDER BY sequence LIMIT %s
)"""


def _first_of_types(after: int, limit: int, types: Collection[str]) -> list[int]:
    """Sequences of the first events of these types behind `after`, in order."""
    parts: list[str] = []
    values: list[str | int] = []
    for kind in types:
        parts.append(_SET_ASIDE if kind == SET_ASIDE else _OF_TYPE)
        values += [after, limit] if kind == SET_ASIDE else [kind, after, kind, limit]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ".join(parts), values)
        return sorted(sequence for (sequence,) in cursor.fetchall())[:limit]


def _view(row: Sequence[Any]) -> UserView:
    return ready(_fields(row), token_version=row[-2], ended_sessions=row[-1])


def _fields(row: Sequence[Any]) -> dict[str, Any]:
    id_, email, name, status, roles, verified, reason, at, until, by, created_at, updated_at, version = row[
        :13
    ]
    return representation(
        id=str(id_),
        email=email,
        name=name,
        status=status,
        block=(reason, at, until, by) if at else None,
        roles=roles,
        email_verified=verified,
        created_at=created_at,
        updated_at=updated_at,
        version=version,
    )
