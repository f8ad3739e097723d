"""The worker: the relay as a loop, and what has to happen by the clock."""

import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from users.infrastructure import outbox
from users.infrastructure.redis_link import RedisAway
from users.infrastructure.relay import Relay
from users.models import UserRecord
from users_domain.errors import DomainError

log = structlog.get_logger(__name__)

NUMBERED_WITHOUT_REDIS = 5000
"""Events a round, for those who read them by `GET /events` meanwhile."""

BLOCKS_AT_ONCE = 1000

LONGEST_PAUSE_SECONDS = 3.0
HEARTBEAT_SECONDS = 5.0
SOON_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every so many seconds; or soon again, when `act` answers True: there is more to do."""

    name: str
    every_seconds: float
    act: Callable[[], object]
    finish: Callable[[], object] = lambda: None
    """Called once after the last `act`, for what that has begun."""


def pause_after(failures: int, every_seconds: float) -> float:
    """Seconds until a duty that has failed so often in a row is tried again. Doubled with each failure, and
    drawn at random below that, so that many workers do not all come back at once; no longer than three
    seconds, or than the duty's own pause where that is longer."""
    longest = max(LONGEST_PAUSE_SECONDS, every_seconds)
    return random.uniform(0, min(longest, every_seconds * 2.0 ** min(failures, 30)))  # noqa: S311


def one_by_one(*duties: Duty) -> Callable[[], bool]:
    """What needs no thread, and so no connection, of its own: each is done, whatever became of the others."""

    def act() -> bool:
        more = [attempt(duty) for duty in duties]
        return any(more)

    return act


def attempt(duty: Duty) -> bool | None:
    """Whether there is more to do; None when it failed."""
    try:
        close_old_connections()
        return duty.act() is True
    except RedisAway:
        log.debug("duty_waits", duty=duty.name, error="redis")
    except (DatabaseError, InterfaceError) as error:
        log.warning("duty_waits", duty=duty.name, error=type(error).__name__)
    except Exception:
        log.exception("duty_failed", duty=duty.name)
    return None


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
        self._beat_at = -math.inf
        self._end_block = end_block
        self._duties = [
            Duty("relay", poll_seconds, self.relay_events),
            Duty("blocks", 0.5, self.end_blocks),
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
        attempt(Duty("relay", 0, self.relay_events))

    def relay_events(self) -> bool:
        """One round, and when it was a good one, from time to time a sign of life. Answers whether there was
        something to send: where hooks are out, the next event comes soon."""
        try:
            self._relay.check_stream(seconds=1)
        except RedisAway:
            outbox.give_sequences(NUMBERED_WITHOUT_REDIS)
            raise
        sent = self._relay.drain(seconds=1)
        if time.monotonic() - self._beat_at >= HEARTBEAT_SECONDS:
            outbox.beat()
            self._beat_at = time.monotonic()
        return sent > 0

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
        failures = 0
        while not stop.is_set():
            more = attempt(duty)
            failures = failures + 1 if more is None else 0
            if failures:
                stop.wait(pause_after(failures, duty.every_seconds))
            else:
                stop.wait(min(SOON_SECONDS, duty.every_seconds) if more else duty.every_seconds)
        attempt(Duty(duty.name, 0, duty.finish))
        connection.close()
