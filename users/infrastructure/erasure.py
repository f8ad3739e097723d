"""What is removed when a user is erased, and where: in the command's own transaction all that PostgreSQL
keeps of him beside his row; after commit, and once more by the worker, what is in Redis.

Events keep their place, their types and the shape of their data, and lose what says who he was: a feed with
holes would be another feed. Why so: docs/adr/0011-erasure.md."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

import structlog
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.models import Session as PageSession
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.backends.utils import CursorWrapper

from users.application.privacy import IMPERSONAL
from users.infrastructure import unswept
from users.infrastructure.redis_link import RedisAway
from users_domain.events import USER_EVENTS, UserEvent
from users_domain.user import User

log = structlog.get_logger(__name__)

EVENTS_AT_ONCE = 10_000
"""Of one user, whose row and events stay locked so long: some 0.4 s. Whatever is older is emptied right
after the commit, before the answer."""
SECONDS_FOR_OLDER_EVENTS = 5.0
PAGE_SESSIONS = 5000
"""So many of the admin pages' sessions are looked into, the youngest ones: there is one for each login of a
staff member, which lasts for hours."""

# A row that is no object, or was set aside, cannot be told and shall stay so: whatever is in it goes.
_EMPTIED = """
    SELECT id, CASE WHEN set_aside_at IS NOT NULL OR jsonb_typeof(data) <> 'object' THEN 'null'::jsonb ELSE (
        SELECT coalesce(jsonb_object_agg(key, CASE
            WHEN key = ANY(%(impersonal)s) THEN value
            WHEN jsonb_typeof(value) = 'string' THEN '""'::jsonb
            ELSE 'null'::jsonb
        END), '{}'::jsonb) FROM jsonb_each(data)
    ) END AS data
    FROM outbox
    WHERE user_id = %(user_id)s AND user_version > %(after)s AND user_version <= %(until)s
"""
EMPTY_EVENTS = f"""
    UPDATE outbox SET data = emptied.data FROM ({_EMPTIED}) AS emptied
    WHERE outbox.id = emptied.id AND outbox.data <> emptied.data
"""  # noqa: S608 - of constants
# One that he had once may be another's by now, who waits for his mail.
ADDRESSES = """
    SELECT email FROM (
        SELECT data ->> 'email' AS email FROM outbox
        WHERE user_id = %(user_id)s AND jsonb_typeof(data -> 'email') = 'string'
        UNION SELECT email FROM email_changes WHERE user_id = %(user_id)s
        UNION SELECT %(email)s
    ) AS his
    WHERE email <> '' AND NOT EXISTS (SELECT FROM users WHERE users.email = his.email)
"""
REMOVED = {
    "idempotency": "DELETE FROM idempotency WHERE user_id = %(user_id)s OR scope = %(scope)s",
    "email_changes": """
        DELETE FROM email_changes WHERE user_id = %(user_id)s OR user_id IN (
            SELECT user_id FROM email_changes WHERE email = %(email)s FOR UPDATE SKIP LOCKED
        )
    """,
    "mails": "DELETE FROM mails WHERE user_id = %(user_id)s OR email = ANY(%(addresses)s)",
    "django_admin_log": """
        UPDATE django_admin_log SET object_repr = object_id
        WHERE object_id = %(scope)s AND object_repr <> object_id
    """,
}
"""By table. Of others' wishes to have the address that is his nothing can come; one that is being confirmed
right now may wait for us, so it is not waited for. Answers that were kept for his own Idempotency-Keys are
about others, and nobody can ask for them any more."""


_COMMON = {field.name for field in fields(UserEvent)}
IMPERSONAL_TYPES = tuple(
    event.event_type
    for event in USER_EVENTS
    if {field.name for field in fields(event)} - _COMMON <= IMPERSONAL
)
"""Of events that say nothing of who somebody was."""


class DatabaseTraces:
    """`Traces` over PostgreSQL; what is in Redis removes `sweep`, by the user's id, and `forget_accounts`, by
    the digests that `digest` makes of his addresses."""

    def __init__(
        self,
        *,
        digest: Callable[[str], str],
        forget_accounts: Callable[[Sequence[str]], None],
        sweep: Callable[[str], None],
    ) -> None:
        self._digest = digest
        self._forget_accounts = forget_accounts
        self._sweep = sweep

    def remove(self, user: User, now: datetime, *, had_roles: bool) -> Mapping[str, int]:
        user_id = str(user.id)
        with connection.cursor() as cursor:
            addresses = _addresses(cursor, user_id, str(user.email))
            removed = _remove_rows(cursor, user_id, addresses, str(user.email))
            accounts = [self._digest(address) for address in addresses]
            had_roles = unswept.keep_in_mind(cursor, unswept.Unswept(user_id, accounts, had_roles), now)
            # Last, and in the relay's order: it waits for rows that it has yet to number.
            cursor.execute(
                "SELECT FROM outbox WHERE user_id = %s AND sequence IS NULL ORDER BY id FOR UPDATE", [user_id]
            )
            removed["outbox"] = empty_events(cursor, user_id, user.version - EVENTS_AT_ONCE, user.version)
        erased = unswept.Unswept(user_id, accounts, had_roles)
        transaction.on_commit(lambda: self._go_on(erased, user.version), robust=True)
        return removed

    def _go_on(self, user: unswept.Unswept, version: int) -> None:
        """After the commit, which stands whatever happens here: the worker does it again. The addresses come
        first, for from now on they may be another's."""
        steps: list[Callable[[], object]] = [
            lambda: self._forget_accounts(user.accounts),
            lambda: _empty_older_events(user.user_id, version - EVENTS_AT_ONCE),
            lambda: self._sweep(user.user_id),
        ]
        if user.had_roles:
            steps.append(lambda: _end_page_sessions(user.user_id))
        for step in steps:
            try:
                step()
            except RedisAway:
                log.debug("erasure_waits_for_redis", user_id=user.user_id)
            except (DatabaseError, InterfaceError) as error:
                log.warning("erasure_waits", user_id=user.user_id, error=type(error).__name__)


