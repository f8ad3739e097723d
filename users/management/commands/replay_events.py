"""Tells past events again: to whoever reads JSON lines, or into a stream of somebody's own."""

import os
import sys
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from django.db.models import Count, Max, Min, Q, QuerySet
from redis import ResponseError
from tqdm import tqdm

from users.application.envelope import MAX_SEQUENCE, Envelope
from users.application.event_schemas import EVENT_TYPES, SET_ASIDE
from users.infrastructure import envelopes, outbox
from users.infrastructure.event_bus import top_of
from users.infrastructure.redis_link import RedisAway, RedisLink
from users.management.command import INTERRUPTED, USAGE_ERROR, OperatorCommand, first_line, progress_bar
from users.management.selection import choose
from users.models import OutboxEvent

AT_ONCE = 500
A_FEW = 1000
"""Events that nobody has to wait for."""
READER_GONE = 141
"""What a shell shows for a program that ended because nobody reads its output any more."""


class Command(OperatorCommand):
    help = (
        "Tells past events again, in order of sequence: as JSON lines on stdout, one envelope each, or into "
        "a Redis stream. Nothing is changed in the service, and nobody else hears of it."
    )
    epilog = (
        "Exit codes: 0 all done; 1 no such user, or PostgreSQL or Redis does not answer; 2 wrong usage; 130 "
        "interrupted. Whoever was interrupted is told where to go on."
    )

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=self.epilog, **options)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            type=sequence,
            default=1,
            dest="first",
            metavar="SEQ",
            help="the first sequence (default: the oldest that is kept)",
        )
        parser.add_argument(
            "--to",
            type=sequence,
            dest="last",
            metavar="SEQ",
            help="the last sequence, itself included (default: the newest as the command starts)",
        )
        parser.add_argument(
            "--user", metavar="USER", help="only this user's events: an id or an email address"
        )
        parser.add_argument(
            "--type",
            action="append",
            dest="types",
            metavar="TYPE",
            choices=EVENT_TYPES,
            help="only events of this type, user.blocked for example; may be given several times",
        )
        parser.add_argument(
            "--to-stream",
            metavar="NAME",
            help="adds the events to this Redis stream, with their sequences as ids, instead of printing "
            "them; those that are not above the stream's top are skipped and counted",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only says how many events it would be, by type"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = _chosen(options)
        if options["dry_run"]:
            self.stdout.write(_survey(chosen.rows()))
        elif options["to_stream"]:
            self._add_to(_stream(options["to_stream"]), chosen)
        else:
            self._print(chosen)

    def _print(self, chosen: "Chosen") -> None:
        def deliver(batch: list[Envelope]) -> None:
            with tqdm.external_write_mode(file=sys.stdout):
                self.stdout.write(b"\n".join(envelope.json for envelope in batch).decode())
                self.stdout.flush()

        try:
            told = _tell(chosen, deliver)
        except BrokenPipeError:
            _leave_stdout()
        self.stderr.write(f"{told} events")

    def _add_to(self, stream: "Stream", chosen: "Chosen") -> None:
        try:
            _tell(chosen, stream.add)
        finally:  # also when Redis went away half-way
            self.stdout.write(f"{stream.added} events added to {stream.name}, {stream.skipped} skipped")


def sequence(text: str) -> int:
    """An argument's type: a place in the feed, from 1 on."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_SEQUENCE):
        raise ArgumentTypeError(f"{text!r} is not a sequence: a whole number from 1 on")
    return int(text)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which events are meant. Both ends belong to them."""

    first: int
    last: int
    filters: Q

    def rows(self, after: int = 0) -> QuerySet[OutboxEvent]:
        """Those behind `after`."""
        first = max(self.first, after + 1)
        return OutboxEvent.objects.filter(sequence__gte=first, sequence__lte=self.last).filter(self.filters)


def _chosen(options: dict[str, Any]) -> Chosen:
    """Raises CommandError for what cannot be meant, or when there is no such user."""
    first, last = options["first"], options["last"]
    if last is not None and last < first:
        raise CommandError(f"--from {first} lies behind --to {last}", returncode=USAGE_ERROR)
    filters = Q()
    if options["user"] is not None:
        filters &= Q(user_id=_user_id(options["user"]))
    if types := options["types"]:
        aside = Q(set_aside_at__isnull=False) if SET_ASIDE in types else Q()
        filters &= Q(event_type__in=types) | aside
    newest, _ = outbox.position()
    return Chosen(first, newest if last is None else last, filters)


def _user_id(named: str) -> str:
    (user,) = choose([named.strip()])
    if user.user_id is None:
        raise CommandError(f"--user {named}: {user.refusal}")
    return user.user_id


def _survey(rows: QuerySet[OutboxEvent]) -> str:
    found = rows.aggregate(events=Count("id"), first=Min("sequence"), last=Max("sequence"))
    if not found["events"]:
        return "0 events"
    by_type: Counter[str] = Counter(dict(rows.values_list("event_type").annotate(Count("id"))))
    lines = [f"{found['events']} events, from sequence {found['first']} to {found['last']}"]
    return "\n".join(lines + [f"{number:>10} {event_type}" for event_type, number in by_type.most_common()])


def _tell(chosen: Chosen, deliver: Callable[[list[Envelope]], None]) -> int:
    """Delivers page by page, so that memory stays flat however many there are, and answers how many. Raises
    CommandError, which says where to go on; a batch that was cut short is then told again."""
    told, position = 0, chosen.first - 1
    try:
        # Only for him who watches the events are counted first.
        total = chosen.rows().count() if sys.stderr.isatty() else 0
        with progress_bar(total, "event", a_few=A_FEW) as progress:
            while batch := _page(chosen, position):
                deliver(batch)
                told, position = told + len(batch), batch[-1]["sequence"]
                progress.update(len(batch))
    except KeyboardInterrupt:
        raise CommandError(_cut_short("interrupted", position), returncode=INTERRUPTED) from None
    except RedisAway as away:
        raise CommandError(_cut_short(_redis_says(away), position)) from away
    except (DatabaseError, InterfaceError) as error:
        raise CommandError(_cut_short(f"PostgreSQL: {first_line(error)}", position)) from error
    return told


def _cut_short(why: str, position: int) -> str:
    return f"{why}; to go on, say --from {position + 1}"


def _redis_says(away: RedisAway) -> str:
    if isinstance(away.__cause__, ResponseError):
        return f"Redis: {away.__cause__}"
    return "Redis does not answer"


def _page(chosen: Chosen, after: int) -> list[Envelope]:
    return envelopes.read(chosen.rows(after).order_by("sequence"), AT_ONCE)


class Stream:
    """A Redis stream that gets events with their sequences as ids, as the service's own has them. `skipped`
    were not above its top: Redis takes ids in rising order only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.added = self.skipped = 0
        self._link = RedisLink("events")

    def add(self, batch: list[Envelope]) -> None:
        """Raises RedisAway."""
        with self._link.probe() as redis:
            top = top_of(redis, self.name)
            fresh = [envelope for envelope in batch if envelope["sequence"] > top]
            with redis.pipeline(transaction=True) as pipeline:
                for envelope in fresh:
                    pipeline.xadd(self.name, {"event": envelope.json}, f"{envelope['sequence']}-0")
                pipeline.execute()
        self.added += len(fresh)
        self.skipped += len(batch) - len(fresh)


def _stream(name: str) -> Stream:
    """Raises CommandError for the service's own: what is missing there, the relay adds by itself."""
    if name == settings.EVENT_STREAM:
        raise CommandError(
            f"{name} is the service's own stream, which the relay fills by itself; name another one",
            returncode=USAGE_ERROR,
        )
    return Stream(name)


def _leave_stdout() -> NoReturn:
    """For `| head`: whoever was reading has enough, which is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(READER_GONE)
