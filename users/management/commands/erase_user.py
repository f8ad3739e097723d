"""Erases users for good, as they may ask for, and admins in their name."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from django.core.management.base import CommandError, CommandParser

from users import wiring
from users.application.privacy import Erased, EraseUser
from users.application.representation import timestamp
from users.management.bulk import Act, BulkCommand, Outcome, Result
from users.management.command import USAGE_ERROR
from users.management.selection import Chosen, choose
from users_domain.errors import DomainError
from users_domain.value_objects import COMMAND_LINE, Email


class Command(BulkCommand):
    help = (
        "Erases users for good: the id stays, and nothing that says whose it was. Prints a signed receipt "
        "for each. Ids of users whom a restored backup has brought back are erased anew."
    )
    done = "erased"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--yes", action="store_true", help="does not ask whether it is meant; for where nobody can answer"
        )

    def act_with(self, options: dict[str, Any]) -> Act:
        privacy = wiring.service().privacy
        return lambda user_id: privacy.erase(EraseUser(user_id=user_id, by=COMMAND_LINE))

    def confirm(self, names: Sequence[str], options: dict[str, Any]) -> None:
        if options["yes"] or options["dry_run"] or not names:
            return
        if not sys.stdin.isatty():
            raise CommandError("there is no terminal to ask on: use --yes", returncode=USAGE_ERROR)
        if len(names) > 1:
            self._ask(f"This erases {len(names)} users for good. Type their number: ", str(len(names)))
            return
        (chosen,) = choose(names)
        if chosen.email:
            self._ask("This erases the account for good. Type its email address: ", chosen.email)

    def _ask(self, question: str, expected: str) -> None:
        self.stderr.write(question, ending="")
        self.stderr.flush()
        answer = sys.stdin.readline().strip()
        if answer != expected and _canonical(answer) != expected:
            raise CommandError("that is another answer: nobody was erased", returncode=USAGE_ERROR)

    def outcome(self, chosen: Chosen, done: str, result: Result, *, dry_run: bool) -> Outcome:
        """Without the address, which would outlive the user in the log of whoever runs this."""
        erased = cast(Erased, result)
        removed = ", ".join(f"{table} {rows}" for table, rows in sorted(erased.removed.items()) if rows)
        more = {"rows": removed or "none"}
        if not dry_run:
            more |= {"erased_at": timestamp(erased.erased_at), "event_id": str(erased.event_id)}
            more["receipt"] = erased.receipt
        version = None if dry_run else erased.version
        return Outcome(replace(chosen, email=None), done, version, more=more)


def _canonical(text: str) -> str:
    try:
        return str(Email(text))
    except DomainError:
        return text
