"""Passwords: hashing behind a bulkhead, and the rules for a new one (NIST SP 800-63B)."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib.auth.hashers import BCryptSHA256PasswordHasher, identify_hasher, make_password
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError

from users.application.errors import Unavailable
from users_domain.errors import InvalidPassword

# Of the usual form and of no password: verifying against it costs what a real hash costs.
_NOBODY = "bcrypt_sha256$$2b${cost:02d}$abcdefghijklmnopqrstuu5LsNNmhDhb2B0YtVGNVXOJZ1Cw2Yz8K"


class BcryptHasher(BCryptSHA256PasswordHasher):
    """Django's bcrypt over SHA-256, which takes passwords of any length, at the cost from the settings."""

    @property
    def rounds(self) -> int:  # type: ignore[override]
        return int(settings.BCRYPT_COST)


class BulkheadHasher:
    """At most `concurrency` hashes at once, so that logging in cannot take every core from everybody else;
    at most `queue` callers wait, each for `wait_seconds` at most."""

    def __init__(self, *, concurrency: int, queue: int, wait_seconds: float) -> None:
        self._running = threading.BoundedSemaphore(concurrency)
        self._inside = threading.BoundedSemaphore(concurrency + queue)
        self._wait_seconds = wait_seconds

    def hash(self, password: str, *, first: Callable[[], object] = lambda: None) -> str:
        with self._place():
            first()
            return make_password(password)

    def verify(self, password: str, password_hash: str | None) -> bool:
        encoded = password_hash or _NOBODY.format(cost=settings.BCRYPT_COST)
        with self._place():
            matches = identify_hasher(encoded).verify(password, encoded)
        return matches and password_hash is not None

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._inside.acquire(blocking=False):
            raise Unavailable("Too many passwords are being checked at once.", retry_after=2)
        try:
            if not self._running.acquire(timeout=self._wait_seconds):
                raise Unavailable("Too many passwords are being checked at once.", retry_after=5)
            try:
                yield
            finally:
                self._running.release()
        finally:
            self._inside.release()


class NistPasswordPolicy:
    """Length, not composition (NIST SP 800-63B rev 4, 3.1.1.2; ASVS 5.0 6.2): 8 to 256 characters, 15 at
    least for staff, none of the 20,000 most common ones, and not the user's own address or name."""

    def __init__(self) -> None:
        self._common = CommonPasswordValidator()

    def check(self, password: str, *, email: str, name: str, staff: bool, field: str = "password") -> None:
        least = 15 if staff else 8
        if len(password) < least:
            raise InvalidPassword(
                f"A password has at least {least} characters here.", reason="too_short", field=field
            )
        if len(password) > 256:
            raise InvalidPassword("A password has at most 256 characters.", reason="too_long", field=field)
        folded = password.strip().casefold()
        if folded in {email.casefold(), email.partition("@")[0].casefold(), name.casefold()}:
            raise InvalidPassword(
                "The password is the email address or the name.", reason="personal", field=field
            )
        try:
            self._common.validate(password)
        except ValidationError:
            raise InvalidPassword(
                "This is one of the most common passwords.", reason="common", field=field
            ) from None
