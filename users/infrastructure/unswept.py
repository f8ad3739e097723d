"""The table `erasures`: who was erased, and what the worker needs to complete that.

`accounts` are keyed digests of his addresses, by which Redis is searched once nobody knows the addresses any
more; emptied when he is swept. `had_roles`: he may have been logged in to the admin pages."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import F

from users.models import Erasure


@dataclass(frozen=True, slots=True)
class Backlog:
    unswept: int
    lag_seconds: float


@dataclass(frozen=True, slots=True)
class Unswept:
    user_id: str
    accounts: Sequence[str]
    had_roles: bool


def keep_in_mind(cursor: CursorWrapper, user: Unswept, now: datetime) -> bool:
    """So that the worker goes on where this process may end. Again for whom a backup has brought back.
    Answers whether he ever had roles, as far as his history reaches back."""
    cursor.execute(
        """
        INSERT INTO erasures (user_id, erased_at, accounts, had_roles)
        SELECT %(user_id)s, %(now)s, %(accounts)s::jsonb, %(had_roles)s OR EXISTS (
            SELECT FROM outbox WHERE user_id = %(user_id)s AND event_type = 'user.roles_changed'
        )
        ON CONFLICT (user_id) DO UPDATE SET
            erased_at = excluded.erased_at,
            swept_at = NULL,
            tried_at = NULL,
            accounts = erasures.accounts || excluded.accounts,
            had_roles = erasures.had_roles OR excluded.had_roles
        RETURNING had_roles
        """,
        {
            "user_id": user.user_id,
            "now": now,
            "accounts": json.dumps(list(user.accounts)),
            "had_roles": user.had_roles,
        },
    )
    return bool(cursor.fetchone()[0])


def due(until: datetime, limit: int) -> Sequence[Unswept]:
    """Of those who were erased before then. Whom a sweep could not finish comes last, so that he never keeps
    others from theirs."""
    rows = Erasure.objects.filter(swept_at=None, erased_at__lte=until)
    first = rows.order_by(F("tried_at").asc(nulls_first=True), "erased_at")[:limit]
    return [
        Unswept(str(user_id), accounts, had_roles)
        for user_id, accounts, had_roles in first.values_list("user_id", "accounts", "had_roles")
    ]


def note(swept: Collection[str], waiting: Collection[str], now: datetime) -> None:
    Erasure.objects.filter(user_id__in=swept).update(swept_at=now, accounts=[])
    Erasure.objects.filter(user_id__in=waiting).update(tried_at=now)


def backlog() -> Backlog:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*), coalesce(extract(epoch FROM now() - min(erased_at)), 0)
            FROM erasures WHERE swept_at IS NULL
            """
        )
        unswept, lag = cursor.fetchone()
    return Backlog(unswept, max(0.0, float(lag)))
