"""How one signing key follows another without a single token refused: publish, wait, switch, wait, retire."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from users.infrastructure.key_folder import KeptKey, KeyFolder, State
from users.infrastructure.keyring import JWKS_MAX_AGE_SECONDS, new_pem

PUBLISH_FOR = timedelta(seconds=JWKS_MAX_AGE_SECONDS) + timedelta(seconds=300)
"""A client may have the keys from a proxy that had kept them as long already; and some take ten minutes."""
RETIRE_SLACK = timedelta(seconds=60)
"""Our processes notice a switch within a second, and clocks differ."""


class Act(StrEnum):
    PUBLISH = "publish"
    SWITCH = "switch"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Step:
    """`kid` is the key that it makes, switches to or removes; None as long as it has to be made."""

    act: Act
    due: datetime
    kid: str | None = None


class Rotation:
    def __init__(
        self, folder: KeyFolder, *, token_lifetime: timedelta, every: timedelta, clock: Callable[[], datetime]
    ) -> None:
        """A new rotation is due when a key has signed for `every`."""
        self._folder = folder
        self.retire_after = token_lifetime + RETIRE_SLACK
        self._every = every
        self._clock = clock

    def next(self) -> Step:
        """Raises KeysBroken."""
        return self._next(self._folder.read())

    def _next(self, keys: list[KeptKey]) -> Step:
        unfinished = [
            Step(Act.SWITCH, key.since + PUBLISH_FOR, key.kid) for key in keys if key.state is State.PUBLISHED
        ] + [
            Step(Act.RETIRE, key.since + self.retire_after, key.kid)
            for key in keys
            if key.state is State.RETIRING
        ]
        if unfinished:
            return min(unfinished, key=lambda step: step.due)
        return Step(Act.PUBLISH, keys[0].since + self._every)

    def step(self, algorithm: str | None = None, *, begin: bool = False) -> Step | None:
        """Does the one step that is due, and answers which it was; a new rotation is due as well if it shall
        `begin`. What another process has done meanwhile is not done again."""
        with self._folder.locked():
            keys, now = self._folder.read(), self._clock()
            step = self._next(keys)
            if step.due > now and not (begin and step.act is Act.PUBLISH):
                return None
            match step.act:
                case Act.PUBLISH:
                    return replace(step, kid=self._publish(keys, algorithm, now))
                case Act.SWITCH:
                    self._folder.write([_switched(key, step.kid, now) for key in keys])
                case Act.RETIRE:
                    self._folder.write([key for key in keys if key.kid != step.kid])
            return step

    def replace_at_once(self, algorithm: str | None = None) -> tuple[str, list[str]]:
        """One new key in the place of all: the new id, and those that are gone."""
        with self._folder.locked():
            keys = self._folder.read()
            key = self._folder.add(new_pem(algorithm or keys[0].algorithm))
            self._folder.write([KeptKey(key.kid, key.algorithm, State.ACTIVE, self._clock())])
            return key.kid, [old.kid for old in keys]

    def _publish(self, keys: list[KeptKey], algorithm: str | None, now: datetime) -> str:
        key = self._folder.add(new_pem(algorithm or keys[0].algorithm))
        self._folder.write([*keys, KeptKey(key.kid, key.algorithm, State.PUBLISHED, now)])
        return key.kid


def _switched(key: KeptKey, to: str | None, now: datetime) -> KeptKey:
    if key.kid == to:
        return replace(key, state=State.ACTIVE, since=now)
    if key.state is State.ACTIVE:
        return replace(key, state=State.RETIRING, since=now)
    return key
