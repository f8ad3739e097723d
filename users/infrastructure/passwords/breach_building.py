"""Builds the set of breached passwords out of a published list of SHA-1 hashes, sorted or not, however long:
runs that fit into memory are sorted into files, and the files merged."""

import heapq
import os
import re
import zlib
from array import array
from binascii import unhexlify
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from gzip import BadGzipFile, GzipFile
from itertools import accumulate
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import IO

from users.infrastructure.passwords.breaches import DIGEST, INDEX, PREFIX, START, About

RUN = 2_000_000
MOST_RUNS = 500
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(
    rb"^([0-9A-Fa-f]{%d})[0-9A-Fa-f]{%d}(?::([0-9]{1,18}))?[ \t]*\r?$" % (2 * DIGEST, 40 - 2 * DIGEST), re.M
)

Progress = Callable[[int], object]
"""Is told how many more bytes of the list have been read, or hashes been written."""


class UnreadableList(ValueError):
    """Says which line, never what stands there: it might be somebody's password."""


class Runs:
    """Sorted files of digests. A sorted list makes one."""

    def __init__(self, folder: Path, *, size: int = RUN) -> None:
        self._folder = folder
        self._size = size
        self._pending: list[bytes] = []
        self._last = b""
        self.paths: list[Path] = []
        self.count = 0

    def add(self, digests: list[bytes]) -> None:
        self._pending += digests
        self.count += len(digests)
        if len(self._pending) >= self._size:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        self._pending.sort()
        if not self.paths or self._pending[0] < self._last:
            self._begin()
        with self.paths[-1].open("ab") as file:
            file.write(b"".join(self._pending))
        self._last = self._pending[-1]
        self._pending.clear()

    def _begin(self) -> None:
        if len(self.paths) == MOST_RUNS:
            raise UnreadableList("the list is too long to be sorted here: sort it first (LC_ALL=C sort)")
        self.paths.append(self._folder / str(len(self.paths)))

    def merged(self) -> Iterator[bytes]:
        files = [_digests_in(path) for path in self.paths]
        return files[0] if len(files) == 1 else heapq.merge(*files)


def build(
    source: Path,
    target: Path,
    *,
    min_count: int = 1,
    now: datetime,
    reading: Progress = lambda size: None,
    writing: Callable[[int], Progress] = lambda total: lambda count: None,
    run_size: int = RUN,
) -> About:
    """The old file stays in its place until the new one is whole. `writing` is told how much there will be.
    Raises OSError, UnreadableList."""
    with TemporaryDirectory(prefix=".breaches-", dir=target.parent) as folder:
        runs = Runs(Path(folder), size=run_size)
        for digests in _digests_of(source, min_count, reading):
            runs.add(digests)
        runs.flush()
        if not runs.count:
            raise UnreadableList("the list has no hash that would be in the set")
        return _write(runs.merged(), target, min_count, now, writing(runs.count))


def _digests_of(source: Path, min_count: int, reading: Progress) -> Iterator[list[bytes]]:
    lines = 0
    for block in _blocks(source, reading):
        found = _LINE.findall(block)
        if len(found) != block.count(b"\n") and (complaint := _complaint(block, lines)):
            raise UnreadableList(complaint)
        if min_count > 1 and not all(count for _, count in found):
            raise UnreadableList("the list says of some hashes not how often they were seen: no --min-count")
        lines += block.count(b"\n")
        yield [unhexlify(digest) for digest, count in found if min_count <= 1 or int(count) >= min_count]


def _blocks(source: Path, reading: Progress) -> Iterator[bytes]:
    """Whole lines, about a mebibyte of them."""
    with source.open("rb") as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        lines: IO[bytes] = GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
        place = 0
        try:
            first = lines.read(len(_BYTE_ORDER_MARK))
            rest = b"" if first == _BYTE_ORDER_MARK else first
            while block := lines.read(_BLOCK):
                if b"\n" in block:
                    whole, _, after = block.rpartition(b"\n")
                    yield rest + whole + b"\n"
                    rest = after
                elif len(rest := rest + block) > 2 * _BLOCK:
                    raise UnreadableList("the list has no lines")
                reading(raw.tell() - place)
                place = raw.tell()
        except (EOFError, BadGzipFile, zlib.error) as error:
            raise UnreadableList(f"the list is cut off or damaged: {error}") from error
        if rest:
            yield rest


def _complaint(block: bytes, lines_before: int) -> str | None:
    """About the first line that is neither a hash nor empty."""
    for number, line in enumerate(block.split(b"\n"), lines_before + 1):
        if line.strip() and not _LINE.fullmatch(line):
            ntlm = re.match(rb"[0-9A-Fa-f]{32}(?![0-9A-Fa-f])", line)
            hint = "; NTLM hashes will not do" if ntlm else ""
            return (
                f"line {number:,} is not the 40 hexadecimal digits of a SHA-1, with or without :COUNT{hint}"
            )
    return None


def _digests_in(run: Path) -> Iterator[bytes]:
    with run.open("rb") as file:
        while block := file.read(DIGEST * 8192):
            yield from (block[place : place + DIGEST] for place in range(0, len(block), DIGEST))


def _write(digests: Iterable[bytes], target: Path, min_count: int, now: datetime, writing: Progress) -> About:
    file = NamedTemporaryFile(dir=target.parent, prefix=".breaches-", delete=False)  # noqa: SIM115
    try:
        with file:
            file.seek(START)
            counts = array("Q", bytes(INDEX.size))
            for suffixes in _distinct(digests, counts, writing):
                file.write(b"".join(suffixes))
            about = About(sum(counts), min_count, now)
            file.seek(0)
            file.write(about.header() + INDEX.pack(*accumulate(counts)))
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).chmod(0o644)
        Path(file.name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(file.name).unlink()
        raise
    return about


def _distinct(digests: Iterable[bytes], counts: "array[int]", writing: Progress) -> Iterator[list[bytes]]:
    """What is written of each, without those that come twice; `counts` by how they begin."""
    suffixes: list[bytes] = []
    last, seen = b"", 0
    for digest in digests:
        seen += 1
        if digest != last:
            last = digest
            counts[digest[0] << 8 | digest[1]] += 1
            suffixes.append(digest[PREFIX:])
        if seen == 100_000:
            yield suffixes
            writing(seen)
            suffixes, seen = [], 0
    yield suffixes
    writing(seen)
