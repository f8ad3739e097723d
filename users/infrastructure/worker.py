"""The worker: the relay as a loop, and what has to happen by the clock."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from users.infrastructure import outbox
from users.infrastructure.idempotency import forget_old_keys
from users.infrastructure.redis_link import RedisAway
from users.infrastructure.relay import Relay
from users.models import UserRecord
from users_domain.errors import DomainError

log = structlog.get_logger(__name__)

NUMBERED_WITHOUT_REDIS = 500
"""Events a round, for those who read them by `GET /events` meanwhile."""

BLOCKS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every so many seconds."""

    name: str
    every_seconds: float
    act: Callable[[], object]


class Worker:
    """Does each duty in a thread of its own, so that none waits for another. `end_block` lifts one user's
    block in the system's name; `also` are duties of other parts."""

    def __init__(
        self,
        relay: Relay,
        *,
        end_block: Callable[[str], object],
        also: Sequence[Duty] = (),
        poll_seconds: float = 0.2,
    ) -> None:
        self._relay = relay
        self._end_block = end_block
        self._duties = [
            Duty("relay", poll_seconds, self.relay_events),
            Duty("blocks", 0.5, self.end_blocks),
            Duty("idempotency", 600.0, forget_old_keys),
            *also,
        ]

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then everything that is waiting goes out once more."""
        threads = [
            threading.Thread(target=self._keep_doing, args=(duty, stop), name=duty.name)
            for duty in self._duties
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._attempt(Duty("relay", 0, self.relay_events))

    def relay_events(self) -> int:
        try:
            self._relay.check_stream(seconds=1)
        except RedisAway:
            outbox.give_sequences(NUMBERED_WITHOUT_REDIS)
            raise
        return self._relay.drain(seconds=1)

    def end_blocks(self) -> int:
        """Lifts the blocks whose time has run out, and answers how many."""
        ended = UserRecord.objects.filter(blocked_until__lte=timezone.now()).order_by("blocked_until")
        lifted = 0
        for user_id in ended.values_list("id", flat=True)[:BLOCKS_AT_ONCE]:
            try:
                self._end_block(str(user_id))
                lifted += 1
            except DomainError as error:  # somebody was faster
                log.info("block_not_ended", user_id=str(user_id), error=error.code)
        return lifted

    def _keep_doing(self, duty: Duty, stop: threading.Event) -> None:
        while not stop.is_set():
            self._attempt(duty)
            stop.wait(duty.every_seconds)
        connection.close()

    def _attempt(self, duty: Duty) -> None:
        try:
            close_old_connections()
            duty.act()
        except RedisAway:
            log.debug("duty_waits", duty=duty.name, error="redis")
        except DatabaseError as error:
            log.warning("duty_waits", duty=duty.name, error=type(error).__name__)
        except Exception:
            log.exception("duty_failed", duty=duty.name)
