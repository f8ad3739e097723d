"""What the processes of a run share, in a file mapped into the memory of each: what was answered so far.

Numbers of 64 bits, each written by one process only, so that nobody waits for anybody."""

import mmap
import os
import time
from pathlib import Path

WRITERS = 3
READERS = 2
COUNTED = ("reads", "own", "unchanged", "refused", "logins", "troubles", "suspects")
"""By each reader: answers that were judged, of these the ones to a user about himself and the 304s; tokens
that were refused as they must; logins; requests without an answer that helps; answers to be judged later."""


class Board:
    def __init__(self, file: Path, users: int) -> None:
        """Made anew where the file is not there."""
        self._users = users
        self._counters = 2 * WRITERS * users
        self._over = self._counters + READERS * len(COUNTED)
        size = 8 * (self._over + 1)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
        os.ftruncate(descriptor, size)
        self._numbers = memoryview(mmap.mmap(descriptor, size)).cast("q")
        os.close(descriptor)

    def note(self, writer: int, user: int, version: int, begun: int, *, kills: bool) -> None:
        """When a write was answered; `kills`: no token from before it is worth anything any more."""
        place = 2 * WRITERS * user + writer
        if kills:
            self._numbers[place + WRITERS] = max(self._numbers[place + WRITERS], begun)
        self._numbers[place] = max(self._numbers[place], version)

    def newest(self, user: int) -> int:
        """The version below which nobody who begins to read now may be answered."""
        place = 2 * WRITERS * user
        return max(self._numbers[place : place + WRITERS])

    def killed(self, user: int) -> int:
        """The moment before which a token of his must have been issued to be worthless for certain."""
        place = 2 * WRITERS * user + WRITERS
        return max(self._numbers[place : place + WRITERS])

    def count(self, reader: int, counted: dict[str, int]) -> None:
        place = self._counters + reader * len(COUNTED)
        for offset, name in enumerate(COUNTED):
            self._numbers[place + offset] = counted[name]

    def counts(self) -> dict[str, int]:
        """Of all readers together."""
        return {
            name: sum(self._numbers[self._counters + offset : self._over : len(COUNTED)])
            for offset, name in enumerate(COUNTED)
        }

    @property
    def over(self) -> bool:
        return bool(self._numbers[self._over])

    def end(self) -> None:
        self._numbers[self._over] = 1


def now() -> int:
    """Nanoseconds; the same clock in all processes of a machine."""
    return time.monotonic_ns()
