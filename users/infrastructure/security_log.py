"""What a security officer wants to hear of, in the log and as a metric. Never an email or a whole address."""

import structlog

from users.application.addresses import prefix_of
from users.infrastructure import metrics

log = structlog.get_logger("users.security")
GOOD_NEWS = {"login_succeeded", "mailbox_proven"}


def security_event(event: str, *, address: str = "", user_id: str | None = None, **more: str | None) -> None:
    """`event`: one of `metrics.SECURITY_EVENT_NAMES`, so that the label stays bounded."""
    if event not in metrics.SECURITY_EVENT_NAMES:
        raise ValueError(event)
    metrics.SECURITY_EVENTS.labels(event).inc()
    said = {"user_id": user_id, "address": prefix_of(address), **more}
    note = log.info if event in GOOD_NEWS else log.warning
    note(event, **{name: value for name, value in said.items() if value})
