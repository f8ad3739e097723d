"""Removes erased users from Redis: from the cache, from what the login limits know, and from the stream.

Twice. At once, as far as that takes no time; and once more by the worker, when whatever was under way at that
moment has ended: a relay, say, that had read an event before it was emptied and published it after the first
time. Until then the user stands in `erasures` as not swept."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from users.application.ports import Clock
from users.infrastructure import erasure, outbox, unswept
from users.infrastructure.cache import RedisUserCache
from users.infrastructure.event_bus import EventBus
from users.infrastructure.redis_link import RedisAway
from users.infrastructure.unswept import Unswept
from users.models import OutboxEvent, RelayPosition

log = structlog.get_logger(__name__)

SETTLED = timedelta(seconds=60)
"""Nothing that began before an erasure takes longer: statements, transactions, calls of Redis end sooner."""
AT_ONCE = 100


class Sweep:
    """`forget_accounts` removes what Redis knows by the digests of addresses. Both ways raise RedisAway."""

    def __init__(
        self,
        cache: RedisUserCache,
        bus: EventBus,
        *,
        forget_accounts: Callable[[Sequence[str]], None],
        clock: Clock,
        budget_seconds: float = 0.05,
    ) -> None:
        self._cache = cache
        self._bus = bus
        self._forget_accounts = forget_accounts
        self._clock = clock
        self._budget = budget_seconds

    def at_once(self, user_id: str) -> None:
        """For about the budget; the rest is for the worker."""
        deadline = time.monotonic() + self._budget
        self._cache.forget(user_id)
        _, published = outbox.position()
        for sequences in erasure.told(user_id, published):
            self._bus.delete(sequences)
            if time.monotonic() > deadline:
                return

    def finish(self) -> bool:
        """For all whose erasure is long enough ago; answers whether there may be more of them."""
        users = unswept.due(self._clock() - SETTLED, AT_ONCE)
        if not users:
            return False
        published = outbox.position()[1]
        done = {user.user_id for user in users if self._is_swept(user, published)}
        self._bus.delete(list(self._bus.about(frozenset(done), until=_pruned())))
        unswept.note(done, {user.user_id for user in users} - done, self._clock())
        log.info("erasures_swept", count=len(done))
        return len(done) == AT_ONCE

    def _is_swept(self, user: Unswept, published: int) -> bool:
        """False when it cannot be done now, for whatever reason of his own. Without Redis it can be for
        nobody; nor without PostgreSQL, as noting that shows."""
        try:
            self._sweep(user, published)
            return not _waits(user.user_id, published)
        except RedisAway:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are not to wait for ever
            # Without its text, which may quote a row of his.
            log.error("erasure_not_swept", user_id=user.user_id, error=type(error).__name__)  # noqa: TRY400
            return False

    def _sweep(self, user: Unswept, published: int) -> None:
        self._forget_accounts(user.accounts)
        erasure.remove_again(user.user_id, had_roles=user.had_roles)
        self._cache.forget(user.user_id)
        for sequences in erasure.told(user.user_id, published):
            self._bus.delete(sequences)


def _pruned() -> int:
    """Up to where the table has forgotten what the stream may still have."""
    return RelayPosition.objects.filter(id=1).values_list("pruned", flat=True).first() or 0


def _waits(user_id: str, published: int) -> bool:
    """Whether an event of his is not in the stream yet. What is behind it nobody can add any more."""
    rows = OutboxEvent.objects.filter(user_id=user_id)
    return rows.filter(sequence=None).exists() or rows.filter(sequence__gt=published).exists()
