"""What webhooks ask of the world. Each port has a real adapter in `users.infrastructure.webhooks` and a fake
in `tests.fakes`."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Protocol

from users.application.webhook_endpoint import Answer, DeliveryView, Endpoint, Message

Change = Callable[[Endpoint], Endpoint]


class Endpoints(Protocol):
    """The stored endpoints. Whatever takes an id raises WebhookNotFound."""

    def add(self, endpoint: Endpoint) -> None: ...

    def get(self, endpoint_id: str) -> Endpoint: ...

    def all(self) -> list[Endpoint]:
        """Oldest first."""
        ...

    def change(self, endpoint_id: str, change: Change) -> Endpoint:
        """Stores what `change` makes of the endpoint, while nobody else can change it, and answers that.
        What `change` raises leaves the endpoint as it was."""
        ...

    def delete(self, endpoint_id: str, check: Change) -> None:
        """With its log; `check` may raise to prevent it."""
        ...


class DeliveryLog(Protocol):
    def note(
        self, endpoint: Endpoint, message: Message, answer: Answer, *, kind: str, at: datetime
    ) -> DeliveryView:
        """Raises WebhookNotFound when the endpoint has been deleted meanwhile."""
        ...

    def page(self, endpoint_id: str, *, limit: int, before: int | None) -> list[DeliveryView]:
        """Newest first, from behind the id `before`."""
        ...


class Feed(Protocol):
    """All events by sequence."""

    def bounds(self) -> tuple[int, int]:
        """The last sequence that is no longer kept (0: all are), and the last one given out."""
        ...

    def message(self, sequence: int) -> Message:
        """Raises EventNotFound."""
        ...

    def waiting(self, after: int, event_types: Collection[str]) -> int:
        """How many events of these types (empty: all) lie behind `after`, counted to 1,000 at most."""
        ...


class Sender(Protocol):
    def send(self, endpoint: Endpoint, message: Message) -> Answer:
        """Signs and posts once, within a few seconds; whatever goes wrong is in the answer."""
        ...


class Secrets(Protocol):
    def new(self) -> tuple[str, str]:
        """A fresh one (`whsec_...`), plain and sealed."""
        ...


CheckUrl = Callable[[str], None]
"""Raises InvalidWebhook for an address that may not be called, as far as can be told without asking DNS."""
