"""Running again what lost a race."""

import time
from collections.abc import Callable
from random import uniform
from typing import TypeVar

from users_domain.errors import ConcurrentUpdate

RERUNS = 3
Result = TypeVar("Result")


class Reruns:
    """Called with an attempt, runs it until it loses no race, three times more at most. The attempt is told
    whether it is the last: then it holds the user, so that nobody can keep others from changing him by
    changing him all the time. Raises ConcurrentUpdate when it lost them all."""

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause

    def __call__(self, attempt: Callable[[bool], Result]) -> Result:
        for run in range(RERUNS):
            try:
                return attempt(False)
            except ConcurrentUpdate:
                self._pause(uniform(0, 0.01) * 2**run)  # noqa: S311 - spreads the rivals, guards nothing
        return attempt(True)
