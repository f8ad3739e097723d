"""For all tests, those without a server too, so nothing of Django's is imported before it is needed.

Real servers, started at first use: one PostgreSQL for all processes of the run, with a database for each, and
a Redis for each process."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from config.embedded import Redis
from tests import leaks
from tests.servers import WORKER, own_redis, shared_postgres, start

# Whatever PYTHONDONTWRITEBYTECODE says: without a cache pytest rewrites the asserts of every module again, in
# each process of each run, which takes longer than most files of tests.
sys.dont_write_bytecode = False

LONG = [
    "test_running.py",
    "test_staleness_soak.py",
    "test_events_under_chaos.py",
    "test_schemathesis.py",
    "test_embedded.py",
    "test_webhook_delivery.py",
    "test_order_service.py",
    "test_webhooks_running.py",
    "test_outages.py",
    "test_settings.py",
    "test_staleness.py",
    "test_tour.py",
]
"""Files that take long with few tests. They are begun first: else one process of the run would be left with
the last of them, and the other with nothing to do."""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Each process stops its Redis; the last one out, who controls the run, the PostgreSQL of all. Only then
    have fixtures let go of them, also where a run was cut short."""
    own_redis().stop()
    if not hasattr(session.config, "workerinput"):
        shared_postgres().stop()


def pytest_configure(config: pytest.Config) -> None:
    """xdist would begin with the files of many tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def log_without_secrets() -> Iterator[None]:
    """Whatever a test makes the service log, here or in a process of its own."""
    yield
    assert leaks.found() == [], "the service has logged what nobody may read there"


@pytest.fixture(scope="session", autouse=True)
def metrics_without_secrets() -> Iterator[None]:
    """After all that a whole run has counted."""
    yield
    if "users.infrastructure.metrics" in sys.modules:
        from prometheus_client import generate_latest

        page = generate_latest().decode()
        assert leaks.findings(page) == []
        assert leaks.IDENTIFIER.findall(page) == []


@pytest.fixture(scope="session")
def django_db_setup(django_test_environment: None, django_db_blocker: Any) -> Iterator[None]:
    """This process's own database, migrated, on the run's PostgreSQL or the one of DATABASE_URL."""
    import environ
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    if not os.environ.get("DATABASE_URL"):
        server = shared_postgres()
        start(server)
        found = environ.Env.db_url_config(server.url)
        connection.settings_dict.update({key: found[key] for key in ("HOST", "PORT", "USER", "PASSWORD")})
    connection.settings_dict["TEST"]["NAME"] = f"test_users_{WORKER}"
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False)
        yield
        teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis | None]:
    """This process's Redis, already in the settings; None where REDIS_URL names one."""
    from django.conf import settings
    from django.core.cache import caches

    if os.environ.get("REDIS_URL"):
        yield None
        return
    server = own_redis()
    server.start()
    for alias in settings.CACHES:
        caches.settings[alias]["LOCATION"] = server.url
        caches[alias] = caches.create_connection(alias)
    yield server
    server.stop()
