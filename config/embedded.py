"""A real PostgreSQL and a real Redis for development and tests, found running or started, without Docker.

What a killed run left behind, the next one takes over. `DATABASE_URL` and `REDIS_URL` in the environment name
servers of somebody else's: those are used, and left alone. Does not import Django.
"""

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from config.servers.postgres import Postgres
from config.servers.redis import Redis
from config.servers.server import EmbeddedError, write_json

PROJECT = Path(__file__).resolve().parent.parent

__all__ = ["PROJECT", "EmbeddedError", "Postgres", "Redis", "Servers", "start", "stop"]


@dataclass(frozen=True)
class Servers:
    """Where to connect to."""

    database_url: str
    redis_url: str


def start(local_dir: Path) -> Servers:
    """Finds or starts what the environment does not name, and writes `<local_dir>/servers.json`."""
    postgres, redis = _servers(local_dir)
    servers = Servers(
        database_url=os.environ.get("DATABASE_URL") or _started(postgres),
        redis_url=os.environ.get("REDIS_URL") or _started(redis),
    )
    local_dir.mkdir(parents=True, exist_ok=True)
    write_json(local_dir / "servers.json", asdict(servers))
    return servers


def stop(local_dir: Path) -> None:
    """Stops the servers kept in this folder, whoever started them."""
    for server in _servers(local_dir):
        server.stop()
    (local_dir / "servers.json").unlink(missing_ok=True)


def _servers(local_dir: Path) -> tuple[Postgres, Redis]:
    return Postgres(local_dir / "postgres"), Redis(local_dir / "redis")


def _started(server: Postgres | Redis) -> str:
    server.start()
    return server.url


def _print_status(local_dir: Path) -> int:
    up = {server: server.pid is not None and server.answers() for server in _servers(local_dir)}
    for server, answers in up.items():
        print(f"{server.name}: {f'pid {server.pid}, port {server.port}' if answers else 'not running'}")
    return 0 if all(up.values()) else 3


def _act(action: str, local_dir: Path) -> int:
    if action == "status":
        return _print_status(local_dir)
    if action == "start":
        print(json.dumps(asdict(start(local_dir)), indent=2))
        return 0
    stop(local_dir)
    if action == "destroy":
        for server in _servers(local_dir):
            server.destroy()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m config.embedded", description=__doc__)
    parser.add_argument("action", choices=["start", "stop", "status", "destroy"])
    parser.add_argument("--local-dir", type=Path, default=os.environ.get("LOCAL_DIR") or PROJECT / ".local")
    options = parser.parse_args()
    try:
        return _act(options.action, options.local_dir)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
