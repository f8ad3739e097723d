"""Removes erased users from Redis: from the cache, from what the login limits know, and from the stream.

Twice. At once, as far as that takes no time; and once more by the worker, when whatever was under way at that
moment has ended: a relay, say, that had read an event before it was emptied and published it after the first
time. Until then the user stands in `erasures` as not swept."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from users.application.ports import Clock
from users.infrastructure import erasure, outbox
from users.infrastructure.cache import RedisUserCache
from users.infrastructure.event_bus import EventBus
from users.models import Erasure, OutboxEvent, RelayPosition

log = structlog.get_logger(__name__)

SETTLED = timedelta(seconds=60)
"""Nothing that began before an erasure takes longer: statements, transactions, calls of Redis end sooner."""
AT_ONCE = 100


class Sweep:
    """`forget_account` removes what Redis knows by an address. Both ways raise RedisAway."""

    def __init__(
        self,
        cache: RedisUserCache,
        bus: EventBus,
        *,
        forget_account: Callable[[str], None],
        clock: Clock,
        budget_seconds: float = 0.05,
    ) -> None:
        self._cache = cache
        self._bus = bus
        self._forget_account = forget_account
        self._clock = clock
        self._budget = budget_seconds

    def at_once(self, user_id: str, addresses: Sequence[str]) -> None:
        """For about the budget; the rest is for the worker."""
        deadline = time.monotonic() + self._budget
        self._cache.forget(user_id)
        for address in addresses:
            self._forget_account(address)
        _, published = outbox.position()
        for sequences in erasure.told(user_id, published):
            self._bus.delete(sequences)
            if time.monotonic() > deadline:
                return

    def finish(self) -> bool:
        """For all whose erasure is long enough ago; answers whether there may be more of them."""
        users = erasure.unswept(self._clock() - SETTLED, AT_ONCE)
        if not users:
            return False
        published = outbox.position()[1]
        for user_id in users:
            erasure.remove_again(user_id)
            self._cache.forget(user_id)
            for sequences in erasure.told(user_id, published):
                self._bus.delete(sequences)
        self._bus.delete(list(self._bus.about(frozenset(users), until=_pruned())))
        done = [user_id for user_id in users if not _waits(user_id, published)]
        Erasure.objects.filter(user_id__in=done).update(swept_at=self._clock())
        log.info("erasures_swept", count=len(done))
        return len(done) == AT_ONCE


def _pruned() -> int:
    """Up to where the table has forgotten what the stream may still have."""
    return RelayPosition.objects.filter(id=1).values_list("pruned", flat=True).first() or 0


def _waits(user_id: str, published: int) -> bool:
    """Whether an event of his is not in the stream yet. What is behind it nobody can add any more."""
    rows = OutboxEvent.objects.filter(user_id=user_id)
    return rows.filter(sequence=None).exists() or rows.filter(sequence__gt=published).exists()
