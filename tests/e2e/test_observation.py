"""What requests add to the metrics: to the letter what django-prometheus' own two middlewares would add."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from django.test.client import ClientHandler
from django_prometheus.middleware import PrometheusAfterMiddleware
from prometheus_client import REGISTRY

from tests.fixtures import PASSWORD, Api, People
from users.api import middleware, request_metrics
from users.api.views import UserViewSet

OURS = settings.MIDDLEWARE
THEIRS = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    *OURS[:-1],
    "tests.e2e.test_observation.TheirMiddleware",
]
Counts = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class TheirMiddleware(PrometheusAfterMiddleware):
    """But for the words that strangers send as a method, which it makes a histogram of, each."""

    def label_metric(self, metric: Any, request: Any, response: Any = None, **labels: Any) -> Any:
        if "method" in labels:
            labels["method"] = self._method(request)  # type: ignore[no-untyped-call]
        return super().label_metric(metric, request, response, **labels)  # type: ignore[no-untyped-call]


def counts() -> Counts:
    """Everything but what depends on the time that requests take."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name.startswith("django_http")
        and not sample.name.endswith(("_sum", "_created"))
        and not ("latency" in sample.name and sample.name.endswith("_bucket"))
    }


def risen(since: Counts) -> Counts:
    return {key: value - since.get(key, 0) for key, value in counts().items() if value != since.get(key, 0)}


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Switches to their middlewares, with nothing in front of Django, until the test is over."""

    def switch() -> None:
        monkeypatch.setattr(middleware, "observe", lambda observed: None)
        handler = ClientHandler(enforce_csrf_checks=True)
        with override_settings(MIDDLEWARE=THEIRS):
            handler.load_middleware()
        monkeypatch.setattr(Api, "handler", handler)

    return switch


def a_bit_of_everything(people: People, name: str) -> list[int]:
    """Requests of each kind; answers their statuses."""
    user, anyone = people.user(name), Api()
    people.staff("admin", f"Admin{name}")
    admin, own = people.log_in(f"Admin{name}"), people.log_in(name)
    new = {"email": f"{name}2@example.com", "name": name, "password": PASSWORD}
    answers = [
        own("GET", "/users/me"),
        own("GET", "/users/me", x_requested_with="XMLHttpRequest"),
        own("HEAD", "/users/me"),
        own("GET", "/users/me", if_none_match="*"),
        own("GET", f"/users/{user[:-1]}"),
        own("POST", f"/users/{user}/block", {"reason": "spam"}),
        admin("POST", f"/users/{user}/block", {"reason": "spam"}),
        admin("GET", "/users?limit=1&email=nobody@example.com"),
        admin("GET", f"/users/{user}/export"),
        anyone("POST", "/users", new),
        anyone("POST", "/users", raw=b"{"),
        anyone("POST", "/users", raw=b"x" * 70_000),
        anyone("POST", "/users", raw=b"x", content_type="a/b"),
        anyone("GET", "/users"),
        anyone("GET", "/users", host="evil.example"),
        anyone("GET", "/users?q=%ff"),
        anyone("DELETE", "/users"),
        anyone("DELETE", "/metrics"),
        anyone("OPTIONS", "/users", origin="https://x.example", access_control_request_method="PUT"),
        anyone("OPTIONS", "/users"),
        anyone("FOO", "/users"),
        anyone("FOO", "/health/live"),
        anyone("GET", "/nope"),
        anyone("GET", "/health/live"),
        anyone("GET", "/.well-known/jwks.json"),
        anyone("GET", "/static/admin/css/base.css"),
        anyone("GET", "/static/nope.css"),
        anyone("GET", "/admin/"),
        anyone("GET", "/admin/login/"),
        anyone("POST", "/admin/login/"),
        anyone("GET", "/docs"),
        admin("GET", f"/users/{user}/sessions"),
    ]
    for answer in answers:
        answer.close()
    return [answer.status_code for answer in answers]


def test_all_is_counted_that_theirs_count(
    people: People, theirs: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("users.api.sessions.SessionViewSet.list_sessions", broken)
    monkeypatch.setattr(request_metrics, "_kept", {})
    start = counts()
    statuses = a_bit_of_everything(people, "Ann")
    ours = risen(start)
    theirs()
    start = counts()
    assert a_bit_of_everything(people, "Bob") == statuses
    assert ours == risen(start)
    assert {200, 201, 302, 304, 400, 401, 403, 404, 405, 413, 415, 500} == set(statuses)


def test_each_kind_is_counted_by_its_own_labels(people: People, admin: Api) -> None:
    user = people.user("Ann")
    admin("GET", f"/users/{user}")
    start = counts()
    for _ in range(2):
        admin("GET", f"/users/{user}")
    found = Counter(
        {name: value for (name, labels), value in risen(start).items() if ("view", "user") in labels}
    )
    assert found["django_http_responses_total_by_status_view_method_total"] == 2
    assert found["django_http_requests_total_by_view_transport_method_total"] == 2
    assert found["django_http_requests_latency_seconds_by_view_method_count"] == 2


def test_what_strangers_make_up_gets_no_counters_of_its_own(anyone: Api) -> None:
    anyone("GET0", "/users")
    anyone("GET", "/nope/0")
    known, kept = len(counts()), len(request_metrics._kept)
    for number in range(20):
        anyone(f"GET{number}", "/users")
        anyone("GET", f"/nope/{number}")
    assert (len(counts()), len(request_metrics._kept)) == (known, kept)


def test_where_too_many_kinds_are_kept_the_others_are_counted_too(
    people: People, admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_metrics, "_kept", {})
    monkeypatch.setattr(request_metrics, "MAX_KEPT", 1)
    start = counts()
    admin("GET", "/users/me")
    admin("GET", "/users")
    name = "django_http_requests_total_by_view_transport_method_total"
    labels = (("method", "GET"), ("transport", "http"))
    assert risen(start)[name, (*labels, ("view", "user"))] == 1
    assert risen(start)[name, (*labels, ("view", "users"))] == 1
    assert len(request_metrics._kept) == 1


def test_a_proxy_says_what_the_transport_is(admin: Api) -> None:
    start = counts()
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        for said in ("https", "https, http", "http", "ftp"):
            admin("GET", "/users/me", x_forwarded_proto=said)
        admin("GET", "/users/me")
    admin("GET", "/users/me", x_forwarded_proto="https")
    rose = risen(start)
    name = "django_http_requests_total_by_transport_total"
    assert (rose[name, (("transport", "https"),)], rose[name, (("transport", "http"),)]) == (2, 4)


def test_what_a_view_lets_escape_is_counted_by_type_and_view(
    admin: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(UserViewSet, "list", broken)
    start = counts()
    assert admin("GET", "/users").status_code == 500
    rose = risen(start)
    assert rose["django_http_exceptions_total_by_type_total", (("type", "ZeroDivisionError"),)] == 1
    assert rose["django_http_exceptions_total_by_view_total", (("view", "users"),)] == 1
