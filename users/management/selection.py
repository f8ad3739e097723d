"""Whom a command is about: users named by id or email address, as arguments or in a file."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.core.management.base import CommandError

from users.management.command import USAGE_ERROR
from users.models import UserRecord
from users_domain.errors import DomainError, InvalidUserId, UserNotFound
from users_domain.value_objects import Email, UserId

STDIN = "-"
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Chosen:
    """`named` is what the caller wrote. Either there is such a user, or `refusal` says why there is none."""

    named: str
    user_id: str | None = None
    email: str | None = None
    refusal: DomainError | None = None


def names_from(arguments: Sequence[str], file: str | None) -> list[str]:
    """Every name once, in the order given; `-` stands for the lines of stdin. Raises CommandError when there
    is no such file, or when nothing was said at all."""
    if not arguments and file is None:
        raise CommandError(
            "name at least one user, by id or email; - or --file reads them line by line",
            returncode=USAGE_ERROR,
        )
    names: list[str] = []
    for argument in arguments:
        names += _lines(STDIN) if argument == STDIN else [argument.strip()]
    if file is not None:
        names += _lines(file)
    return list(dict.fromkeys(name for name in names if name))


def _lines(file: str) -> list[str]:
    try:
        content = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", returncode=USAGE_ERROR) from error
    return [line.strip() for line in content.decode("utf-8-sig", "backslashreplace").splitlines()]


def choose(names: Sequence[str]) -> Iterator[Chosen]:
    """Who is meant, in the order of the names; a user named in two ways comes once."""
    seen: set[str] = set()
    for start in range(0, len(names), AT_ONCE):
        for chosen in _look_up(names[start : start + AT_ONCE]):
            if chosen.user_id not in seen:
                yield chosen
            if chosen.user_id:
                seen.add(chosen.user_id)


def _look_up(names: Sequence[str]) -> Iterator[Chosen]:
    """In two statements, however many they are."""
    meant = [_parse(name) for name in names]
    ids = [key.value for key in meant if isinstance(key, UserId)]
    emails = [key.value for key in meant if isinstance(key, Email)]
    found: dict[object, tuple[str, str | None]] = {}
    for rows in (UserRecord.objects.filter(id__in=ids), UserRecord.objects.filter(email__in=emails)):
        for user_id, email in rows.values_list("id", "email"):
            found[UserId(user_id)] = (str(user_id), email)
            if email:
                found[Email(email)] = (str(user_id), email)
    for name, key in zip(names, meant, strict=True):
        if isinstance(key, DomainError):
            yield Chosen(name, refusal=key)
        elif key not in found:
            yield Chosen(name, refusal=UserNotFound())
        elif found[key][1] is None:
            yield Chosen(name, refusal=UserNotFound("This user has been erased."))
        else:
            yield Chosen(name, *found[key])


def _parse(name: str) -> UserId | Email | DomainError:
    try:
        return Email(name) if "@" in name else UserId.parse(name)
    except InvalidUserId:
        return InvalidUserId("This is neither a user id nor an email address.")
    except DomainError as error:
        return error