def remove_again(user_id: str, *, had_roles: bool) -> None:
    """What came when he was being erased: a login, a mail. His row and the rest of it are gone already."""
    with transaction.atomic(), connection.cursor() as cursor:
        _remove_rows(cursor, user_id, _addresses(cursor, user_id, ""))
        cursor.execute("SELECT coalesce(max(user_version), 0) FROM outbox WHERE user_id = %s", [user_id])
        last = cursor.fetchone()[0]
    _empty_older_events(user_id, last, seconds=60.0)
    if had_roles:
        _end_page_sessions(user_id)


def empty_events(cursor: CursorWrapper, user_id: str, after: int, until: int) -> int:
    """Those of the user behind the version `after` and up to `until`; answers how many said anything."""
    values: dict[str, Any] = {
        "user_id": user_id,
        "after": after,
        "until": until,
        "impersonal": sorted(IMPERSONAL),
    }
    cursor.execute(EMPTY_EVENTS, values)
    return int(cursor.rowcount)


def _empty_older_events(user_id: str, until: int, *, seconds: float = SECONDS_FOR_OLDER_EVENTS) -> None:
    """Up to the version `until`, newest first, in transactions of their own."""
    deadline = time.monotonic() + seconds
    while until > 0 and time.monotonic() < deadline:
        with transaction.atomic(), connection.cursor() as cursor:
            empty_events(cursor, user_id, until - EVENTS_AT_ONCE, until)
        until -= EVENTS_AT_ONCE


def _addresses(cursor: CursorWrapper, user_id: str, email: str) -> list[str]:
    """All that are known to have been his, `email` among them, and are nobody else's."""
    cursor.execute(ADDRESSES, {"user_id": user_id, "email": email})
    return [address for (address,) in cursor.fetchall()]


def _remove_rows(
    cursor: CursorWrapper, user_id: str, addresses: Sequence[str], present: str = ""
) -> dict[str, int]:
    values: dict[str, Any] = {
        "user_id": user_id,
        "scope": user_id,
        "addresses": list(addresses),
        "email": present,
    }
    removed = _remove_sessions(cursor, user_id)
    for table, statement in REMOVED.items():
        cursor.execute(statement, values)
        removed[table] = cursor.rowcount
    return removed


def _remove_sessions(cursor: CursorWrapper, user_id: str) -> dict[str, int]:
    """Tokens before sessions, as refreshing goes; and those after them that somebody was given meanwhile."""
    cursor.execute("SELECT id FROM sessions WHERE user_id = %s", [user_id])
    ids = [session_id for (session_id,) in cursor.fetchall()]
    tokens = 0
    for statement in (
        "DELETE FROM refresh_tokens WHERE session_id = ANY(%s)",
        "DELETE FROM sessions WHERE id = ANY(%s)",
        "DELETE FROM refresh_tokens WHERE session_id = ANY(%s)",
    ):
        cursor.execute(statement, [ids])
        tokens += cursor.rowcount if "refresh_tokens" in statement else 0
    return {"sessions": len(ids), "refresh_tokens": tokens}


def _end_page_sessions(user_id: str) -> None:
    """Nobody gets in by them any more. Decoding takes its time: never while others wait for a lock."""
    young = PageSession.objects.order_by("-expire_date")[:PAGE_SESSIONS]
    his = [row.pk for row in young if row.get_decoded().get(SESSION_KEY) == user_id]
    if his:
        PageSession.objects.filter(pk__in=his).delete()


def told(user_id: str, until: int) -> Iterator[list[int]]:
    """The sequences up to `until` of his events that may have said who he was, in pages."""
    after = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                SELECT user_version, sequence FROM outbox
                WHERE user_id = %s AND user_version > %s AND sequence <= %s AND event_type <> ALL(%s)
                ORDER BY user_version LIMIT 1000
                """,
                [user_id, after, until, list(IMPERSONAL_TYPES)],
            )
            rows = cursor.fetchall()
        if not rows:
            return
        yield [sequence for _, sequence in rows]
        after = rows[-1][0]
