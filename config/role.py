"""The roles of the one image: `python -m config.role web|worker|migrate`."""

import os
import signal
import sys

from config import processes

COMMANDS = {"worker": ["relay_events"], "migrate": ["migrate", "--noinput"]}
# An orphaned worker's time to finish its batch.
ORPHAN_SECONDS = 10


def main(role: str) -> int:
    # Process 1 of a container ignores a SIGTERM that it has no handler for; later ones replace this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if role == "web":
        from config.server import serve

        return serve()
    if supervisor := os.environ.get("SUPERVISOR_PID"):
        processes.end_with(int(supervisor), ORPHAN_SECONDS)
    if role == "migrate":
        without_statement_timeout()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from users.checks import refuse_dangers

    try:
        refuse_dangers()
        execute_from_command_line(["manage.py", *COMMANDS[role]])
    except ImproperlyConfigured as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def without_statement_timeout() -> None:
    """For migrations: an index over many rows takes its time."""
    os.environ.setdefault("DATABASE_STATEMENT_TIMEOUT_MS", "0")


if __name__ == "__main__":
    if sys.argv[1:] not in (["web"], ["worker"], ["migrate"]):
        sys.exit("usage: python -m config.role web|worker|migrate")
    sys.exit(main(sys.argv[1]))
