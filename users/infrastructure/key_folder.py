"""A folder of signing keys that changes while the service runs: `<kid>.pem` for each key, and `keyring.json`,
which says what each is for. The command rotate_keys writes it, running processes watch it."""

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import mkstemp

import structlog

from users.infrastructure.keyring import Ring, SigningKey

LOCK_SECONDS = 10.0
LOOK_SECONDS = 1.0
KID = re.compile(r"[A-Za-z0-9_-]{43}")
OURS = re.compile(rf"{KID.pattern}\.pem|\.new-.*")

log = structlog.get_logger(__name__)


class KeysBroken(ValueError):
    """The folder does not say which keys there are, or does not have them."""


class KeysBusy(Exception):
    """Somebody else is changing the folder, and takes long."""


class State(StrEnum):
    ACTIVE = "active"  # signs
    PUBLISHED = "published"  # known to everybody before it signs
    RETIRING = "retiring"  # signs no more, but its tokens still live


@dataclass(frozen=True, slots=True)
class KeptKey:
    kid: str
    algorithm: str
    state: State
    since: datetime


class KeyFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._index = path / "keyring.json"

    def read(self) -> list[KeptKey]:
        """The one that signs first. Raises KeysBroken."""
        try:
            return _parsed(json.loads(self._index.read_bytes()))
        except OSError as error:
            raise KeysBroken(f"{self._index}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise KeysBroken(f"{self._index} is damaged: {error}") from error

    def load(self, kid: str) -> SigningKey:
        """Raises KeysBroken."""
        path = self._file(kid)
        try:
            key = SigningKey.load(path.read_bytes())
        except OSError as error:
            raise KeysBroken(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise KeysBroken(f"{path} is no signing key") from error
        if key.kid != kid:
            raise KeysBroken(f"{path} is another key, {key.kid}")
        return key

    def begin(self, first: Callable[[], bytes], now: datetime) -> None:
        """With `first` (a PEM) as the active key, where there is no ring yet. Of several processes that come
        at once, one does it."""
        if self._index.exists():
            return
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.locked():
            if not self._index.exists():
                key = self.add(first())
                self._replace(self._index, _text([KeptKey(key.kid, key.algorithm, State.ACTIVE, now)]))
                log.warning("first_signing_key", kid=key.kid, algorithm=key.algorithm)

    def add(self, pem: bytes) -> SigningKey:
        """Only the file: the ring does not know of it yet."""
        key = SigningKey.load(pem)
        self._replace(self._file(key.kid), pem)
        return key

    def write(self, keys: Sequence[KeptKey]) -> None:
        """The new ring. The files of keys that are no longer in it go, and what a crash has left behind."""
        _parsed(json.loads(_text(keys)))
        self._replace(self._index, _text(keys))
        known = {f"{key.kid}.pem" for key in keys}
        for file in self.path.iterdir():
            if OURS.fullmatch(file.name) and file.name not in known:
                file.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For whoever changes the folder. Raises KeysBusy."""
        deadline = time.monotonic() + LOCK_SECONDS
        with (self.path / "lock").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise KeysBusy(f"{self.path}: somebody else is changing the keys") from None
                    time.sleep(0.02)
            yield

    def change(self) -> tuple[int, ...] | None:
        """Another value whenever the ring was replaced; None while there is none."""
        try:
            status = self._index.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def readable_by_others(self) -> list[Path]:
        """The key files that not only their owner may read or write."""
        return sorted(file for file in self.path.glob("*.pem") if file.stat().st_mode & 0o077)

    def _file(self, kid: str) -> Path:
        return self.path / f"{kid}.pem"

    def _replace(self, path: Path, content: bytes) -> None:
        """At once and for good: a reader sees the old or the new, and so does one after a power failure. What
        root writes belongs to whom the folder belongs to, so that the service can read it."""
        descriptor, unfinished = mkstemp(prefix=".new-", dir=self.path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if os.geteuid() == 0:
                owner = self.path.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        Path(unfinished).replace(path)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _text(keys: Sequence[KeptKey]) -> bytes:
    entries = [
        {"kid": key.kid, "algorithm": key.algorithm, "state": key.state, "since": key.since.isoformat()}
        for key in keys
    ]
    return json.dumps({"keys": entries}, indent=2).encode() + b"\n"


def _parsed(content: dict[str, list[dict[str, str]]]) -> list[KeptKey]:
    keys = [
        KeptKey(
            entry["kid"], entry["algorithm"], State(entry["state"]), datetime.fromisoformat(entry["since"])
        )
        for entry in content["keys"]
    ]
    if not all(KID.fullmatch(key.kid) for key in keys) or len({key.kid for key in keys}) < len(keys):
        raise ValueError("each key has one id, its thumbprint")
    if any(key.since.tzinfo is None for key in keys):
        raise ValueError("a time has no zone")
    if [key.state for key in keys].count(State.ACTIVE) != 1:
        raise ValueError("exactly one key is active")
    return sorted(keys, key=lambda key: key.state is not State.ACTIVE)


class WatchedKeys:
    """The keys of a folder as they are now: a change is noticed within a second, and a folder that is broken
    leaves the last good ring in place. Asking takes no lock."""

    def __init__(self, folder: KeyFolder) -> None:
        """Raises KeysBroken."""
        self._folder = folder
        self._reloading = threading.Lock()
        self._loaded: dict[str, SigningKey] = {}
        self._seen = folder.change()
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._next_try = 0.0
        self._complaint = ""
        self._ring = self._load()

    def ring(self) -> Ring:
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._look(wait=False)
        return self._ring

    def ring_with(self, kid: str) -> Ring:
        """A stat for each id that nobody knows; more only when there is something new to read."""
        self._look(wait=True)
        return self._ring

    def _look(self, *, wait: bool) -> None:
        if self._folder.change() == self._seen or not self._reloading.acquire(blocking=wait):
            return
        try:
            change = self._folder.change()
            if change != self._seen and time.monotonic() >= self._next_try:
                self._renew(change)
        finally:
            self._reloading.release()

    def _renew(self, change: tuple[int, ...] | None) -> None:
        try:
            self._ring = self._load()
        except KeysBroken as error:
            self._next_try = time.monotonic() + LOOK_SECONDS
            if str(error) != self._complaint:
                log.error("keyring_broken", error=str(error))  # noqa: TRY400 - the message says all
            self._complaint = str(error)
            return
        self._seen, self._complaint = change, ""
        log.info("keyring_changed", active=self._ring.active.kid, keys=sorted(self._ring.by_kid))

    def _load(self) -> Ring:
        """Keys never change, so only those that are new are read."""
        kept = self._folder.read()
        self._loaded = {key.kid: self._loaded.get(key.kid) or self._folder.load(key.kid) for key in kept}
        return Ring(list(self._loaded.values()))
