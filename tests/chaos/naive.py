"""The relay that many write first: it remembers the last id, asks for what is above it, and publishes that.

`python -m tests.chaos.naive DATABASE_URL REDIS_URL STREAM POSITION`: keeps the last id in the file POSITION,
written after publishing, so that a kill repeats rather than loses. What it loses, it loses by its design: ids
become visible out of order, and a Redis that was emptied is not filled again."""

import json
import sys
import time
from pathlib import Path

import psycopg
from redis import Redis, RedisError

POLL_SECONDS = 0.005
QUERY = "SELECT id, event_id, user_id, user_version FROM outbox WHERE id > %s ORDER BY id LIMIT 500"


def relay(database: str, redis_url: str, stream: str, position: Path) -> None:
    redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=0.5)
    last = int(position.read_text()) if position.exists() else 0
    while True:
        try:
            with psycopg.connect(database, autocommit=True, connect_timeout=2) as connection:
                while True:
                    last = publish(connection.execute(QUERY, [last]).fetchall(), redis, stream, last)
                    remember(position, last)
                    time.sleep(POLL_SECONDS)
        except (psycopg.Error, RedisError):
            time.sleep(0.05)


def publish(rows: list[tuple], redis: Redis, stream: str, last: int) -> int:
    for last, event_id, user_id, version in rows:  # noqa: B007
        envelope = {"event_id": str(event_id), "user_id": str(user_id), "user_version": version}
        redis.xadd(stream, {"event": json.dumps(envelope)})
    return last


def remember(position: Path, last: int) -> None:
    """In one step: a kill in the middle must not be what it loses events by."""
    fresh = position.with_suffix(".new")
    fresh.write_text(str(last))
    fresh.replace(position)


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
