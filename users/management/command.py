"""What the commands for people and cron share: clean output, one line for an error, and a request id."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError
from tqdm import tqdm
from uuid_utils.compat import uuid7

from users.application.errors import ApplicationError
from users_domain.errors import DomainError

USAGE_ERROR = 2
INTERRUPTED = 130


class OperatorCommand(BaseCommand):
    """Stdout belongs to the command's own output: while it runs, the service's log goes to stderr. The events
    that one run leaves behind share one request id."""

    requires_system_checks: list[str] = []  # `make check` has run them; a command should start at once

    def execute(self, *args: Any, **options: Any) -> str | None:
        run = structlog.contextvars.bound_contextvars(request_id=str(uuid7()))
        with logs_on_stderr(), run, errors_in_one_line():
            return super().execute(*args, **options)


@contextmanager
def logs_on_stderr() -> Iterator[None]:
    """Moves what would be logged to stdout, for a while."""
    moved = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout
    ]
    for handler in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler in moved:
            handler.setStream(sys.stdout)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What a command does not handle itself becomes a CommandError, which Django prints without traceback."""
    try:
        yield
    except (DomainError, ApplicationError) as error:
        raise CommandError(str(error)) from error
    except (DatabaseError, InterfaceError) as error:
        raise CommandError(f"PostgreSQL: {first_line(error)}") from error
    except KeyboardInterrupt:
        raise CommandError("interrupted", returncode=INTERRUPTED) from None


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def printable(text: str) -> str:
    """`text` with whatever is no character for a terminal (controls, broken encodings) written as escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def progress_bar(total: int, unit: str, *, a_few: int = 0) -> "tqdm[Any]":
    """A bar for whoever watches: on a terminal only, and only when there is more to wait for than `a_few`."""
    return tqdm(
        total=max(0, total),
        unit=unit,
        file=sys.stderr,
        leave=False,
        disable=total <= a_few or not sys.stderr.isatty(),
    )
