"""What a request adds to django-prometheus' metrics. Its own middlewares look every counter up by its labels
for every request, which takes longer than many a request; here they are looked up once."""

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from django_prometheus.middleware import Metrics
from prometheus_client import Counter, Histogram

from users.infrastructure.metrics import count_up, observe_all

_metrics: Any = Metrics.get_instance()  # type: ignore[no-untyped-call]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "CONNECT", "PATCH"})
_UNNAMED = "<unnamed view>"
MAX_KEPT = 4096
"""More kinds of requests than addresses, methods and statuses make up; should it be wrong, all is counted
nevertheless."""


class Kind(NamedTuple):
    """What requests are counted by. `view` is None where no address fits; `viewed` says whether the view was
    called, or a refusal came first; `template` is None for what comes from none."""

    method: str
    view: str | None
    viewed: bool
    status: int
    transport: str
    charset: str | None
    template: str | None


class Figures(NamedTuple):
    """Of one request that went as far as the views; `response_bytes` is None where they stream."""

    kind: Kind
    request_bytes: int
    response_bytes: int | None
    ajax: bool = False


class _Counted(NamedTuple):
    """The counters that one kind of request adds to, and how long each took."""

    counters: tuple[Counter, ...]
    seconds: Histogram


_kept: dict[Kind, _Counted] = {}


def count(timed: Collection[tuple[Figures | None, float, float]]) -> None:
    """Requests, whoever has answered them, each with how long it took: with all middleware, and in the views.
    Many at once cost little more than one: what one of them adds to, the others mostly add to as well."""
    alike: dict[Kind, list[tuple[Figures, float]]] = {}
    for figures, _, view_seconds in timed:
        if figures is not None:
            alike.setdefault(figures.kind, []).append((figures, view_seconds))
    # All are there before any counts.
    by_counters = [(_counters_of(kind), those) for kind, those in alike.items()]
    count_up(_metrics.requests_total, len(timed))
    count_up(_metrics.responses_total, len(timed))
    observe_all(_metrics.requests_latency_before, [seconds for _, seconds, _ in timed])
    for counted, those in by_counters:
        _count_alike(counted, those)


def _count_alike(counted: _Counted, those: Collection[tuple[Figures, float]]) -> None:
    for counter in counted.counters:
        count_up(counter, len(those))
    observe_all(counted.seconds, [seconds for _, seconds in those])
    observe_all(_metrics.requests_body_bytes, [figures.request_bytes for figures, _ in those])
    sizes = [figures.response_bytes for figures, _ in those if figures.response_bytes is not None]
    observe_all(_metrics.responses_body_bytes, sizes)
    if len(sizes) < len(those):
        count_up(_metrics.responses_streaming, len(those) - len(sizes))
    if by_ajax := sum(figures.ajax for figures, _ in those):
        count_up(_metrics.requests_ajax, by_ajax)


def _counters_of(kind: Kind) -> _Counted:
    return _kept.get(kind) or _counted(kind)


def count_exception(error: Exception, *, view: str | None, method: str, seconds: float) -> None:
    """For what a view has let escape."""
    view = view or _UNNAMED
    _metrics.exceptions_by_type.labels(type(error).__name__).inc()
    _metrics.exceptions_by_view.labels(view).inc()
    _metrics.requests_latency_by_view_method.labels(view, known_method(method)).observe(seconds)


def known_method(method: str) -> str:
    """As a label: not every word that a stranger sends gets counters of its own."""
    return method if method in _METHODS else "<invalid method>"


def _counted(kind: Kind) -> _Counted:
    view, method = kind.view or _UNNAMED, known_method(kind.method)
    seconds = _metrics.requests_latency_by_view_method.labels(view, method)
    counted = _Counted(tuple(_counters(kind, view, method)), seconds)
    if len(_kept) < MAX_KEPT and kind.method == method:
        _kept[kind] = counted
    return counted


def _counters(kind: Kind, view: str, method: str) -> Iterable[Counter]:
    yield _metrics.requests_by_method.labels(method)
    yield _metrics.requests_by_transport.labels(kind.transport)
    if kind.viewed:
        yield _metrics.requests_by_view_transport_method.labels(view, kind.transport, method)
    if kind.template is not None:
        yield _metrics.responses_by_templatename.labels(kind.template)
    yield _metrics.responses_by_status.labels(str(kind.status))
    yield _metrics.responses_by_status_view_method.labels(str(kind.status), view, method)
    if kind.charset is not None:
        yield _metrics.responses_by_charset.labels(kind.charset)
