"""A server of this test's own, in its own process, and an admin who may do everything on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches

from config.embedded import PROJECT
from tests.browser import boss  # noqa: F401
from tests.e2e.served import Served, database_url
from tests.fixtures import *  # noqa: F403
from tests.fixtures import PASSWORD

TOOLS = PROJECT / ".local" / "tools" / "bin"
OFFLINE = PROJECT / "tests" / "e2e" / "offline"


@pytest.fixture
def target(database: None, tmp_path: Path) -> Iterator[Served]:
    """Calls nobody but this machine, and not even that by webhooks; tokens live as long as a scan."""
    served = Served(
        tmp_path,
        DATABASE_URL=database_url(),
        REDIS_URL=str(caches.settings["default"]["LOCATION"]),
        LOCAL_DIR=str(settings.LOCAL_DIR),
        BCRYPT_COST="4",
        WEB_WORKERS="1",
        FEED_WAITS="0",
        DRAIN_SECONDS="0",
        RATE_LIMITS="off",
        ACCESS_TOKEN_SECONDS="7200",
        WEBHOOK_PRIVATE_ADDRESSES="false",
        WEBHOOK_TIMEOUT_SECONDS="0.5",
        PYTHONPATH=str(OFFLINE),
    )
    try:
        served.until_it_answers()
        yield served
    finally:
        served.stop()


def access_token(target: Served, name: str) -> str:
    """Of the server's own making: those made in this process live for minutes only."""
    body = {"email": f"{name}@example.com", "password": PASSWORD}
    token: str = target("POST", "/auth/token", body).json()["access"]
    return token


@pytest.fixture
def tool() -> Any:
    """The path of an installed tool."""

    def tool(name: str) -> str:
        path = TOOLS / name
        assert path.exists(), f"{name} is not installed: `make soak` does that, from requirements/soak.txt"
        return str(path)

    return tool
