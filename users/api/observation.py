"""What is kept of every request, whoever answers it: one line in the log, and its share of the metrics."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings

from users.api import request_log, request_metrics
from users.api.request_metrics import Figures


class Observed(NamedTuple):
    """A request that is answered, by its route, never by its raw path or query, which may hold an address.
    `seen` is None where a middleware has answered before any view was looked for."""

    method: str
    route: str | None
    operation: str | None
    status: int
    seconds: float
    user_id: str | None
    request_id: str
    seen: Figures | None


def observe(observed: Observed) -> None:
    request_metrics.count(observed.seconds, observed.seen)
    _log(observed)


def observe_of_many(observed: Observed, seen: Figures) -> None:
    """As `observe`, where `request_metrics.settle` follows when none of many is under way any more."""
    request_metrics.count_later(observed.seconds, seen)
    _log(observed)


def _log(observed: Observed) -> None:
    request_log.write(
        {
            "method": observed.method,
            "route": observed.route,
            "operation": observed.operation,
            "status": observed.status,
            "duration_ms": round(observed.seconds * 1000, 2),
            "user_id": observed.user_id,
        },
        observed.request_id,
    )


def transport_of(environ: Mapping[str, Any]) -> str:
    """`https` or `http`, as a trusted proxy says; Django has the same of `request.is_secure()`."""
    trusted = settings.SECURE_PROXY_SSL_HEADER
    said = environ.get(trusted[0]) if trusted else None
    if trusted and said is not None:
        return "https" if said.split(",", 1)[0].strip() == trusted[1] else "http"
    return "https" if environ.get("wsgi.url_scheme") == "https" else "http"
