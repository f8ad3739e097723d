"""Hashing behind a bulkhead: exactly one hash for each question, whatever the answer."""

import time
from collections.abc import Callable

import structlog
from argon2.exceptions import HashingError
from django.conf import settings
from django.contrib.auth.hashers import BCryptSHA256PasswordHasher, make_password
from django.db import connections

from users.application.errors import Unavailable
from users.infrastructure.passwords.bulkhead import Bulkhead
from users.infrastructure.passwords.stored import StoredHash, Unverifiable, read

log = structlog.get_logger(__name__)

# Of the usual form and of no password: verifying against it costs what a real hash costs.
_NOBODY = "bcrypt_sha256$$2b${cost:02d}$abcdefghijklmnopqrstuu5LsNNmhDhb2B0YtVGNVXOJZ1Cw2Yz8K"
# What an account without a password has: an erased one, and what Django calls unusable.
_NO_PASSWORD = ("", "!")


class BcryptHasher(BCryptSHA256PasswordHasher):
    """Django's bcrypt over SHA-256, which takes passwords of any length, at the cost from the settings."""

    library = ("bcrypt", "users.infrastructure.passwords.blowfish")

    @property
    def rounds(self) -> int:  # type: ignore[override]
        return int(settings.BCRYPT_COST)


class BulkheadHasher:
    """At most `concurrency` hashes at once, so that logging in cannot take every core from everybody else;
    at most `queue` callers wait, each for `wait_seconds` at most.

    A hash from elsewhere, or of an older cost, may be cheaper than the present ones. A wrong password then
    waits for the rest of the usual time, or it would tell that there is such an account."""

    def __init__(
        self,
        *,
        concurrency: int,
        queue: int,
        wait_seconds: float,
        niceness: int = 0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bulkhead = Bulkhead(
            concurrency=concurrency, queue=queue, niceness=niceness, let_go=_let_go_of_pooled_connections
        )
        self._wait_seconds = wait_seconds
        self._pause = pause
        self._usual_seconds = 0.0
        self._complained_of: set[tuple[str, str]] = set()

    def hash(self, password: str, *, first: Callable[[], object] = lambda: None) -> str:
        with self._bulkhead.room():
            return self._bulkhead.run(
                lambda: make_password(password), wait_seconds=self._wait_seconds, first=first
            )

    def verify(self, password: str, password_hash: str | None) -> bool:
        stored = self._understood(password_hash)
        usual = stored is None or _is_usual(stored)
        with self._bulkhead.room():  # for those who pause as well: they hold a thread of the server
            matches, seconds = self._bulkhead.run(
                lambda: self._judged(password, stored, usual=usual), wait_seconds=self._wait_seconds
            )
            if not usual and not matches:
                self._pause(max(0.0, self._usual_seconds - seconds))
        return matches

    def renewed(self, password: str, password_hash: str) -> str | None:
        stored = self._understood(password_hash)
        if stored is None or _is_good_enough(stored) or stored.has_seen_only_a_part_of(password):
            return None
        try:
            with self._bulkhead.room():
                return self._bulkhead.run(lambda: make_password(password), wait_seconds=0)
        except Unavailable:
            return None

    def _judged(self, password: str, stored: StoredHash | None, *, usual: bool) -> tuple[bool, float]:
        """Whether it is right, and how long it took to say so."""
        matches, seconds = self._timed(password, stored)
        if usual:
            self._note_usual(seconds)
        elif not matches and not self._usual_seconds:
            seconds += self._learn_usual(password)
        return matches, seconds

    def _timed(self, password: str, stored: StoredHash | None) -> tuple[bool, float]:
        started = time.perf_counter()
        matches = self._matches(password, stored)
        return matches, time.perf_counter() - started

    def _learn_usual(self, password: str) -> float:
        """By a hash of nobody, in a process that has not computed one of ours yet."""
        _, seconds = self._timed(password, None)
        self._note_usual(seconds)
        return seconds

    def _understood(self, password_hash: str | None) -> StoredHash | None:
        """None for what no password can match; that is a fault unless it was meant so."""
        if password_hash is None or password_hash[:1] in _NO_PASSWORD:
            return None
        try:
            return read(password_hash)
        except Unverifiable as fault:
            self._complain(fault.form, fault.because)
            return None

    def _matches(self, password: str, stored: StoredHash | None) -> bool:
        if stored is not None:
            try:
                return stored.matches(password)
            except (ValueError, HashingError, MemoryError) as error:
                self._complain(stored.form, type(error).__name__)
        read(_NOBODY.format(cost=settings.BCRYPT_COST)).matches(password)
        return False

    def _note_usual(self, seconds: float) -> None:
        self._usual_seconds += (seconds - self._usual_seconds) / (8 if self._usual_seconds else 1)

    def _complain(self, form: str, because: str) -> None:
        """Once for each cause, or whoever tries passwords could fill the log."""
        if (form, because) not in self._complained_of:
            self._complained_of.add((form, because))
            log.warning("password_hash_unverifiable", form=form, because=because)


def _is_good_enough(stored: StoredHash) -> bool:
    """Whether a hash made now would be no better: one of a higher cost is not weakened."""
    return stored.form == BcryptHasher.algorithm and stored.cost >= settings.BCRYPT_COST


def _is_usual(stored: StoredHash) -> bool:
    """Whether a hash made now would be of the same form and cost, and so take as long."""
    return (stored.form, stored.cost) == (BcryptHasher.algorithm, settings.BCRYPT_COST)


def _let_go_of_pooled_connections() -> None:
    """Readers need them meanwhile. Without a pool each thread keeps its own."""
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_if_unusable_or_obsolete()
