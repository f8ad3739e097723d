"""The port Mailbox: a row in the queue, in whatever transaction is open."""

from collections.abc import Callable

import structlog
from django.db.models.functions import Now

from users.application.ports import MailKind
from users.models import Mail

log = structlog.get_logger(__name__)

Outcome = Callable[[str, str], None]
"""Counts a mail, by its kind and what has become of it."""


class DatabaseMailbox:
    """`configured`: whether there is anything to send by; if not, nothing is kept."""

    def __init__(self, *, configured: bool, outcome: Outcome) -> None:
        self._configured = configured
        self._outcome = outcome

    def post(
        self, kind: MailKind, *, user_id: str | None = None, email: str | None = None, **data: str
    ) -> None:
        if not self._configured:
            log.warning("mail_not_configured", kind=kind.value)
            self._outcome(kind.value, "not_configured")
            return
        Mail.objects.create(
            kind=kind.value, user_id=user_id, email=email, data=data, created_at=Now(), next_attempt_at=Now()
        )
