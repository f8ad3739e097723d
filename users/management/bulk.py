"""A command on many users, one after the other, with a report: the frame of block_user and unblock_user."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from tqdm import tqdm

from users.application.errors import ApplicationError
from users.management.command import OperatorCommand, printable, progress_bar
from users.management.selection import Chosen, choose, names_from
from users_domain.errors import DomainError

A_FEW = 10


class Result(Protocol):
    """What a command answers."""

    @property
    def version(self) -> int: ...


Act = Callable[[str], Result]
"""Does it to the user with this id, or raises a DomainError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`done` is the word for success, None when it was refused; `more`: what else there is to say of it."""

    chosen: Chosen
    done: str | None
    version: int | None = None
    refusal: DomainError | ApplicationError | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        fields = {
            "named": printable(self.chosen.named),
            "user_id": self.chosen.user_id,
            "email": self.chosen.email,
            "outcome": self.done or "refused",
            "version": self.version,
            "error": self.refusal.code if self.refusal else None,
            "message": str(self.refusal) if self.refusal else None,
            **self.more,
        }
        return json.dumps(fields, ensure_ascii=False)

    def as_line(self) -> str:
        if self.refusal:
            return f"refused: {printable(self.chosen.named)}: {self.refusal}"
        who = " ".join(filter(None, [self.chosen.email, self.chosen.user_id]))
        return "\n".join(
            [f"{self.done}: {who}", *(f"  {name}: {value}" for name, value in self.more.items())]
        )


class BulkCommand(OperatorCommand):
    """Subclasses say what is done to each user. Each is tried by itself: a refusal stops nobody else's."""

    done: ClassVar[str]
    epilog = (
        "Exit codes: 0 all done (or nobody named in the file); 1 some were refused or not found, or the "
        "database does not answer; 2 wrong usage, nothing was tried. With --json, stdout has one JSON object "
        "a line for each user (named, user_id, email, outcome, version, error, message), and last "
        '{"summary": {...}}.'
    )

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=self.epilog, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "users",
            nargs="*",
            metavar="USER",
            help="an id or an email address; several may follow, and - reads them from stdin, one per line",
        )
        parser.add_argument("--file", metavar="PATH", help="reads users from this file, one per line")
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="only says what would happen to each user: every rule is tried, nothing is changed",
        )
        parser.add_argument("--json", action="store_true", help="reports in JSON lines instead of text")

    def act_with(self, options: dict[str, Any]) -> Act:
        """What to do to one user."""
        raise NotImplementedError

    def confirm(self, names: Sequence[str], options: dict[str, Any]) -> None:
        """Whether it is meant. Raises CommandError."""

    def outcome(self, chosen: Chosen, done: str, result: Result, *, dry_run: bool) -> Outcome:
        """What is told of a success."""
        return Outcome(chosen, done, None if dry_run else result.version)

    def handle(self, *args: Any, **options: Any) -> None:
        act = self.act_with(options)
        names = names_from(options["users"], options["file"])
        self.confirm(names, options)
        counts = {"done": 0, "refused": 0}
        try:
            with progress_bar(len(names), "user", a_few=A_FEW) as progress:
                for outcome in self._outcomes(names, act, dry_run=options["dry_run"]):
                    counts["done" if outcome.done else "refused"] += 1
                    with tqdm.external_write_mode(file=sys.stdout):
                        self.stdout.write(outcome.as_json() if options["json"] else outcome.as_line())
                    progress.update()
        finally:  # also when the database went away half-way
            self.stdout.write(self._summary(counts, options))
        if counts["refused"]:
            raise CommandError(f"{counts['refused']} of {sum(counts.values())} users refused")

    def _outcomes(self, names: list[str], act: Act, *, dry_run: bool) -> Iterator[Outcome]:
        done = f"would be {self.done}" if dry_run else self.done
        for chosen in choose(names):
            if chosen.user_id is None:
                yield Outcome(chosen, None, refusal=chosen.refusal)
                continue
            try:
                with _rolled_back() if dry_run else nullcontext():
                    result = act(chosen.user_id)
            except (DomainError, ApplicationError) as error:
                yield Outcome(chosen, None, refusal=error)
            else:
                yield self.outcome(chosen, done, result, dry_run=dry_run)

    def _summary(self, counts: dict[str, int], options: dict[str, Any]) -> str:
        if options["json"]:
            summary = {self.done: counts["done"], "refused": counts["refused"], "dry_run": options["dry_run"]}
            return json.dumps({"summary": summary})
        would_be = "would be " if options["dry_run"] else ""
        return f"{counts['done']} {would_be}{self.done}, {counts['refused']} refused"


@contextmanager
def _rolled_back() -> Iterator[None]:
    """The command runs as always, up to its commit, which never comes: no row, no event, no cache."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
