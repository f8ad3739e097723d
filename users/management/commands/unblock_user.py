"""Lifts blocks, as operators do, from a shell or by cron."""

from typing import Any

from users import wiring
from users.application.commands import UnblockUser
from users.management.bulk import Act, BulkCommand
from users_domain.value_objects import COMMAND_LINE


class Command(BulkCommand):
    help = "Unblocks users: they may log in again. Tokens from before the block stay worthless."
    done = "unblocked"

    def act_with(self, options: dict[str, Any]) -> Act:
        commands = wiring.service().commands
        return lambda user_id: commands.unblock(UnblockUser(user_id=user_id, by=COMMAND_LINE))
