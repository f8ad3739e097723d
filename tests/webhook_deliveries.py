"""What tests of webhooks share: events to deliver, somebody who wants them, and what has to have arrived."""

from collections.abc import Sequence
from typing import Any

from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.webhook_receiver import Receiver
from users.application.webhooks import CreateEndpoint
from users.infrastructure import outbox
from users.models import OutboxEvent
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE


def happen(count: int = 1, event_type: str = "user.renamed") -> list[int]:
    """That many events of as many users, numbered; answers their sequences."""
    rows = [
        OutboxEvent(
            event_id=uuid7(),
            event_type=event_type,
            user_id=uuid7(),
            user_version=1,
            occurred_at=timezone.now(),
            data={"name": "Zoë"},
        )
        for _ in range(count)
    ]
    OutboxEvent.objects.bulk_create(rows)
    while outbox.give_sequences(1000):
        pass
    ids = [row.event_id for row in rows]
    return sorted(OutboxEvent.objects.filter(event_id__in=ids).values_list("sequence", flat=True))


def subscribe(service: Service, receiver: Receiver, **fields: Any) -> str:
    """The id of an endpoint that leads to this receiver, which then knows the secret."""
    command = CreateEndpoint(**({"url": receiver.url, "by": COMMAND_LINE} | fields))
    view, secret = service.webhooks.create(command)
    receiver.secrets.append(secret)
    return view.id


def assert_everything_in_order(receiver: Receiver, sequences: Sequence[int]) -> None:
    """All of `sequences` and nothing else, each after the one before, repeats only of the last one, and a
    repeat is the same message."""
    last = 0
    ids: dict[int, str] = {}
    for envelope in receiver.taken:
        sequence = envelope["sequence"]
        expected = {last, next((each for each in sequences if each > last), None)}
        assert sequence in expected, receiver.sequences
        assert ids.setdefault(sequence, envelope["event_id"]) == envelope["event_id"]
        last = sequence
    assert sorted(ids) == list(sequences)
    for headers in receiver.seen:
        assert "elsewhere" not in headers[":path"]
