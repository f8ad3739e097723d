"""Our own HTTP, with the standard library: orders from active users, what we know of a user, our health."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .store import Store
from .tokens import SILENCE_SECONDS, OfflineTokens, TokenRefused, TokenUnverifiable

log = logging.getLogger("order_service.web")

LONGEST_BODY = 16_384
STAFF = {"admin", "operator", "service"}
Reply = tuple[int, dict[str, Any]]


class Problem(Exception):
    """An answer other than success."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


class OrderServer(ThreadingHTTPServer):
    """`silence`: for how many seconds the events have told nothing."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], store: Store, tokens: OfflineTokens, silence: Callable[[], float]
    ) -> None:
        super().__init__(address, _Requests)
        self._store = store
        self._tokens = tokens
        self._silence = silence

    def place_order(self, token: str, order: Any) -> Reply:
        claims = self._claims(token)
        item, quantity = _order(order)
        order_id, user_id = str(uuid.uuid4()), claims["sub"]
        if self._store.place_order(order_id, user_id, item, quantity, now=time.time()):
            return 201, {"id": order_id, "user_id": user_id, "item": item, "quantity": quantity}
        if self._store.user(user_id) is None:
            raise Problem(503, "user_not_here_yet")  # his token is good, so his event is on its way
        raise Problem(403, "user_not_active")

    def show_user(self, token: str, user_id: str) -> Reply:
        claims = self._claims(token)
        user = self._store.user(claims["sub"] if user_id == "me" else user_id)
        if user is None or (user.id != claims["sub"] and not STAFF & set(claims["roles"])):
            raise Problem(404, "user_not_found")
        return 200, asdict(user)

    def health(self) -> Reply:
        silence = self._silence()
        told = None if silence == float("inf") else round(silence, 3)
        status = "ok" if silence <= SILENCE_SECONDS else "degraded"
        return 200, {
            "status": status,
            "position": self._store.position(),
            "silent_seconds": told,
            **self._store.counts(),
        }

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            return self._tokens.verify(token)
        except TokenRefused as error:
            raise Problem(401, "invalid_token") from error
        except TokenUnverifiable as error:
            raise Problem(503, "token_cannot_be_verified_now") from error


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    wbufsize = -1  # head and body in one piece
    server: OrderServer

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)

    def _get(self) -> Reply:
        if self.path == "/health":
            return self.server.health()
        if self.path.startswith("/users/"):
            return self.server.show_user(self._token(), self.path.removeprefix("/users/"))
        raise Problem(404, "not_found")

    def _post(self) -> Reply:
        body = self._body()
        if self.path != "/orders":
            raise Problem(404, "not_found")
        try:
            return self.server.place_order(self._token(), json.loads(body))
        except ValueError as error:
            raise Problem(400, "invalid_request") from error

    def _answer(self, act: Callable[[], Reply]) -> None:
        try:
            status, content = act()
        except Problem as problem:
            status, content = problem.status, {"error": problem.error}
        except Exception:
            log.exception("a fault of ours")
            status, content = 500, {"error": "internal_error"}
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Bearer error="invalid_token"')
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def _token(self) -> str:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Problem(401, "missing_token")
        return token.strip()

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= LONGEST_BODY):
            self.close_connection = True  # what we do not read would be taken for the next request
            raise Problem(400, "invalid_request")
        return self.rfile.read(int(length))


def _order(order: Any) -> tuple[str, int]:
    """Raises ValueError."""
    match order:
        case {"item": str(item), "quantity": int(quantity)} if item.strip() and 0 < quantity <= 1000:
            return item.strip()[:100], quantity
    raise ValueError("an order has an item and a quantity from 1 to 1000")
