"""The links in mails: what each is for, how long it is good, and the words that are in it, each beginning
with the user's id. Whoever writes a link and whoever takes it back agree here."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from users.application.errors import InvalidLink
from users.application.ports import Links
from users_domain.user import User

RESET_PASSWORD = "reset_password"  # noqa: S105 - a purpose
VERIFY_EMAIL = "verify_email"
CONFIRM_EMAIL_CHANGE = "confirm_email_change"
CANCEL_EMAIL_CHANGE = "cancel_email_change"

WORDS: Mapping[str, tuple[str, ...]] = {
    RESET_PASSWORD: ("user id", "fingerprint"),
    VERIFY_EMAIL: ("user id", "digest of the address"),
    CONFIRM_EMAIL_CHANGE: ("user id", "lasting fingerprint", "digest of the new address"),
    CANCEL_EMAIL_CHANGE: ("user id", "lasting fingerprint"),
}

SECONDS: Mapping[str, int] = {
    RESET_PASSWORD: 30 * 60,
    VERIFY_EMAIL: 24 * 3600,
    CONFIRM_EMAIL_CHANGE: 24 * 3600,
    CANCEL_EMAIL_CHANGE: 7 * 24 * 3600,
}
"""How long a link is good, from its sending on. A proposal lives for a day; for the rest of the week the link
to cancel it still tells whether anything has come of it."""


def read(links: Links, purpose: str, token: str) -> list[str]:
    """The words of a link that is good. Raises InvalidLink."""
    words = links.read(purpose, token, seconds=SECONDS[purpose])
    if len(words) != len(WORDS[purpose]):
        raise InvalidLink
    return words


def lasting(user: User) -> str:
    """The fingerprint of a user who wants another address. It stays when he proves the one he has, or when
    his password's hash is renewed as he logs in; a new password changes the version of his tokens."""
    return replace(user, email_verified=True, password_hash="").fingerprint


def digest(email: str) -> str:
    """Stands for an address in a link, which others may come to see."""
    return hashlib.sha256(email.encode()).hexdigest()[:32]
