"""All that is kept of one person, told to him: one JSON object, written in pieces.

What may be long is read in pages, so that neither a long history nor a slow reader costs memory or holds a
transaction open."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
import structlog
from django.contrib.admin.models import LogEntry
from django.db.models import Q, QuerySet

from users.application.representation import timestamp
from users.infrastructure import envelopes
from users.infrastructure.reads import DatabaseReads
from users.models import EmailChange, IdempotencyRecord, Mail, OutboxEvent, RefreshToken, Session, UserRecord
from users_domain.errors import UserNotFound
from users_domain.value_objects import UserStatus

log = structlog.get_logger(__name__)

AT_ONCE = 500
NOTE = (
    "Left out are secrets, of which not even you are told: the hash of your password, and what tokens are "
    "checked against. What you have written of others, and others of you, stands where it is told of them."
)

Row = Mapping[str, Any]


class DatabaseExport:
    def export(self, user_id: str, now: datetime) -> Iterator[bytes]:
        user = UserRecord.objects.exclude(status=UserStatus.ERASED).filter(id=user_id)
        beside = user.values("locale", "token_version", "ended_sessions").first()
        view = DatabaseReads().view(user_id)
        if beside is None or view is None:
            raise UserNotFound
        ended = {key: datetime.fromisoformat(at) for key, at in beside["ended_sessions"].items()}
        head = {
            "exported_at": now,
            "note": NOTE,
            "user": {**orjson.loads(view.json), **beside, "ended_sessions": ended},
            "email_change": _proposal(user_id),
        }
        return _watched(_written(head, user_id), user_id)


def _watched(pieces: Iterator[bytes], user_id: str) -> Iterator[bytes]:
    """The answer has begun, so nothing but its missing end tells the reader, and this line us."""
    try:
        yield from pieces
    except BaseException as error:  # a reader who hangs up closes the generator
        log.warning("export_cut_short", user_id=user_id, error=type(error).__name__)
        raise


def _written(head: Row, user_id: str) -> Iterator[bytes]:
    yield _json(head)[:-1]
    for name, rows in SECTIONS.items():
        yield b',"%s":[' % name.encode()
        for number, row in enumerate(rows(user_id)):
            yield (b"," if number else b"") + _json(row)
        yield b"]"
    yield b"}"


def _json(value: object) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError


def _proposal(user_id: str) -> Row | None:
    rows = EmailChange.objects.filter(user_id=user_id)
    return rows.values("email", "created_at", "expires_at").first()


def _events(user_id: str) -> Iterator[Row]:
    """As `GET /users/{id}/events` tells them."""
    after = 0
    rows = OutboxEvent.objects.filter(user_id=user_id).order_by("user_version")
    while page := envelopes.read(rows.filter(user_version__gt=after), AT_ONCE):
        yield from page
        after = page[-1]["user_version"]


def _sessions(user_id: str) -> Iterator[Row]:
    columns = ("id", "user_agent", "address", "created_at", "last_used_at", "expires_at", "ended_at")
    for session in _paged(Session.objects.filter(user_id=user_id), *columns):
        tokens = RefreshToken.objects.filter(session=session["id"]).order_by("issued_at")
        renewals = tokens.values("issued_at", "expires_at", "consumed_at")
        yield {**session, "refresh_tokens": list(renewals)}


def _mails(user_id: str) -> Iterator[Row]:
    """Those to him, and those asked for at the address that is his now."""
    mine = Q(user_id=user_id) | Q(email__in=UserRecord.objects.filter(id=user_id).values("email"))
    return _paged(Mail.objects.filter(mine), "id", "kind", "email", "created_at", "sent_at")


def _answers(user_id: str) -> Iterator[Row]:
    records = IdempotencyRecord.objects.filter(user_id=user_id)
    for row in _paged(records, "id", "key", "created_at", "response"):
        yield {**row, "response": orjson.loads(row["response"])}


def _acts(user_id: str) -> Iterator[Row]:
    """On the admin pages: by him, and on him."""
    entries = LogEntry.objects.filter(Q(user=user_id) | Q(object_id=user_id))
    return _paged(entries, "id", "action_time", "user_id", "object_id", "change_message")


SECTIONS: Mapping[str, Callable[[str], Iterator[Row]]] = {
    "sessions": _sessions,
    "mails": _mails,
    "idempotency": _answers,
    "admin_log": _acts,
    "events": _events,
}
TOLD_IN: Mapping[str, str] = {
    "users": "user",
    "email_changes": "email_change",
    "sessions": "sessions",
    "refresh_tokens": "sessions",
    "mails": "mails",
    "idempotency": "idempotency",
    "django_admin_log": "admin_log",
    "outbox": "events",
}
"""By table: the member of the export that tells what is in it."""
LEFT_OUT: Mapping[str, str] = {
    "django_session": "an id and a keyed digest, while somebody is logged in to the admin pages",
    "user_standings": "an index: the status and time of birth that his row has",
    "erasures": "only of users who are gone",
    "webhook_endpoints": "addresses of services",
    "webhook_deliveries": "of events, which are told themselves",
    "relay_position": "one row of numbers",
    "mail_position": "one row of a number",
    "django_migrations": "the schema's own",
    "django_content_type": "the schema's own",
    "auth_permission": "the schema's own",
    "auth_group": "empty: roles stand with the user",
    "auth_group_permissions": "empty: roles stand with the user",
}


def _paged(rows: QuerySet[Any], key: str, *columns: str) -> Iterator[Row]:
    last: object = None
    while True:
        page = list(
            (rows if last is None else rows.filter(**{f"{key}__gt": last}))
            .order_by(key)
            .values(key, *columns)[:AT_ONCE]
        )
        yield from page
        if len(page) < AT_ONCE:
            return
        last = page[-1][key]
