"""Runs the order service, and looks after its dead letters. Settings come from the environment: README.md."""

import argparse
import json
import logging
import os
import signal
import socket
import threading
from dataclasses import asdict
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .consumer import Consumer
from .handlers import Handlers
from .store import AlreadyRunning, Store
from .tokens import OfflineTokens
from .users_api import UsersApi
from .web import OrderServer

log = logging.getLogger("order_service")

REDIS_SECONDS = 1.5
"""How long Redis may take to answer. Longer than a read blocks (consumer.BLOCK_MS)."""


def serve(store: Store) -> None:
    """Until SIGTERM or Ctrl-C. A store that fails ends it too: who runs us sees that, and starts us again."""
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    api = UsersApi(
        os.environ.get("USERS_URL", "http://127.0.0.1:8000"),
        email=_required("USERS_EMAIL"),
        password=_required("USERS_PASSWORD"),
    )
    consumer = _consumer(store, api)
    tokens = OfflineTokens(
        api,
        issuer=os.environ.get("JWT_ISSUER", "user-service"),
        audience=os.environ.get("JWT_AUDIENCE", "services"),
        events_of=store.token_events,
        silence=consumer.silence,
    )
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8100")))
    with store.only_reader(), OrderServer(address, store, tokens, consumer.silence) as server:
        threading.Thread(target=server.serve_forever, name="web", daemon=True).start()
        log.info("started on http://%s:%d, at event %d", *address, store.position())
        consumer.run(stop)
        server.shutdown()
    log.info("stopped at event %d", store.position())


def _consumer(store: Store, api: UsersApi) -> Consumer:
    redis = Redis.from_url(
        os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),  # a lost answer is found as pending; a read again would skip it
    )
    return Consumer(
        redis,
        api,
        store,
        Handlers(store, api),
        stream=os.environ.get("STREAM", "users.events"),
        group=os.environ.get("GROUP", "orders"),
        name=socket.gethostname(),
    )


def _required(name: str) -> str:
    if name not in os.environ:
        raise SystemExit(f"{name} is missing in the environment")
    return os.environ[name]


def show_dead_letters(store: Store) -> None:
    for letter in store.all_dead_letters():
        print(json.dumps(asdict(letter)))


def retry_dead_letters(store: Store) -> None:
    print(f"{store.hurry_dead_letters()} dead letters: the running service tries them within a second")


def main() -> None:
    acts = {"serve": serve, "dead-letters": show_dead_letters, "retry-dead-letters": retry_dead_letters}
    parser = argparse.ArgumentParser(prog="order_service", description=__doc__)
    parser.add_argument("act", nargs="?", choices=acts, default="serve")
    act = acts[parser.parse_args().act]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines would tell of every request
    store = Store(Path(os.environ.get("ORDERS_DB", "orders.sqlite3")))
    try:
        act(store)
    except AlreadyRunning as error:
        raise SystemExit(str(error)) from error
    finally:
        store.close()


if __name__ == "__main__":
    main()
