"""The set of breached passwords: one sorted file, searched where it lies.

A header, then for each value of a digest's first two bytes how many digests there are up to and with it,
then the next five bytes of each digest. So seven bytes of SHA-1 count, and five are written: a billion take
5 GB, and a password that is in no breach is taken for one of them once in 72 million."""

import hashlib
import mmap
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

MAGIC = b"BREACHES"
VERSION = 1
PREFIX = 2
SUFFIX = 5
DIGEST = PREFIX + SUFFIX
HEADER = struct.Struct(">8sIIQQ")
INDEX = struct.Struct(">65536Q")
START = HEADER.size + INDEX.size
_COUNT = struct.Struct(">Q")


class NotABreachSet(ValueError):
    """The file is none, or is not all there."""


@dataclass(frozen=True, slots=True)
class About:
    """`min_count`: only passwords that were seen so many times are in it."""

    count: int
    min_count: int
    built_at: datetime

    @property
    def false_positives(self) -> float:
        """How likely a password that is not in it is taken for one that is."""
        return float(self.count / 2 ** (8 * DIGEST))

    def header(self) -> bytes:
        return HEADER.pack(MAGIC, VERSION, self.min_count, self.count, int(self.built_at.timestamp()))


class BreachSet:
    """Nothing of the file is read but what a question needs; processes share its pages. A file that takes the
    place of this one is seen by those who open it anew."""

    def __init__(self, path: str | Path) -> None:
        """Raises OSError, NotABreachSet."""
        with Path(path).open("rb") as file:
            head = file.read(HEADER.size)
            if head[: len(MAGIC)] != MAGIC or len(head) < HEADER.size:
                raise NotABreachSet(f"{path} was not made by `check_breaches build`")
            _, version, min_count, count, built_at = HEADER.unpack(head)
            if version != VERSION:
                raise NotABreachSet(f"{path} is of version {version}, this release reads {VERSION}")
            if file.seek(0, 2) != START + count * SUFFIX:
                raise NotABreachSet(f"{path} is not complete")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.about = About(count, min_count, datetime.fromtimestamp(built_at, UTC))

    def __contains__(self, password: object) -> bool:
        return isinstance(password, str) and self.has(sha1(password.encode()))

    def has(self, digest: bytes) -> bool:
        low, high = self._bucket(int.from_bytes(digest[:PREFIX]))
        wanted, entries = digest[PREFIX:DIGEST], self._bytes
        while low < high:
            middle = (low + high) // 2
            place = START + middle * SUFFIX
            entry = entries[place : place + SUFFIX]
            if entry == wanted:
                return True
            if entry < wanted:
                low = middle + 1
            else:
                high = middle
        return False

    def _bucket(self, prefix: int) -> tuple[int, int]:
        """From where to where the entries of digests that begin like this are."""
        (end,) = _COUNT.unpack_from(self._bytes, HEADER.size + prefix * _COUNT.size)
        if prefix == 0:
            return 0, end
        (begin,) = _COUNT.unpack_from(self._bytes, HEADER.size + (prefix - 1) * _COUNT.size)
        return begin, end

    def close(self) -> None:
        self._bytes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sha1(data: bytes) -> bytes:
    """What the published lists are made of; it guards nothing here."""
    return hashlib.sha1(data, usedforsecurity=False).digest()
