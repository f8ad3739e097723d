"""What follows a commit: the cache, then the events."""

from collections.abc import Callable, Collection, Sequence

import structlog

from users.application.representation import UserView
from users.infrastructure.background import Background
from users.infrastructure.redis_link import RedisAway
from users.infrastructure.relay import DuePuts, Relay

log = structlog.get_logger(__name__)


class CacheThenEvents:
    """In this order, so that nobody who is told of an event reads an older user; both in one exchange with
    Redis, where this thread or another publishes them. Redis away or anything else amiss fails no command:
    the worker does it again.

    Whoever finds nobody publishing does so once. Those who come meanwhile put their users and go; their
    events are left to a thread that no request waits for, so that none is slow because there are many."""

    def __init__(
        self, put: Callable[[Collection[UserView]], None], relay: Relay, *, budget_seconds: float = 0.05
    ) -> None:
        self._put = put
        self._relay = relay
        self._budget = budget_seconds
        self._background = Background("events", self._publish_for_others)

    def __call__(self, views: Sequence[UserView]) -> None:
        due = DuePuts(views)
        try:
            if not self._relay.has_in_hand(views):
                self._relay.drain(seconds=self._budget, due=due)
        except RedisAway:
            log.debug("events_wait_for_redis")
        finally:
            if not due.done:
                self._put(views)
                due.done = True  # nobody who drains later need put it once more
            self._see_to_the_others()

    def _publish_for_others(self) -> None:
        try:
            self._relay.drain_for_others(seconds=self._budget)
        except RedisAway:
            log.debug("events_wait_for_redis")
        else:
            self._see_to_the_others()

    def _see_to_the_others(self) -> None:
        if self._relay.is_neglected:
            self._background.wake()
