"""Tries events that were set aside anew."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from users.infrastructure import envelopes
from users.management.command import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Tries each event that was set aside anew, after its row was mended or the service has learnt to "
        "write it. Those that can be told now lose their mark: the feed, histories and replays show them "
        "again instead of the tombstone. The stream stays as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only says which would be released")

    def handle(self, *args: Any, **options: Any) -> None:
        released, remaining = 0, 0
        done = "would be released" if options["dry_run"] else "released"
        try:
            for tried in envelopes.try_again(dry_run=options["dry_run"]):
                outcome = f"still set aside, {tried.because}" if tried.because else done
                self.stdout.write(f"{tried.sequence or '-'} {tried.event_type} {tried.event_id}: {outcome}")
                released += not tried.because
                remaining += bool(tried.because)
        finally:
            self.stdout.write(f"{released} {done}, {remaining} still set aside")
        if remaining:
            raise CommandError(f"{remaining} of {released + remaining} events cannot be told")
