"""One process that blocks and unblocks users by management commands, as a cron job does: a writer whose Redis
failures no web process knows of.

`python -m tests.staleness.shell FOLDER NUMBER SEED PAUSE`: with the service's own settings."""

import io
import json
import os
import random
import sys
import time

import django
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import Error, connection

from tests.staleness.board import now
from tests.staleness.cast import Cast
from tests.staleness.writers import PAUSE_AFTER_TROUBLE, Notebook


def run(cast: Cast, number: int, seed: int, pause: float) -> None:
    cast.fast_reads.write_text(str(settings.FAST_READS))
    dice, notebook = random.Random(seed), Notebook(cast, number)
    while not notebook.board.over:
        what, user = dice.choice(["block", "unblock", "unblock"]), dice.randrange(len(cast.ids))
        begun = now()
        try:
            version = _done(what, cast.ids[user])
        except Error:
            connection.close()
            time.sleep(PAUSE_AFTER_TROUBLE)
            continue
        if version:
            notebook.note(user, version, begun, what)
        time.sleep(dice.uniform(0, 2 * pause))


def _done(what: str, user_id: str) -> int | None:
    """The version that it made; None when it was refused."""
    told = io.StringIO()
    reason = ["--reason", "staleness"] if what == "block" else []
    try:
        call_command(f"{what}_user", user_id, "--json", *reason, stdout=told, stderr=io.StringIO())
    except (CommandError, SystemExit):
        return None
    version: int | None = json.loads(told.getvalue().splitlines()[0])["version"]
    return version


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup()
    run(Cast.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
