"""What is kept of every request, whoever answers it: one line in the log, and its share of the metrics."""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.utils.functional import cached_property

from users.api import request_log, request_metrics
from users.api.request_log import Line
from users.api.request_metrics import Figures
from users.infrastructure import metrics


@dataclass(frozen=True)
class Exchange:
    """What was asked and answered, by its route, never by its raw path or query, which may hold an address.
    `figures` is None where a middleware has answered before any view was looked for."""

    method: str
    route: str | None
    operation: str | None
    status: int
    user_id: str | None
    figures: Figures | None

    @cached_property
    def line(self) -> bytes:
        """What the log says of it whenever it happens. By Django's property: that of Python before 3.12 holds
        one lock for all."""
        fields = {
            "level": "info",
            "event": "request",
            "method": self.method,
            "route": self.route,
            "operation": self.operation,
            "status": self.status,
            "user_id": self.user_id,
        }
        return orjson.dumps(fields)


class Observed(NamedTuple):
    """An exchange, when it was over (in Unix time), and how long it took: with all middleware, and in the
    views alone. `query_seconds`: of a query that the cache has answered and that is not counted yet."""

    exchange: Exchange
    request_id: str
    at: float
    seconds: float
    view_seconds: float
    query_seconds: float | None = None


STARTED = "users.started"
"""In the environment of a request that was looked at in front of Django, when that began, by
`time.perf_counter`; no header puts it there."""
MOST_LATER = 50
LATEST_SECONDS = 0.1
_later: deque[Observed] = deque()


def observe(observed: Observed) -> None:
    _keep((observed,))


def observe_later(observed: Observed) -> None:
    """As `observe`, for whoever sees to it that `settle` follows: many at once cost far less than each by
    itself. The first that comes after a while takes along all that wait."""
    _later.append(observed)
    try:
        first = _later[0]
    except IndexError:  # others settle too
        return
    if len(_later) >= MOST_LATER or observed.at - first.at > LATEST_SECONDS:
        settle()


def settle() -> None:
    """Keeps what is to be kept later."""
    many = []
    with suppress(IndexError):
        while True:
            many.append(_later.popleft())
    if many:
        _keep(many)


def _keep(many: Sequence[Observed]) -> None:
    request_log.write(Line(one.exchange.line, one.request_id, one.at, one.seconds) for one in many)
    request_metrics.count([(one.exchange.figures, one.seconds, one.view_seconds) for one in many])
    metrics.count_hits([one.query_seconds for one in many if one.query_seconds is not None])


def transport_of(environ: Mapping[str, Any]) -> str:
    """`https` or `http`, as a trusted proxy says; Django has the same of `request.is_secure()`."""
    trusted = settings.SECURE_PROXY_SSL_HEADER
    said = environ.get(trusted[0]) if trusted else None
    if trusted and said is not None:
        return "https" if said.split(",", 1)[0].strip() == trusted[1] else "http"
    return "https" if environ.get("wsgi.url_scheme") == "https" else "http"
