"""Webhooks: where events are sent for those who read no Redis, and what became of each attempt.

Endpoints belong to the installation, not to users, so they are no part of `users_domain`. Adapters that
manage them (REST, admin pages) go through `Webhooks`; the worker's `Dispatcher` delivers on its own."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import orjson
from uuid_utils.compat import uuid7

from users.application.errors import Forbidden, InvalidWebhook
from users.application.event_schemas import EVENT_TYPES
from users.application.ports import Clock
from users.application.representation import timestamp
from users.application.webhook_endpoint import (
    SECRET_OVERLAP,
    Answer,
    DeliveryView,
    Endpoint,
    EndpointState,
    EndpointView,
    Message,
)
from users.application.webhook_ports import CheckUrl, DeliveryLog, Endpoints, Feed, Secrets, Sender
from users_domain.errors import VersionMismatch
from users_domain.value_objects import Actor, Role, has_control_characters

__all__ = [
    "EVENT_TYPES",
    "PING",
    "SECRET_OVERLAP",
    "ChangeEndpoint",
    "CreateEndpoint",
    "DeliveryView",
    "EndpointState",
    "EndpointView",
    "Webhooks",
]

PING = "webhook.ping"
DESCRIPTION_LENGTH = 200


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

    def __init__(
        self,
        *,
        store: Endpoints,
        log: DeliveryLog,
        feed: Feed,
        sender: Sender,
        secrets: Secrets,
        check_url: CheckUrl,
        clock: Clock,
        sent: Callable[[Answer], None],
    ) -> None:
        """`sent` is told what came of each message."""
        self._store = store
        self._log = log
        self._feed = feed
        self._sender = sender
        self._secrets = secrets
        self._check_url = check_url
        self._clock = clock
        self._sent = sent

    def create(self, command: CreateEndpoint) -> tuple[EndpointView, str]:
        """The endpoint and its secret (`whsec_...`), which is shown this once. Raises InvalidWebhook for an
        address that may not be called, an unknown event type, or too long a description."""
        _admins_only(command.by)
        self._check_url(command.url)
        secret, sealed = self._secrets.new()
        now = self._clock()
        endpoint = Endpoint(
            id=str(uuid7()),
            url=command.url,
            description=_description(command.description),
            event_types=_event_types(command.event_types),
            secret=sealed,
            enabled=command.enabled,
            position=self._beginning(command.after),
            next_attempt_at=now,
            created_at=now,
            updated_at=now,
        )
        self._store.add(endpoint)
        return self._view(endpoint), secret

    def change(self, command: ChangeEndpoint) -> EndpointView:
        """Enabling or another address lets a paused endpoint try again at once. Raises InvalidWebhook,
        VersionMismatch."""
        _admins_only(command.by)
        if command.url is not None:
            self._check_url(command.url)
        description = None if command.description is None else _description(command.description)
        event_types = None if command.event_types is None else _event_types(command.event_types)

        def change(endpoint: Endpoint) -> Endpoint:
            return _expected(endpoint, command.expected).changed(
                url=command.url,
                description=description,
                event_types=event_types,
                enabled=command.enabled,
                now=self._clock(),
            )

        return self._view(self._store.change(command.endpoint_id, change))

    def delete(self, endpoint_id: str, *, expected: Collection[int] = (), by: Actor) -> None:
        """With its log. Raises VersionMismatch."""
        _admins_only(by)
        self._store.delete(endpoint_id, lambda endpoint: _expected(endpoint, expected))

    def rotate_secret(
        self, endpoint_id: str, *, expected: Collection[int] = (), by: Actor
    ) -> tuple[EndpointView, str]:
        """A new secret, shown this once; for SECRET_OVERLAP messages are signed with both. Of three secrets
        within that time the first signs no more. Raises VersionMismatch."""
        _admins_only(by)
        secret, sealed = self._secrets.new()

        def rotate(endpoint: Endpoint) -> Endpoint:
            return _expected(endpoint, expected).rotated(sealed, self._clock())

        return self._view(self._store.change(endpoint_id, rotate)), secret

    def resume(self, endpoint_id: str, *, expected: Collection[int] = (), by: Actor) -> EndpointView:
        """A paused or retrying endpoint tries again at once, from where it stopped; or from the oldest event
        that is still kept. Raises VersionMismatch."""
        _admins_only(by)
        pruned, _ = self._feed.bounds()

        def resume(endpoint: Endpoint) -> Endpoint:
            return _expected(endpoint, expected).resumed(self._clock()).not_before(pruned)

        return self._view(self._store.change(endpoint_id, resume))

    def ping(self, endpoint_id: str, *, by: Actor) -> DeliveryView:
        """Sends a `webhook.ping` now, whatever the endpoint's state, and answers what came of it."""
        _admins_only(by)
        endpoint = self._store.get(endpoint_id)
        return self._send(endpoint, self._ping(endpoint, by), kind="ping")

    def redeliver(
        self, endpoint_id: str, sequence: int, *, expected: Collection[int] = (), by: Actor
    ) -> DeliveryView:
        """Sends one event again now, out of turn; the position stays. Raises EventNotFound,
        VersionMismatch."""
        _admins_only(by)
        endpoint = _expected(self._store.get(endpoint_id), expected)
        return self._send(endpoint, self._feed.message(sequence), kind="redelivery")

    def redeliver_since(
        self, endpoint_id: str, sequence: int, *, expected: Collection[int] = (), by: Actor
    ) -> EndpointView:
        """Puts the position back (never forward), so that this event and all behind it are sent again, in
        order; resumes. Raises EventNotFound when there is no such event any more, VersionMismatch."""
        _admins_only(by)
        self._store.get(endpoint_id)
        self._feed.message(sequence)

        def put_back(endpoint: Endpoint) -> Endpoint:
            return _expected(endpoint, expected).put_back(sequence - 1, self._clock())

        return self._view(self._store.change(endpoint_id, put_back))

    def get(self, endpoint_id: str) -> EndpointView:
        return self._view(self._store.get(endpoint_id))

    def endpoints(self) -> list[EndpointView]:
        """All, oldest first: there are few."""
        return [self._view(endpoint) for endpoint in self._store.all()]

    def deliveries(self, endpoint_id: str, *, limit: int, before: int | None = None) -> list[DeliveryView]:
        """The log, newest first; `before` is the id of the last one that the caller has."""
        self._store.get(endpoint_id)
        return self._log.page(endpoint_id, limit=limit, before=before)

    def _view(self, endpoint: Endpoint) -> EndpointView:
        waiting = self._feed.waiting(endpoint.position, endpoint.event_types)
        return endpoint.view(waiting=waiting, now=self._clock())

    def _send(self, endpoint: Endpoint, message: Message, *, kind: str) -> DeliveryView:
        at = self._clock()
        answer = self._sender.send(endpoint, message)
        self._sent(answer)
        return self._log.note(endpoint, message, answer, kind=kind, at=at)

    def _ping(self, endpoint: Endpoint, by: Actor) -> Message:
        """An envelope like all others, of no user."""
        event_id = str(uuid7())
        envelope = {
            "event_type": PING,
            "event_id": event_id,
            "timestamp": timestamp(self._clock()),
            "data": {"endpoint_id": endpoint.id},
            "user_id": None,
            "user_version": None,
            "sequence": None,
            "request_id": None,
            "actor_id": by.id,
        }
        return Message(event_id=event_id, event_type=PING, sequence=None, body=orjson.dumps(envelope))

    def _beginning(self, after: int | None) -> int:
        pruned, last = self._feed.bounds()
        if after is None:
            return last
        if not 0 <= after <= last:
            raise InvalidWebhook("after", "unknown", f"The last event is {last}.")
        if after < pruned:
            raise InvalidWebhook("after", "gone", f"The oldest event that is still kept is {pruned + 1}.")
        return after


def _admins_only(by: Actor) -> None:
    if Role.ADMIN not in by.roles:
        raise Forbidden


def _expected(endpoint: Endpoint, expected: Collection[int]) -> Endpoint:
    if expected and endpoint.version not in expected:
        raise VersionMismatch("The webhook has another version than the one you named.")
    return endpoint


def _description(text: str) -> str:
    text = text.strip()
    if len(text) > DESCRIPTION_LENGTH:
        raise InvalidWebhook(
            "description", "too_long", f"A description has at most {DESCRIPTION_LENGTH} characters."
        )
    if has_control_characters(text):
        raise InvalidWebhook("description", "control_characters", "A description has no control characters.")
    return text


def _event_types(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of EVENT_TYPES, each once."""
    if unknown := set(names) - set(EVENT_TYPES):
        raise InvalidWebhook(
            "event_types",
            "unknown",
            f"There is no event {', '.join(sorted(map(repr, unknown)))}; there are {', '.join(EVENT_TYPES)}.",
        )
    return tuple(name for name in EVENT_TYPES if name in names)
