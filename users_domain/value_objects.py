"""The words of the model: frozen values that normalise what they are given, or refuse it."""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from uuid_utils.compat import uuid7

from users_domain.errors import (
    InvalidBlock,
    InvalidEmail,
    InvalidLocale,
    InvalidRole,
    InvalidUserId,
    InvalidUserName,
)

_UUID_FORM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_ENCODED_WORD = re.compile(r"=\?.*\?=")
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def has_control_characters(text: str, *, allow: str = "") -> bool:
    """Whether `text` holds a character that is not text: C0 and C1 controls, line and paragraph
    separators, lone surrogates, or a bidirectional override, which makes one name look like another
    (Unicode TR 36)."""
    if text.isprintable():  # none of these is
        return False
    return any(
        character in _BIDI_CONTROLS or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        for character in text
        if character not in allow
    )


@dataclass(frozen=True, slots=True)
class UserId:
    """A UUID of version 7 (RFC 9562): unique everywhere, and ordered by time of creation."""

    value: UUID

    def __post_init__(self) -> None:
        if self.value.version != 7:
            raise InvalidUserId

    @classmethod
    def new(cls) -> Self:
        return cls(uuid7())

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the 36-character form only. Raises InvalidUserId."""
        if not _UUID_FORM.fullmatch(text):
            raise InvalidUserId
        return cls(UUID(text))

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Email:
    """An address in its canonical form: trimmed, the local part in lower case, the domain as an
    IDNA A-label in lower case. Syntax by RFC 5321 and 5322 (and 6531 for international local parts),
    without asking DNS.

    A local part that NFKC would change is refused: two different strings that look the same must
    not become two accounts (UTS 39). So is one with an encoded word (RFC 2047), which is how mail
    programs write another address than it says."""

    value: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _canonical_email(self.value))

    @classmethod
    def stored(cls, text: str) -> Self:
        """As it was kept, which is how it came out of the check: that is not made again at each reading."""
        email = object.__new__(cls)
        object.__setattr__(email, "value", text)
        return email

    def __str__(self) -> str:
        return self.value


def _canonical_email(text: str) -> str:
    text = text.strip()
    if len(text) > 254:
        raise InvalidEmail("An email address has at most 254 characters.", reason="too_long")
    local, _, domain = text.rpartition("@")
    # In lower case before the check: "İ" gets longer by it, and what was stored must pass on loading.
    lowered = local.lower()
    try:
        address = validate_email(
            f"{lowered}@{domain}", strict=True, check_deliverability=False, test_environment=True
        )
    except (EmailNotValidError, UnicodeError, ValueError) as error:
        raise InvalidEmail from error
    if unicodedata.normalize("NFKC", local) != local or unicodedata.normalize("NFKC", lowered) != lowered:
        raise InvalidEmail(
            "The part before the @ has characters that look like others; write it in plain ones.",
            reason="not_normalised",
        )
    if _ENCODED_WORD.search(lowered):
        raise InvalidEmail(
            "The part before the @ has the form of an encoded word; write it in plain characters.",
            reason="encoded_word",
        )
    return f"{lowered}@{address.ascii_domain.lower()}"


@dataclass(frozen=True, slots=True)
class UserName:
    """What people call the user: 2 to 100 characters after trimming, no control characters."""

    value: str

    def __post_init__(self) -> None:
        name = self.value.strip()
        if len(name) < 2:
            raise InvalidUserName(reason="too_short")
        if len(name) > 100:
            raise InvalidUserName(reason="too_long")
        if has_control_characters(name):
            raise InvalidUserName(reason="control_characters")
        object.__setattr__(self, "value", name)

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class BlockReason:
    """Why somebody was blocked, in words: 1 to 500 characters after trimming; line breaks may stay."""

    value: str

    def __post_init__(self) -> None:
        reason = self.value.strip().replace("\r\n", "\n")  # a browser's form sends CR LF
        if not reason:
            raise InvalidBlock("A block needs a reason.", reason="too_short")
        if len(reason) > 500:
            raise InvalidBlock("A reason has at most 500 characters.", reason="too_long")
        if has_control_characters(reason, allow="\n\t"):
            raise InvalidBlock("A reason has no control characters.", reason="control_characters")
        object.__setattr__(self, "value", reason)

    def __str__(self) -> str:
        return self.value


class UserStatus(StrEnum):
    ACTIVE = "active"
    BLOCKED = "blocked"
    ERASED = "erased"


class Locale(StrEnum):
    """The language in which the service writes to a user (BCP 47)."""

    ENGLISH = "en"
    RUSSIAN = "ru"

    @classmethod
    def parse(cls, text: str) -> "Locale":
        """Raises InvalidLocale."""
        try:
            return cls(text)
        except ValueError as error:
            raise InvalidLocale(f"The languages are {', '.join(cls)}.") from error


class EndOfSession(StrEnum):
    """Why a session ended before its time."""

    LOG_OUT = "log_out"
    LOG_OUT_EVERYWHERE = "log_out_everywhere"
    REVOKED = "revoked"
    REPLACED = "replaced"
    TOKEN_REUSED = "token_reused"  # noqa: S105 - a word for what happened


class Role(StrEnum):
    """What a user may do beyond his own account. Most users have none."""

    ADMIN = "admin"
    OPERATOR = "operator"
    SERVICE = "service"

    @classmethod
    def parse(cls, text: str) -> "Role":
        """Raises InvalidRole."""
        try:
            return cls(text)
        except ValueError as error:
            raise InvalidRole(f"There is no such role; the roles are {', '.join(cls)}.") from error


STAFF = frozenset({Role.ADMIN, Role.OPERATOR})


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a user (its id), or one of the two below, with the roles that count for this act."""

    id: str
    roles: frozenset[Role] = frozenset()


SYSTEM = Actor("system", frozenset({Role.ADMIN}))
"""The service itself, as when a block ends by its date."""

COMMAND_LINE = Actor("cli", frozenset({Role.ADMIN}))
"""Whoever has a shell on the service's own machine."""
