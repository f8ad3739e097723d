"""The rules for a new password."""

import unicodedata
from collections.abc import Collection, Container
from functools import cache

from django.contrib.auth.password_validation import CommonPasswordValidator

from users.infrastructure.passwords.words import fold, made_of, words_of, words_of_email
from users_domain.errors import InvalidPassword


class NistPasswordPolicy:
    """Length, not composition (NIST SP 800-63B rev 4, 3.1.1.2; ASVS 5.0 6.2.1, 6.2.4, 6.2.5, 6.2.9, 6.2.11,
    6.2.12): 8 to 256 characters, 15 at least for staff; none that is guessed first. What is compared is the
    whole password, so that a phrase may well hold a name or a common word."""

    def __init__(self, *, service_words: Collection[str] = (), breached: Container[str] = ()) -> None:
        self._service_words = frozenset(service_words)
        self._breached = breached

    def check(self, password: str, *, email: str, name: str, staff: bool, field: str = "password") -> None:
        if fault := self._length_fault(password, least=15 if staff else 8) or self._fault(
            password, email, name
        ):
            reason, message = fault
            raise InvalidPassword(message, reason=reason, field=field)

    def _length_fault(self, password: str, least: int) -> tuple[str, str] | None:
        if len(password) < least:
            return "too_short", f"A password has at least {least} characters here."
        if len(password) > 256:
            return "too_long", "A password has at most 256 characters."
        return None

    def _fault(self, password: str, email: str, name: str) -> tuple[str, str] | None:
        local, _, domain = email.rpartition("@")
        own = words_of_email(email) | words_of(name)
        if fold(password) in map(fold, (email, local, domain, name)) or made_of(password, own):
            return "personal", "The password is made of the email address or the name alone."
        if made_of(password, own | self._service_words):
            return "context", "The password is made of words of this service alone."
        # As typed, and as the letters look: full-width ones would get past a list of plain ones.
        forms = {password, unicodedata.normalize("NFKC", password)}
        if any(form.lower().strip() in _common() for form in forms):
            return "common", "This is one of the most common passwords."
        if any(form in self._breached for form in forms):
            return "breached", "This password is known from a data breach."
        return None


@cache
def _common() -> Container[str]:
    """The 20,000 most common ones that Django knows; read once."""
    passwords: set[str] = CommonPasswordValidator().passwords
    return passwords
