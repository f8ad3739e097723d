"""Sessions and the tracks of their refresh tokens in PostgreSQL. Nothing here lets anybody in: a token is
worth something by its signature, and that is not kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from users.application.errors import InvalidToken
from users.application.session import Refresh, Session
from users.models import RefreshToken
from users.models import Session as SessionRecord

TRACKS_KEPT = timedelta(days=1)
"""How long a used token is remembered by itself. Later it is known by not being known: whatever bears our
signature and names a live session, yet is not here, was used."""

_COLUMNS = (
    "id", "user_id", "token_version", "user_agent", "address", "created_at", "last_used_at", "expires_at"
)  # fmt: skip
_TOKEN = "INSERT INTO refresh_tokens (jti, session_id, issued_at, expires_at)"  # noqa: S105
OPEN = f"""
    WITH opened AS (
        INSERT INTO sessions ({", ".join(_COLUMNS)}) VALUES ({", ".join(["%s"] * len(_COLUMNS))})
    )
    {_TOKEN} VALUES (%s, %s, %s, %s)
"""  # noqa: S608 - of constants
# Of two who consume at once the second waits for the first, and then finds nothing unused.
CONSUME = f"""
    WITH consumed AS (
        UPDATE refresh_tokens SET consumed_at = %s, successor = %s
        WHERE jti = %s AND session_id = %s AND consumed_at IS NULL RETURNING jti
    ), kept AS (
        {_TOKEN} SELECT %s::uuid, %s::uuid, %s, %s FROM consumed
    )
    UPDATE sessions SET last_used_at = %s FROM consumed WHERE id = %s
"""  # noqa: S608 - of constants


class DatabaseSessions:
    """`idle`: how long a session lives on without being refreshed."""

    def __init__(self, idle: timedelta) -> None:
        self._idle = idle

    def open(self, session: Session, refresh: Refresh, *, most: int) -> Sequence[Session]:
        with connection.cursor() as cursor:
            cursor.execute(OPEN, [*(getattr(session, name) for name in _COLUMNS), *_row(refresh)])
        live = self._live_of(session.user_id, session.token_version, session.created_at)
        return [_session(record) for record in live[most : most + 10]]

    def live(self, session_id: UUID, now: datetime) -> Session:
        record = SessionRecord.objects.filter(self._live(now), id=session_id).first()
        if record is None:
            raise InvalidToken
        return _session(record)

    def consume(self, jti: UUID, successor: Refresh, now: datetime) -> bool:
        with connection.cursor() as cursor:
            session_id = successor.session_id
            cursor.execute(CONSUME, [now, successor.jti, jti, session_id, *_row(successor), now, session_id])
            return bool(cursor.rowcount)

    def successor_of(self, jti: UUID, *, consumed_since: datetime) -> Refresh | None:
        used = RefreshToken.objects.filter(jti=jti, consumed_at__gte=consumed_since)
        successor = (
            RefreshToken.objects.filter(jti__in=used.values("successor")).select_related("session").first()
        )
        if successor is None:
            return None
        return Refresh(
            jti=successor.jti,
            session_id=successor.session.id,
            user_id=str(successor.session.user_id),
            issued_at=successor.issued_at,
            expires_at=successor.expires_at,
        )

    def end(self, session_id: UUID, now: datetime) -> bool:
        return bool(SessionRecord.objects.filter(id=session_id, ended_at=None).update(ended_at=now))

    def end_all(self, user_id: str, now: datetime) -> None:
        SessionRecord.objects.filter(user_id=user_id, ended_at=None).update(ended_at=now)

    def of(self, user_id: str, token_version: int, now: datetime) -> Sequence[Session]:
        return [_session(record) for record in self._live_of(user_id, token_version, now)]

    def _live_of(self, user_id: str, token_version: int, now: datetime) -> QuerySet[SessionRecord]:
        live = SessionRecord.objects.filter(self._live(now), user_id=user_id, token_version=token_version)
        return live.order_by("-created_at")

    def _live(self, now: datetime) -> Q:
        return Q(ended_at=None, expires_at__gt=now, last_used_at__gt=now - self._idle)


def forget_old_sessions(idle: timedelta) -> None:
    """Deletes what leads nowhere any more: sessions that have run out or ended, and tracks of used tokens."""
    day_ago = timezone.now() - TRACKS_KEPT
    over = SessionRecord.objects.filter(
        Q(expires_at__lt=day_ago) | Q(ended_at__lt=day_ago) | Q(last_used_at__lt=day_ago - idle)
    )
    while ids := list(over.values_list("id", flat=True)[:1000]):
        with transaction.atomic():
            _delete(ids)
    used = RefreshToken.objects.filter(consumed_at__lt=day_ago)
    while jtis := list(used.values_list("jti", flat=True)[:1000]):
        RefreshToken.objects.filter(jti__in=jtis).delete()


def _delete(session_ids: Sequence[UUID]) -> None:
    if session_ids:
        RefreshToken.objects.filter(session__in=session_ids).delete()
        SessionRecord.objects.filter(id__in=session_ids).delete()


def _row(refresh: Refresh) -> tuple[UUID, UUID, datetime, datetime]:
    return refresh.jti, refresh.session_id, refresh.issued_at, refresh.expires_at


def _session(record: SessionRecord) -> Session:
    return Session(
        id=record.id,
        user_id=str(record.user_id),
        token_version=record.token_version,
        user_agent=record.user_agent,
        address=record.address,
        created_at=record.created_at,
        last_used_at=record.last_used_at,
        expires_at=record.expires_at,
    )
