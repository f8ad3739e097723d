"""Lets one signing key of access tokens follow another."""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from users import wiring
from users.infrastructure.key_folder import KeptKey, KeyFolder, KeysBroken, KeysBusy, State
from users.infrastructure.key_rotation import PUBLISH_FOR, RETIRE_SLACK, Act, Rotation, Step
from users.infrastructure.keyring import JWKS_MAX_AGE_SECONDS, NEW_KEYS
from users.management.command import OperatorCommand, progress_bar
from users.management.moments import duration

EVERY = timedelta(days=90)
MEANING = {State.PUBLISHED: "known, not signing yet", State.ACTIVE: "signs", State.RETIRING: "still believed"}
DONE = {
    Act.PUBLISH: "published: {kid}; it signs nothing yet",
    Act.SWITCH: "switched: {kid} signs from now on",
    Act.RETIRE: "retired: {kid} is gone",
}
NEXT = {
    Act.PUBLISH: "a new rotation begins",
    Act.SWITCH: "{kid} becomes the one that signs",
    Act.RETIRE: "{kid} is removed",
}
BY_HAND = (
    "the keys come from {source}, which only you can change (this command works on JWT_KEYS_DIR). By hand: "
    "put the new key behind the one that signs, and restart; after {publish} minutes put it in front, and "
    "restart; after {retire} more take the old one out, and restart"
)
ALL_DEAD = (
    "All access tokens are dead: clients refresh them, or log in again. Whoever verifies tokens by himself "
    f"may believe the old key for {JWKS_MAX_AGE_SECONDS} s more, for he has cached it: restart gateways."
)


class Command(OperatorCommand):
    help = (
        "Rotates the key that signs access tokens, in a folder (JWT_KEYS_DIR): a new key is published, signs "
        "when everybody knows it, and the old one goes when its last token has expired. No token is refused "
        "on the way, and nothing is restarted. Without options it does the one step that is due and tells "
        "the next: made for cron, every few minutes or once a day. May be stopped at any time, and run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        way = parser.add_mutually_exclusive_group()
        way.add_argument("--status", action="store_true", help="only prints the keys and what comes next")
        way.add_argument(
            "--begin", action="store_true", help="publishes a new key however young the active one is"
        )
        way.add_argument(
            "--wait",
            action="store_true",
            help="goes through a whole rotation, or the rest of one that has begun, waiting where it has to",
        )
        way.add_argument(
            "--now",
            action="store_true",
            help="for a leaked key: a new one signs at once, all others are gone at once, and with them all "
            "access tokens",
        )
        parser.add_argument(
            "--algorithm",
            choices=list(NEW_KEYS),
            help="of the key that is made (default: that of the active one)",
        )
        parser.add_argument(
            "--every",
            type=duration,
            default=EVERY,
            metavar="DURATION",
            help="how long a key signs before the next is due (default: 90d; w, d, h, m)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folder = _folder()
        rotation = Rotation(
            folder,
            token_lifetime=timedelta(seconds=settings.ACCESS_TOKEN_SECONDS),
            every=options["every"],
            clock=timezone.now,
        )
        try:
            for file in folder.readable_by_others():
                self.stderr.write(f"warning: others than its owner may read {file}: chmod 600 {file}")
            self._run(folder, rotation, options)
        except (KeysBroken, KeysBusy, OSError) as error:
            raise CommandError(str(error)) from error

    def _run(self, folder: KeyFolder, rotation: Rotation, options: dict[str, Any]) -> None:
        if options["status"]:
            self._print_status(folder.read())
        elif options["now"]:
            self._replace_at_once(rotation, options["algorithm"])
            return
        elif options["wait"]:
            self._go_through(rotation, options["algorithm"])
        elif step := rotation.step(options["algorithm"], begin=options["begin"]):
            self._say_done(step)
        else:
            self.stdout.write("nothing is due")
        self._say_next(rotation.next())

    def _go_through(self, rotation: Rotation, algorithm: str | None) -> None:
        if step := rotation.step(algorithm, begin=True):
            self._say_done(step)
        total = _seconds_left(rotation, timezone.now())
        with progress_bar(total, "s") as progress:
            while (step := rotation.next()).act is not Act.PUBLISH:
                if step.due > timezone.now():
                    progress.set_description(f"{step.act} in {_minutes(step.due - timezone.now())} min")
                    time.sleep(1)
                    progress.update()
                elif done := rotation.step():
                    with tqdm.external_write_mode():
                        self._say_done(done)

    def _replace_at_once(self, rotation: Rotation, algorithm: str | None) -> None:
        new, gone = rotation.replace_at_once(algorithm)
        self.stdout.write(f"{new} signs from now on; gone: {', '.join(gone)}")
        self.stdout.write(ALL_DEAD)

    def _print_status(self, keys: list[KeptKey]) -> None:
        self.stdout.write(f"{'key':<43}  {'algorithm':<9}  {'state':<9}  {'since':<20}  meaning")
        for key in keys:
            self.stdout.write(
                f"{key.kid:<43}  {key.algorithm:<9}  {key.state:<9}  {_time(key.since)}  {MEANING[key.state]}"
            )

    def _say_done(self, step: Step) -> None:
        self.stdout.write(DONE[step.act].format(kid=step.kid))

    def _say_next(self, step: Step) -> None:
        what = NEXT[step.act].format(kid=step.kid)
        due = "is due now" if step.due <= timezone.now() else f"is due at {_time(step.due)}"
        self.stdout.write(f"next: {what}, {due}")


def _folder() -> KeyFolder:
    """With keys in it, made now if the service has never run."""
    folder = wiring.key_folder()
    if folder is None:
        source = "JWT_SIGNING_KEYS" if settings.JWT_SIGNING_KEYS else "JWT_SIGNING_KEY_FILE"
        retire = timedelta(seconds=settings.ACCESS_TOKEN_SECONDS) + RETIRE_SLACK
        minutes = {"publish": _minutes(PUBLISH_FOR), "retire": _minutes(retire)}
        raise CommandError(BY_HAND.format(source=source, **minutes))
    try:
        wiring.begin_keys(folder)
    except (KeysBusy, OSError) as error:
        raise CommandError(str(error)) from error
    return folder


def _seconds_left(rotation: Rotation, now: datetime) -> int:
    step = rotation.next()
    left = step.due - now
    if step.act is Act.PUBLISH:
        return 0
    return int((left + (rotation.retire_after if step.act is Act.SWITCH else timedelta())).total_seconds())


def _minutes(wait: timedelta) -> int:
    return math.ceil(wait / timedelta(minutes=1))


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
