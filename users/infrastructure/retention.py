"""How long events are kept: deletes published ones that are old, from the lowest sequence on.

What remains is contiguous, so `pruned`, the last sequence that is gone, says all: a reader who asks for what
is behind an older one is told so instead of being given a feed with a hole."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Max, Min, Q

from users.infrastructure import outbox
from users.models import MailPosition, OutboxEvent, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Boundary:
    """The highest sequence that may go, and what keeps those behind it."""

    sequence: int
    because: str


def boundary(keep: int) -> Boundary:
    """As things are now. Whatever `keep` says, the newest event stays: an empty table would have forgotten
    what the numbers in the stream stand for."""
    _, published = outbox.position()
    newest = OutboxEvent.objects.aggregate(newest=Max("sequence"))["newest"] or 0
    bounds = [
        Boundary(newest - max(1, keep), f"the newest {max(1, keep):,} stay"),
        Boundary(published, "those behind it are not in the stream yet"),
    ]
    wanting = Q(enabled=True) | Q(paused_at__isnull=False)
    position = WebhookEndpoint.objects.filter(wanting).aggregate(position=Min("position"))["position"]
    if position is not None:
        bounds.append(Boundary(position, "a webhook still needs those behind it"))
    mailed = MailPosition.objects.values_list("position", flat=True).first()
    if mailed is not None:
        bounds.append(Boundary(mailed, "the mails about those behind it are not in the queue yet"))
    return min(bounds, key=lambda bound: bound.sequence)


def prune(before: datetime, *, keep: int, batch: int, dry_run: bool = False) -> Iterator[int]:
    """Deletes events older than `before`, in batches, each in a short transaction of its own, and yields how
    many each took. Ends at the first event that is younger, or that `boundary` keeps."""
    last = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            # Asked anew each time: meanwhile a webhook may have been put back.
            sequences = _oldest(cursor, last, boundary(keep).sequence, before, batch)
            if sequences and not dry_run:
                _delete(cursor, sequences[-1])
        if not sequences:
            return
        last = sequences[-1]
        yield len(sequences)


def oldest_kept() -> int:
    """The lowest sequence in the table, 0 when there is none."""
    return OutboxEvent.objects.aggregate(oldest=Min("sequence"))["oldest"] or 0


def _oldest(cursor: CursorWrapper, after: int, until: int, before: datetime, limit: int) -> list[int]:
    """The next sequences that may go: a run without a younger one in it."""
    cursor.execute(
        """
        SELECT sequence, CASE WHEN set_aside_at IS NULL THEN occurred_at ELSE set_aside_at END < %s
        FROM outbox WHERE sequence > %s AND sequence <= %s ORDER BY sequence LIMIT %s
        """,
        [before, after, until, limit],
    )
    sequences = []
    for sequence, old in cursor.fetchall():
        if not old:
            break
        sequences.append(sequence)
    return sequences


def _delete(cursor: CursorWrapper, until: int) -> None:
    cursor.execute("DELETE FROM outbox WHERE sequence <= %s", [until])
    # Last, so that the relay waits for this row no longer than a commit takes.
    cursor.execute("UPDATE relay_position SET pruned = %s WHERE id = 1 AND pruned < %s", [until, until])
