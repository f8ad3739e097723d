"""The feed as webhooks read it: messages, ready to send."""

from collections.abc import Collection

from django.db.models import Q

from users.application.envelope import Envelope
from users.application.errors import EventNotFound
from users.application.event_schemas import SET_ASIDE
from users.application.webhook_endpoint import Message
from users.infrastructure import outbox
from users.infrastructure.reads import DatabaseReads
from users.models import OutboxEvent, RelayPosition

WAITING_COUNTED = 1000


class DatabaseFeed:
    def __init__(self, reads: DatabaseReads) -> None:
        self._reads = reads

    def bounds(self) -> tuple[int, int]:
        row = RelayPosition.objects.filter(id=1).values_list("pruned", "sequenced").first()
        return row or (0, 0)

    def end(self, event_types: Collection[str]) -> int:
        """The last sequence whose type is settled. Who wants to know of rows that are set aside, but not of
        every row, has to wait until the relay has judged them: only published ones stay what they are."""
        sequenced, published = outbox.position()
        return published if SET_ASIDE in event_types else sequenced

    def pruned(self) -> int:
        """The last sequence that is no longer kept."""
        return self._reads.pruned()

    def messages(self, after: int, event_types: Collection[str], limit: int) -> list[Message]:
        """The first ones behind `after`, in order; of these types only, unless there are none."""
        return [_message(envelope) for envelope in self._reads.feed(after, limit, event_types)]

    def message(self, sequence: int) -> Message:
        found = self.messages(sequence - 1, (), 1)
        if not found or found[0].sequence != sequence:
            raise EventNotFound
        return found[0]

    def waiting(self, after: int, event_types: Collection[str]) -> int:
        rows = OutboxEvent.objects.filter(sequence__gt=after)
        if event_types:
            wanted = Q(event_type__in=event_types)
            if SET_ASIDE in event_types:
                wanted |= Q(set_aside_at__isnull=False)
            rows = rows.filter(wanted)
        return rows[:WAITING_COUNTED].count()


def _message(envelope: Envelope) -> Message:
    """The body is what stands in the stream, byte for byte."""
    return Message(
        event_id=envelope["event_id"],
        event_type=envelope["event_type"],
        sequence=envelope["sequence"],
        body=envelope.json,
    )
