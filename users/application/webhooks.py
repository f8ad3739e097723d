"""Webhooks: where events are sent for those who read no Redis, and what became of each attempt.

Endpoints belong to the installation, not to users, so they are no part of `users_domain`. Adapters that
manage them (REST, admin pages) go through `Webhooks`; the worker's `Dispatcher` delivers on its own.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from users_domain.value_objects import Actor

SECRET_OVERLAP = timedelta(hours=24)
"""How long after a rotation messages are signed with the old secret too."""


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
class CreateEndpoint:
    """`after`: deliver what comes behind this sequence; None begins with the next event."""

    url: str
    description: str = ""
    event_types: Sequence[str] = ()
    enabled: bool = True
    after: int | None = None
    by: Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEndpoint:
    """What is None stays as it is. `expected`: versions one of which the endpoint must have; empty: any."""

    endpoint_id: str
    url: str | None = None
    description: str | None = None
    event_types: Sequence[str] | None = None
    enabled: bool | None = None
    expected: Collection[int] = ()
    by: Actor


class Webhooks:
    """What admins may do with endpoints. Each method raises Forbidden when `by` is no admin (the command
    line may), and those that name an endpoint raise WebhookNotFound; an id that is none names nobody."""

    def create(self, command: CreateEndpoint) -> tuple[EndpointView, str]:
        """The endpoint and its secret (`whsec_...`), which is shown this once. Raises InvalidWebhook for an
        address that may not be called, an unknown event type, or too long a description."""
        raise NotImplementedError

    def change(self, command: ChangeEndpoint) -> EndpointView:
        """Enabling or another address lets a paused endpoint try again at once. Raises InvalidWebhook,
        VersionMismatch."""
        raise NotImplementedError

    def delete(self, endpoint_id: str, *, expected: Collection[int] = (), by: Actor) -> None:
        """With its log. Raises VersionMismatch."""
        raise NotImplementedError

    def rotate_secret(self, endpoint_id: str, *, by: Actor) -> tuple[EndpointView, str]:
        """A new secret, shown this once; for SECRET_OVERLAP messages are signed with both."""
        raise NotImplementedError

    def resume(self, endpoint_id: str, *, by: Actor) -> EndpointView:
        """A paused or retrying endpoint tries again at once, from where it stopped."""
        raise NotImplementedError

    def ping(self, endpoint_id: str, *, by: Actor) -> DeliveryView:
        """Sends a `webhook.ping` now, whatever the endpoint's state, and answers what came of it."""
        raise NotImplementedError

    def redeliver(self, endpoint_id: str, sequence: int, *, by: Actor) -> DeliveryView:
        """Sends one event again now, out of turn; the position stays. Raises EventNotFound."""
        raise NotImplementedError

    def redeliver_since(self, endpoint_id: str, sequence: int, *, by: Actor) -> EndpointView:
        """Puts the position back (never forward), so that this event and all behind it are sent again, in
        order; resumes. Raises EventNotFound when there is no such event any more."""
        raise NotImplementedError

    def get(self, endpoint_id: str) -> EndpointView:
        raise NotImplementedError

    def endpoints(self) -> list[EndpointView]:
        """All, oldest first: there are few."""
        raise NotImplementedError

    def deliveries(self, endpoint_id: str, *, limit: int, before: int | None = None) -> list[DeliveryView]:
        """The log, newest first; `before` is the id of the last one that the caller has."""
        raise NotImplementedError
