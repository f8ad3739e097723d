"""Servers that a test may stop, freeze and kill: its own, never those of the run."""

from collections.abc import Iterator
from typing import Any

import environ
import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection, connections
from django_redis import get_redis_connection
from redis import Redis as RedisClient

from config.embedded import Postgres, Redis
from tests.servers import TEST_DIR, WORKER


def _lead_redis_to(url: str) -> None:
    for alias in settings.CACHES:
        caches.settings[alias]["LOCATION"] = url
        caches[alias] = caches.create_connection(alias)


@pytest.fixture(scope="session")
def own_redis_server() -> Iterator[Redis]:
    server = Redis(TEST_DIR / f"redis-fragile-{WORKER}", save=False)
    yield server
    server.destroy()


@pytest.fixture
def fragile_redis(database: None, own_redis_server: Redis) -> Iterator[Redis]:
    """An empty Redis that the service uses during this test; it forgets everything when it is stopped."""
    before = caches.settings["default"]["LOCATION"]
    own_redis_server.start()
    _lead_redis_to(own_redis_server.url)
    get_redis_connection("default").flushall()
    yield own_redis_server
    own_redis_server.resume()
    _lead_redis_to(before)


@pytest.fixture
def redis_client(fragile_redis: Redis) -> RedisClient:
    """Straight to the fragile Redis, past the service's links."""
    client = RedisClient.from_url(fragile_redis.url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def own_postgres_server() -> Iterator[Postgres]:
    server = Postgres(TEST_DIR / f"postgres-fragile-{WORKER}", durable=False)
    yield server
    server.destroy()


@pytest.fixture
def fragile_postgres(database: None, own_postgres_server: Postgres) -> Iterator[Postgres]:
    """A migrated and empty PostgreSQL that the service uses during this test."""
    from django.core.management import call_command

    names = ("HOST", "PORT", "USER", "PASSWORD", "NAME")
    before = {name: connection.settings_dict[name] for name in names}
    own_postgres_server.start()
    found: dict[str, Any] = environ.Env.db_url_config(own_postgres_server.url)
    connections.close_all()
    connection.settings_dict.update({name: found[name] for name in names})
    call_command("migrate", verbosity=0)
    call_command("flush", verbosity=0, interactive=False)
    yield own_postgres_server
    own_postgres_server.resume()
    connections.close_all()
    connection.settings_dict.update(before)
