"""From events to mails: one more reader of the feed, whose position moves in the transaction that queues."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now

from users.application import links
from users.application.envelope import Envelope
from users.application.ports import MailKind
from users.infrastructure import outbox
from users.infrastructure.reads import DatabaseReads
from users.models import Mail, MailPosition
from users_domain.value_objects import EndOfSession

BATCH = 200
LEFT_AFTER = timedelta(hours=1)
"""So long after the last worker that sends mail was at work its place in the feed is given up."""

KINDS = {
    "user.created": MailKind.VERIFY_EMAIL,
    "user.email_changed": MailKind.VERIFY_EMAIL,
    "user.password_changed": MailKind.PASSWORD_CHANGED,
    "user.sessions_ended": MailKind.TOKEN_REUSED,
}


class MailsFromFeed:
    """Several may be at work: one queues, the others find the position's row locked and pass on."""

    def __init__(self, reads: DatabaseReads, *, batch: int = BATCH) -> None:
        self._reads = reads
        self._batch = batch

    def queue_some(self) -> bool:
        """The mails of the next events. Whether there may be more."""
        if MailPosition.objects.filter(position__gte=outbox.position()[0]).exists():
            return False  # an idle worker writes nothing, not even a row lock
        with transaction.atomic():
            row = MailPosition.objects.select_for_update(skip_locked=True).first()
            end, _ = outbox.position()  # asked under the lock, so that the position never goes back
            if row is None:
                begin_at(end)
                return False
            events = self._reads.feed(row.position, self._batch, KINDS)
            Mail.objects.bulk_create(
                (mail for event in events if (mail := _mail(event))), ignore_conflicts=True
            )
            more = len(events) == self._batch
            MailPosition.objects.update(position=events[-1]["sequence"] if more else end)
        return more


def begin_at(sequence: int) -> None:
    """Where nobody has been at work yet: what happened before is no news. Elsewhere it changes nothing."""
    row = MailPosition(id=1, position=sequence, touched_at=Now())
    MailPosition.objects.bulk_create([row], ignore_conflicts=True)


def keep_position() -> None:
    """What every worker that has mail to send says now and then."""
    MailPosition.objects.update(touched_at=Now())


def forget_position() -> None:
    """While nobody sends mail, nothing waits for it; who begins again does so at the end of the feed. Others
    may be sending, though, where mail is being switched on or off one worker after the other."""
    MailPosition.objects.filter(touched_at__lt=Now() - LEFT_AFTER).delete()


@dataclass(frozen=True, slots=True)
class Behind:
    """How many events the reader has not seen, and how old the first of them is."""

    events: int
    seconds: float


def behind() -> Behind:
    """Nothing where nobody has been at work yet, as `begin_at` says."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT sequenced - position, (
                SELECT CASE WHEN isfinite(occurred_at) THEN extract(epoch FROM now() - occurred_at) END
                FROM outbox WHERE sequence > position ORDER BY sequence LIMIT 1
            )
            FROM mail_position, relay_position
            """
        )
        events, seconds = cursor.fetchone() or (0, 0)
    return Behind(max(0, events), max(0.0, float(seconds or 0)))


def _mail(event: Envelope) -> Mail | None:
    """None for what nobody is written about: among others events that were set aside."""
    kind = KINDS.get(event["event_type"])
    data: dict[str, Any] = event["data"]
    if kind is None or (kind is MailKind.TOKEN_REUSED and data.get("cause") != EndOfSession.TOKEN_REUSED):
        return None
    about = {"at": event["timestamp"]}
    if kind is MailKind.VERIFY_EMAIL:
        about["address"] = links.digest(str(data.get("email")))
    return Mail(
        kind=kind.value,
        user_id=event["user_id"],
        event_id=event["event_id"],
        data=about,
        created_at=Now(),
        next_attempt_at=Now(),
    )
