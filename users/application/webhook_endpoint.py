"""A webhook endpoint: what it is, how it is shown, and what a delivery makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

SECRET_OVERLAP = timedelta(hours=24)
"""How long after a rotation messages are signed with the old secret too."""

GONE = 410
"""The status by which a receiver asks for nothing more."""


class EndpointState(StrEnum):
    """`active`: deliveries go through, or there were none yet; `retrying`: the last one failed and will be
    tried again; `paused`: given up until somebody resumes; `disabled`: switched off by hand."""

    ACTIVE = "active"
    RETRYING = "retrying"
    PAUSED = "paused"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    """An endpoint as it is shown. `event_types` empty means all. `position`: the sequence up to which all is
    delivered; `waiting`: how many events lie behind it that the endpoint wants, counted to 1,000 at most.
    `previous_secret_until`: until when the secret before the present one signs too."""

    id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    enabled: bool
    state: EndpointState
    position: int
    waiting: int
    failures: int
    failing_since: datetime | None
    next_attempt_at: datetime | None
    paused_at: datetime | None
    paused_because: str | None
    previous_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryView:
    """One attempt. `kind` is event, redelivery or ping; `sequence` is None for a ping. `status` is the
    receiver's, None when there was no answer; `error` is None when it was accepted (2xx)."""

    id: int
    kind: str
    event_id: str
    event_type: str
    sequence: int | None
    attempt: int
    attempted_at: datetime
    duration_ms: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent: `body` is the envelope as JSON. `sequence` is None for a ping."""

    event_id: str
    event_type: str
    sequence: int | None
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of sending. `error` is a stable word (docs/webhooks.md lists them), None for a 2xx.
    `retry_after`: seconds that the receiver asked to be left alone."""

    status: int | None
    error: str | None
    duration_ms: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint as stored, with the secrets sealed. `position`: the last sequence that the receiver has
    accepted or did not want. `version` counts what admins have changed; deliveries leave it alone."""

    id: str
    url: str
    description: str
    event_types: tuple[str, ...]
    secret: str = field(repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_until: datetime | None = None
    enabled: bool
    position: int
    failures: int = 0
    failing_since: datetime | None = None
    next_attempt_at: datetime
    paused_at: datetime | None = None
    paused_because: str | None = None
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def state(self) -> EndpointState:
        if not self.enabled:
            return EndpointState.DISABLED
        if self.paused_at:
            return EndpointState.PAUSED
        return EndpointState.RETRYING if self.failures else EndpointState.ACTIVE

    def sealed_secrets(self, now: datetime) -> Sequence[str]:
        """Those that sign now, the newest first."""
        if self.previous_secret and self.previous_secret_until and now < self.previous_secret_until:
            return [self.secret, self.previous_secret]
        return [self.secret]

    def changed(
        self,
        *,
        url: str | None,
        description: str | None,
        event_types: tuple[str, ...] | None,
        enabled: bool | None,
        now: datetime,
    ) -> Self:
        """What is None stays; where nothing differs, so does the version. Another address, and being switched
        on, is a new beginning for deliveries."""
        changed = replace(
            self,
            url=self.url if url is None else url,
            description=self.description if description is None else description,
            event_types=self.event_types if event_types is None else event_types,
            enabled=self.enabled if enabled is None else enabled,
        )
        anew = changed.url != self.url or enabled is True
        if changed == self and not (anew and self.state != EndpointState.ACTIVE):
            return self
        return changed.resumed(now) if anew else changed._touched(now)

    def resumed(self, now: datetime) -> Self:
        """Due at once, from where it stopped, and with the whole time for trying before it."""
        fresh = replace(
            self, failures=0, failing_since=None, next_attempt_at=now, paused_at=None, paused_because=None
        )
        return fresh._touched(now)

    def put_back(self, position: int, now: datetime) -> Self:
        """Resumed, and never forward."""
        return replace(self.resumed(now), position=min(self.position, position))

    def not_before(self, position: int) -> Self:
        """What lies before `position` is no longer kept, and cannot be sent."""
        return replace(self, position=max(self.position, position))

    def rotated(self, secret: str, now: datetime) -> Self:
        """`secret`, sealed, signs from now on, and for SECRET_OVERLAP the present one too."""
        until = now + SECRET_OVERLAP
        rotated = replace(self, secret=secret, previous_secret=self.secret, previous_secret_until=until)
        return rotated._touched(now)

    def accepted(self, position: int, now: datetime) -> Self:
        """All up to `position` is dealt with; the next is due at once."""
        return replace(self, position=position, failures=0, failing_since=None, next_attempt_at=now)

    def failed(self, answer: Answer, *, delay: float, retry_for: timedelta, now: datetime) -> Self:
        """Due again after `delay` seconds; or paused, when the receiver wants nothing more, or when nothing
        was accepted for as long as `retry_for`. The position stays, so nothing is lost."""
        since = self.failing_since or now
        failed = replace(
            self,
            failures=self.failures + 1,
            failing_since=since,
            next_attempt_at=now + timedelta(seconds=delay),
        )
        if answer.status == GONE:
            return failed.paused("The receiver answered 410 Gone.", now)
        if now - since >= retry_for:
            return failed.paused(f"Nothing was accepted since {since:%Y-%m-%d %H:%M} UTC.", now)
        return failed

    def paused(self, because: str, now: datetime) -> Self:
        return replace(self, paused_at=now, paused_because=because)

    def view(self, *, waiting: int, now: datetime) -> EndpointView:
        """`waiting` is for the caller to count."""
        overlaps = self.previous_secret_until and now < self.previous_secret_until
        return EndpointView(
            id=self.id,
            url=self.url,
            description=self.description,
            event_types=self.event_types,
            enabled=self.enabled,
            state=self.state,
            position=self.position,
            waiting=waiting,
            failures=self.failures,
            failing_since=self.failing_since,
            next_attempt_at=self.next_attempt_at if self.state == EndpointState.RETRYING else None,
            paused_at=self.paused_at,
            paused_because=self.paused_because,
            previous_secret_until=self.previous_secret_until if overlaps else None,
            created_at=self.created_at,
            updated_at=self.updated_at,
            version=self.version,
        )

    def _touched(self, now: datetime) -> Self:
        return replace(self, updated_at=now, version=self.version + 1)
