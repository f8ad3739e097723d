"""From events to mails: one more reader of the feed, whose position moves in the transaction that queues."""

from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from users.application import links
from users.application.envelope import Envelope
from users.application.ports import MailKind
from users.infrastructure import outbox
from users.infrastructure.reads import DatabaseReads
from users.models import Mail, MailPosition
from users_domain.value_objects import EndOfSession

BATCH = 200

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
    MailPosition.objects.bulk_create([MailPosition(id=1, position=sequence)], ignore_conflicts=True)


def forget_position() -> None:
    """While no mail is sent, nothing waits for it; once it is, it begins anew at the end of the feed."""
    MailPosition.objects.all().delete()


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
