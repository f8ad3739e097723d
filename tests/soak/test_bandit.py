"""Bandit over the service's code. Whatever it finds was looked at, and stands here with why it stays."""

import json
import subprocess
from collections.abc import Callable

import pytest

from config.embedded import PROJECT

pytestmark = [pytest.mark.soak]

LOOKED_AT = {
    ("config/server.py", "B104"): "in a container the service listens for the network",
    ("config/devserver.py", "B310"): "asks this machine whether the server is up",
    ("users/infrastructure/erasure.py", "B608"): "SQL made of constants of the module",
    ("users/infrastructure/webhooks/sender.py", "B113"): "has one deadline for all, of its own",
}
HARMLESS = {
    "B105": "constants with `password` or `token` in their name, and examples of the documentation",
    "B106": "an erased user's hash is empty",
    "B311": "chance that spreads retries guards nothing",
}
OF_CONFIG = {"B404", "B603", "B607"}
"""Development starts PostgreSQL, Redis and the roles as processes, by lists of constants."""


def test_bandit_finds_nothing_that_was_not_looked_at(tool: Callable[[str], str]) -> None:
    command = [tool("bandit"), "-q", "-f", "json", "-r", "users", "users_domain", "config", "manage.py"]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    found = [
        (each["filename"], each["test_id"], each["line_number"]) for each in json.loads(ran.stdout)["results"]
    ]
    left = [
        (file, kind, line)
        for file, kind, line in found
        if (file, kind) not in LOOKED_AT
        and kind not in HARMLESS
        and not (kind in OF_CONFIG and file.startswith("config/"))
    ]
    assert left == []
    kinds = {(file, kind) for file, kind, _ in found}
    assert LOOKED_AT.keys() <= kinds, "what is not found any more needs no excuse"
