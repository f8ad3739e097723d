"""Servers that a test may stop, freeze and kill: its own, never those of the run. While they are frozen, the
service waits for them no longer than it does in life; else it is as patient as in all tests."""

from collections.abc import Iterator
from typing import Any

import environ
import pytest
from django.core.cache import caches
from django.db import connection, connections
from django_redis import get_redis_connection
from redis import Redis as RedisClient

from config import settings as own_settings
from config.embedded import Postgres, Redis
from tests.environment import LEASE_IN_LIFE
from tests.patient_settings import SECONDS
from tests.servers import TEST_DIR, WORKER
from users.infrastructure import cache
from users.infrastructure.redis_link import generation


def lead_redis_to(url: str, *, patiently: bool = True) -> None:
    """Over new connections, whatever was open before."""
    for alias, own in own_settings.CACHES.items():
        seconds = SECONDS if patiently else own["OPTIONS"]["SOCKET_TIMEOUT"]
        caches.settings[alias]["LOCATION"] = url
        caches.settings[alias]["OPTIONS"] |= {"SOCKET_CONNECT_TIMEOUT": seconds, "SOCKET_TIMEOUT": seconds}
        caches[alias] = caches.create_connection(alias)
        get_redis_connection(alias).connection_pool.disconnect(inuse_connections=False)
    generation.end()


def wait_for_postgres(seconds: float) -> None:
    """So long for a connection to it, from now on."""
    connection.settings_dict["OPTIONS"]["connect_timeout"] = seconds


class FragileRedis(Redis):
    def pause(self) -> None:
        lead_redis_to(self.url, patiently=False)
        super().pause()

    def resume(self) -> None:
        super().resume()
        lead_redis_to(self.url)


class FragilePostgres(Postgres):
    def pause(self) -> None:
        wait_for_postgres(own_settings.DATABASES["default"]["OPTIONS"]["connect_timeout"])
        super().pause()

    def resume(self) -> None:
        super().resume()
        wait_for_postgres(SECONDS)


@pytest.fixture(scope="session")
def own_redis_server() -> Iterator[Redis]:
    server = FragileRedis(TEST_DIR / f"redis-fragile-{WORKER}", save=False)
    yield server
    server.destroy()


@pytest.fixture
def fragile_redis(
    database: None, own_redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Redis]:
    """An empty Redis that the service uses during this test; it forgets everything when it is stopped. Leases
    that were taken and lost on the way end as soon as in life."""
    monkeypatch.setattr(cache, "LEASE_MILLISECONDS", LEASE_IN_LIFE)
    before = caches.settings["default"]["LOCATION"]
    own_redis_server.start()
    lead_redis_to(own_redis_server.url)
    get_redis_connection("default").flushall()
    yield own_redis_server
    own_redis_server.resume()
    lead_redis_to(before)


@pytest.fixture
def redis_client(fragile_redis: Redis) -> RedisClient:
    """Straight to the fragile Redis, past the service's links."""
    client = RedisClient.from_url(fragile_redis.url)
    yield client
    client.close()


@pytest.fixture(scope="session")
def own_postgres_server() -> Iterator[Postgres]:
    server = FragilePostgres(TEST_DIR / f"postgres-fragile-{WORKER}", durable=False)
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
