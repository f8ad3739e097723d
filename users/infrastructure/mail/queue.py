"""The table of mails as a queue: who sends which, and what came of it.

`next_attempt_at` says from when on a mail is to be tried, or while it is being sent, from when on the worker
who does so must be taken for dead; it is NULL for what is done with. Whoever stores an outcome compares the
lease, so that a worker who slept through it spoils nothing. Times are PostgreSQL's, which workers share."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from users.infrastructure.mail.faults import RECIPIENT_REFUSED
from users.models import Mail

KEEP_DAYS = 7
"""How long what is done with stays to be looked at, without address and data."""

TOO_LATE = "not sent in time"
_NO_MORE: dict[str, Any] = {"next_attempt_at": None, "lease": None, "email": None, "data": {}}


def is_any_due() -> bool:
    return _due().exists()


def claim(*, seconds: float) -> Mail | None:
    """The mail that has been due longest, for so long this worker's own."""
    with transaction.atomic():
        mail = _due().select_for_update(skip_locked=True).order_by("next_attempt_at", "id").first()
        if mail is None:
            return None
        mail.lease = uuid4()
        mail.attempts += 1
        Mail.objects.filter(id=mail.id).update(
            lease=mail.lease, attempts=mail.attempts, next_attempt_at=_in(seconds)
        )
    return mail


def mark_sent(mail: Mail) -> bool:
    """Whether it was still this worker's."""
    return bool(_own(mail).update(sent_at=Now(), error=None, **_NO_MORE))


def put_back(mail: Mail, *, seconds: float, error: str) -> None:
    _own(mail).update(lease=None, next_attempt_at=_in(seconds), error=error)


def give_up(mail: Mail, *, error: str) -> None:
    _own(mail).update(error=error, **_NO_MORE)


def drop(mail: Mail) -> None:
    """Of a mail that nobody is to get not even a trace stays."""
    _own(mail).delete()


def give_up_old(hours: float) -> list[str]:
    """Those that were posted so long ago and are not being sent right now; answers their kinds."""
    old = Mail.objects.filter(created_at__lt=_in(-hours * 3600), next_attempt_at__lte=Now())
    with transaction.atomic():
        found = dict(old.select_for_update(skip_locked=True).values_list("id", "kind"))
        Mail.objects.filter(id__in=found).update(error=TOO_LATE, **_NO_MORE)
    return list(found.values())


def forget_finished() -> int:
    """Deletes what is done with, some days later."""
    done = Mail.objects.filter(next_attempt_at=None, created_at__lt=_in(-KEEP_DAYS * 24 * 3600))
    return done.delete()[0]


@dataclass(frozen=True, slots=True)
class Backlog:
    """`pending`: mails that are to be sent; `lag_seconds`: the age of the oldest of them, but for those whose
    recipient was refused for now: a full mailbox is no fault of ours."""

    pending: int
    lag_seconds: float


def backlog() -> Backlog:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*),
                coalesce(extract(epoch FROM now() - min(created_at) FILTER (
                    WHERE error IS NULL OR NOT starts_with(error, %s)
                )), 0)
            FROM mails WHERE next_attempt_at IS NOT NULL
            """,
            [RECIPIENT_REFUSED],
        )
        pending, lag = cursor.fetchone()
    return Backlog(pending, max(0.0, float(lag)))


def _due() -> QuerySet[Mail]:
    return Mail.objects.filter(next_attempt_at__lte=Now())


def _own(mail: Mail) -> QuerySet[Mail]:
    return Mail.objects.filter(id=mail.id, lease=mail.lease).exclude(lease=None)


def _in(seconds: float) -> object:
    return Now() + timedelta(seconds=seconds)
