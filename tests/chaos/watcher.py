"""One process that reads a stream all the time, and writes down what it sees, in the order of seeing it.

`python -m tests.chaos.watcher REDIS_URL STREAM SEEN`: a line of JSON for each entry. After a FLUSHALL or a
Redis that came back empty it begins anew, as a consumer must."""

import json
import sys
import time

from redis import Redis, RedisError, ResponseError

BLOCK_MILLISECONDS = 100


def number(entry_id: bytes) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split(b"-")))


def watch(url: str, stream: str, path: str) -> None:
    redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=0.5)
    last = b"0-0"
    with open(path, "a", buffering=1) as seen:  # noqa: PTH123
        while True:
            try:
                if number(redis.xinfo_stream(stream)["last-generated-id"]) < number(last):
                    last = b"0-0"
                for _, entries in redis.xread({stream: last}, count=1000, block=BLOCK_MILLISECONDS):
                    for last, fields in entries:  # noqa: B007
                        seen.write(json.dumps(kept(json.loads(fields[b"event"]))) + "\n")
            except ResponseError:  # there is no such stream
                last = b"0-0"
                time.sleep(0.01)
            except RedisError:
                time.sleep(0.02)


def kept(envelope: dict) -> list:
    return [envelope.get(name) for name in ("sequence", "event_id", "user_id", "user_version")]


if __name__ == "__main__":
    watch(*sys.argv[1:])
