"""Deletes old events from the outbox."""

import re
import signal
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from users.infrastructure import retention
from users.management.command import OperatorCommand, progress_bar
from users.management.moments import past_moment


def positive(text: str) -> int:
    """An argument's type."""
    if not re.fullmatch(r"0*[1-9]\d{0,11}", text, re.ASCII):
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


class Command(OperatorCommand):
    help = (
        "Deletes events that are older than a given time, oldest first, in small transactions. Never those "
        "that are not in the stream yet, nor those that a webhook, enabled or paused, still needs, nor the "
        "newest. May be stopped at any time, and run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=past_moment,
            required=True,
            metavar="DURATION",
            help="the age from which on events go: 90d, 12h, 1d12h (w, d, h, m)",
        )
        parser.add_argument(
            "--keep",
            type=positive,
            default=settings.EVENT_STREAM_MAXLEN,
            metavar="N",
            help="the newest N stay however old they are, so that a Redis that has lost the stream gets it "
            "back as it was (default: EVENT_STREAM_MAXLEN, %(default)s)",
        )
        parser.add_argument(
            "--batch", type=positive, default=1000, metavar="N", help="events a transaction (%(default)s)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only says how many would go")

    def handle(self, *args: Any, **options: Any) -> None:
        boundary = retention.boundary(options["keep"])
        gone, oldest = 0, retention.oldest_kept()
        batches = retention.prune(
            options["older_than"],
            keep=options["keep"],
            batch=options["batch"],
            dry_run=options["dry_run"],
        )
        try:
            # Its end is the most that may go; age ends it before.
            bar = progress_bar(boundary.sequence - oldest + 1, "event")
            with _interrupted_between() as interrupted, bar as progress:
                for count in batches:
                    gone += count
                    progress.update(count)
                    if interrupted.is_set():
                        raise KeyboardInterrupt
        finally:  # also when it was interrupted, or the database went away
            would_be = "would be " if options["dry_run"] else ""
            self.stdout.write(f"{gone:,} events {would_be}deleted; {_why_no_more(boundary)}")


@contextmanager
def _interrupted_between() -> Iterator[threading.Event]:
    """Ctrl-C takes effect when a batch is done and counted; a second one at once."""
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def note(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _why_no_more(boundary: retention.Boundary) -> str:
    if boundary.sequence <= 0:
        return f"none may go: {boundary.because}"
    return f"none behind sequence {boundary.sequence:,} may go: {boundary.because}"
