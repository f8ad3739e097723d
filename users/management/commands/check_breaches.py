"""Makes the set of breached passwords that new ones are held against, and asks it."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from getpass import getpass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from users.infrastructure.passwords.breach_building import UnreadableList, build
from users.infrastructure.passwords.breaches import About, BreachSet, NotABreachSet
from users.management.command import USAGE_ERROR, OperatorCommand, progress_bar
from users.management.commands.prune_events import positive


class Command(OperatorCommand):
    help = (
        "Builds the file that BREACHED_PASSWORDS_FILE names from a published list of SHA-1 hashes, says what "
        "is in it, and asks it for one password, which is never an argument. Nothing here uses the network."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="build | check | info")
        build_parser = actions.add_parser("build", help="makes the file")
        build_parser.add_argument(
            "--from",
            dest="source",
            type=Path,
            required=True,
            metavar="LIST",
            help="lines of HASH or HASH:COUNT, each a SHA-1 in hexadecimal; plain or gzip, sorted or not",
        )
        build_parser.add_argument("--to", dest="target", type=Path, required=True, metavar="FILE")
        build_parser.add_argument(
            "--min-count",
            type=positive,
            default=1,
            metavar="N",
            help="leaves out what was seen fewer times (%(default)s)",
        )
        for name, text in [
            ("check", "asks for a password, or reads the first line of stdin; exits 1 when it is in the set"),
            ("info", "says what the file holds"),
        ]:
            actions.add_parser(name, help=text).add_argument(
                "--file",
                type=Path,
                default=settings.BREACHED_PASSWORDS_FILE or None,
                metavar="FILE",
                help="default: BREACHED_PASSWORDS_FILE",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        action: Callable[[dict[str, Any]], None] = getattr(self, f"_{options['action']}")
        try:
            action(options)
        except (OSError, NotABreachSet, UnreadableList) as error:
            raise CommandError(str(error)) from error

    def _build(self, options: dict[str, Any]) -> None:
        source: Path = options["source"]
        with ExitStack() as bars:
            read = bars.enter_context(progress_bar(source.stat().st_size, "B"))
            read.unit_scale = True
            about = build(
                source,
                options["target"],
                min_count=options["min_count"],
                now=timezone.now(),
                reading=read.update,
                writing=lambda total: bars.enter_context(progress_bar(total, "hash")).update,
            )
        self._say(about, options["target"])

    def _info(self, options: dict[str, Any]) -> None:
        path = _file(options)
        with BreachSet(path) as breached:
            self._say(breached.about, path)

    def _check(self, options: dict[str, Any]) -> None:
        with BreachSet(_file(options)) as breached:
            if _password() in breached:
                raise CommandError("this password is in the set")
        self.stdout.write("this password is not in the set")

    def _say(self, about: About, path: Path) -> None:
        self.stdout.write(f"{about.count:,} passwords, {path.stat().st_size:,} bytes")
        self.stdout.write(
            f"seen {about.min_count:,} times or more; built {about.built_at:%Y-%m-%d %H:%M} UTC"
        )
        self.stdout.write(
            f"a password that is not in it is taken for one that is: {about.false_positives:.1e}"
        )


def _file(options: dict[str, Any]) -> Path:
    path: Path | None = options["file"]
    if path is None:
        raise CommandError("name the file: --file, or BREACHED_PASSWORDS_FILE", returncode=USAGE_ERROR)
    return path


def _password() -> str:
    if sys.stdin.isatty():
        return getpass("Password: ")
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise CommandError("the password on stdin is not UTF-8") from error
