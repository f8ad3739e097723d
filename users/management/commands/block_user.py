"""Blocks users, as operators do, from a shell or by cron."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from users import wiring
from users.application.commands import BlockUser
from users.management.bulk import Act, BulkCommand
from users.management.command import USAGE_ERROR
from users.management.moments import future_moment
from users_domain.errors import InvalidBlock
from users_domain.value_objects import COMMAND_LINE, BlockReason


class Command(BulkCommand):
    help = (
        "Blocks users: they can no longer log in, and every token they have is worthless from the next "
        "request on."
    )
    done = "blocked"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--reason", required=True, help="why, in words: operators and other services see it"
        )
        parser.add_argument(
            "--until",
            type=future_moment,
            metavar="WHEN",
            help="when the block ends by itself: a time with its zone (2026-01-31T09:30:00Z) or a duration "
            "from now in weeks, days, hours, minutes (7d, 12h, 1d12h); without it, somebody has to unblock",
        )

    def act_with(self, options: dict[str, Any]) -> Act:
        try:
            reason = str(BlockReason(options["reason"]))
        except InvalidBlock as error:
            raise CommandError(f"--reason: {error}", returncode=USAGE_ERROR) from error
        commands, until = wiring.service().commands, options["until"]
        return lambda user_id: commands.block(
            BlockUser(user_id=user_id, reason=reason, until=until, by=COMMAND_LINE)
        )
