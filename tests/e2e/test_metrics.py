"""GET /metrics: the names and labels of the contract, and values that move as they should."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.served import Answer, Served
from tests.fixtures import PASSWORD, Api, People

NAMES = {
    "user_creations_total": ("counter", {"status"}),
    "user_query_duration_seconds": ("histogram", {"operation"}),
    "user_command_duration_seconds": ("histogram", {"operation", "status"}),
    "user_cache_requests_total": ("counter", {"result"}),
    "user_logins_total": ("counter", {"status"}),
    "user_events_published_total": ("counter", {"event_type"}),
    "user_events_pending": ("gauge", set()),
    "user_events_lag_seconds": ("gauge", set()),
    "user_events_delay_seconds": ("histogram", set()),
    "user_events_set_aside": ("gauge", set()),
    "user_events_relay_failures_total": ("counter", {"reason"}),
    "user_events_relay_heartbeat_age_seconds": ("gauge", set()),
}
ANN = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}


class Scrape:
    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found)


def scrape(api: Any) -> Scrape:
    """Of the service in this process, or of a served one."""
    answer = api("GET", "/metrics")
    return Scrape((answer.body if isinstance(answer, Answer) else answer.content).decode())


@pytest.fixture
def risen(anyone: Api) -> Callable[..., float]:
    """By how much a metric has risen since the test began, or since it was asked last."""
    before = [scrape(anyone)]

    def by(name: str, **labels: str) -> float:
        return scrape(anyone).value(name, **labels) - before[0].value(name, **labels)

    return by


def everything(anyone: Api, people: People, admin: Api) -> None:
    """A bit of all that is measured."""
    ann = people.user("Bob")
    anyone("POST", "/users", ANN)
    anyone("POST", "/users", ANN)
    anyone("POST", "/auth/token", {"email": "ann@example.com", "password": "wrong password"})
    admin("GET", f"/users/{ann}")
    admin("GET", "/users?email=ann@example.com")
    admin("GET", f"/users/{ann}/events")
    admin("GET", "/events")
    admin("GET", "/nope/ann@example.com")
    admin("GET", f"/nope/{ann}")
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    admin("POST", f"/users/{ann}/unblock")
    admin("FOO", f"/users/{ann}")


@pytest.mark.parametrize("name", NAMES)
def test_names_types_and_labels_are_those_of_the_contract(
    anyone: Api, people: People, admin: Api, name: str
) -> None:
    everything(anyone, people, admin)
    kind, labels = NAMES[name]
    family = scrape(anyone).families[name.removesuffix("_total") if kind == "counter" else name]
    assert family.type == kind
    samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
    assert samples
    for sample in samples:
        assert set(sample.labels) - {"le"} == labels
        if kind == "counter":
            assert sample.name == name


def test_no_label_holds_an_id_an_address_or_a_raw_path(anyone: Api, people: People, admin: Api) -> None:
    everything(anyone, people, admin)
    texts = {text for sample in scrape(anyone).samples for text in sample.labels.values()}
    assert not [text for text in texts if "@" in text or text.startswith("/")]
    assert not [text for text in texts if re.search(r"[0-9a-f]{8}-|nope|FOO", text)]


def test_labels_hold_the_words_of_the_contract(anyone: Api, people: People, admin: Api) -> None:
    everything(anyone, people, admin)
    now = scrape(anyone)

    def words(name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in now.samples if sample.name == name}

    assert words("user_creations_total", "status") == {"success", "error"}
    assert words("user_cache_requests_total", "result") == {"hit", "miss", "bypass"}
    assert words("user_command_duration_seconds_count", "status") == {"success", "error"}
    assert words("user_events_published_total", "event_type") >= {
        "user.created",
        "user.blocked",
        "user.unblocked",
    }


def test_registrations_are_counted_by_outcome(anyone: Api, people: People, risen: Any) -> None:
    anyone("POST", "/users", ANN)
    anyone("POST", "/users", ANN)
    anyone("POST", "/users", ANN | {"email": "x"})
    people.staff("operator")
    assert risen("user_creations_total", status="success") == 1, "staff from the command line registers not"
    assert risen("user_creations_total", status="error") == 2


def test_a_repeated_registration_is_one_creation(anyone: Api, risen: Any) -> None:
    for _ in range(3):
        anyone("POST", "/users", ANN, idempotency_key="k-1")
    assert risen("user_creations_total", status="success") == 1


def test_logins_are_counted_by_outcome(anyone: Api, people: People, admin: Api, risen: Any) -> None:
    ann = people.user("Ann")
    credentials = {"email": "ann@example.com", "password": PASSWORD}
    anyone("POST", "/auth/token", credentials)
    anyone("POST", "/auth/token", credentials | {"password": "wrong"})
    anyone("POST", "/auth/token", credentials | {"email": "nobody@example.com"})
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    anyone("POST", "/auth/token", credentials)
    assert risen("user_logins_total", status="success") == 1
    assert risen("user_logins_total", status="invalid_credentials") == 2
    assert risen("user_logins_total", status="user_blocked") == 1


def test_commands_are_timed_by_operation_and_outcome(people: People, admin: Api, risen: Any) -> None:
    ann = people.user("Ann")
    for _ in range(2):
        admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    assert risen("user_command_duration_seconds_count", operation="block", status="success") == 1
    assert risen("user_command_duration_seconds_count", operation="block", status="error") == 1
    assert 0 < risen("user_command_duration_seconds_sum", operation="block", status="success") < 60


def test_queries_are_timed_by_operation(people: People, admin: Api, risen: Any) -> None:
    ann = people.user("Ann")
    for address in (f"/users/{ann}", "/users", f"/users/{ann}/events", "/events"):
        admin("GET", address)
    for operation in ("get", "list", "history", "feed"):
        assert risen("user_query_duration_seconds_count", operation=operation) == 1


def test_reads_are_counted_by_what_the_cache_knew(people: People, admin: Api, risen: Any) -> None:
    ann = people.user("Ann")
    for _ in range(3):
        admin("GET", f"/users/{ann}")
    assert risen("user_cache_requests_total", result="miss") == 1
    assert risen("user_cache_requests_total", result="hit") == 2


def test_events_are_counted_when_they_are_published(people: People, admin: Api, risen: Any) -> None:
    ann = people.user("Ann")
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    assert risen("user_events_published_total", event_type="user.blocked") == 1
    assert scrape(admin).value("user_events_pending") == 0
    assert scrape(admin).value("user_events_lag_seconds") == 0


def test_without_redis_events_wait_and_reads_go_past_the_cache(
    anyone: Api, risen: Any, no_redis: None
) -> None:
    for number in range(3):
        assert anyone("POST", "/users", ANN | {"email": f"a{number}@example.com"}).status_code == 201
    login = {"email": "a0@example.com", "password": PASSWORD}
    own = Api(anyone("POST", "/auth/token", login).json()["access"])
    assert own("GET", "/users/me").status_code == 200
    now = scrape(anyone)
    assert now.value("user_events_pending") == 3
    assert 0 < now.value("user_events_lag_seconds") < 60
    assert risen("user_cache_requests_total", result="bypass") >= 1
    assert risen("user_events_published_total") == 0


def test_django_prometheus_has_its_own(anyone: Api) -> None:
    anyone("GET", "/health/live")
    names = {sample.name for sample in scrape(anyone).samples}
    assert "django_http_requests_before_middlewares_total" in names
    assert "django_http_responses_total_by_status_view_method_total" in names


@pytest.mark.xdist_group("production")
def test_two_processes_count_as_one(served: Served) -> None:
    """Each request comes over a connection of its own, so that either worker may get it; every scrape tells
    of both, and never of less than the one before."""
    before, totals = scrape(served), []
    for number in range(30):
        answer = served("POST", "/users", ANN | {"email": f"u{number}@example.com"})
        assert answer.status == 201
        totals.append(scrape(served).value("user_creations_total", status="success"))
    start = before.value("user_creations_total", status="success")
    assert totals == [start + number for number in range(1, 31)]
    pids = {sample.labels["pid"] for sample in scrape(served).samples if "pid" in sample.labels}
    assert not pids, "a process id is no label of ours"


@pytest.mark.xdist_group("production")
def test_the_metrics_of_several_processes_have_the_same_names(served: Served) -> None:
    served("POST", "/users", ANN)
    served("POST", "/users", ANN)
    token = served("POST", "/auth/token", {"email": ANN["email"], "password": PASSWORD}).json()["access"]
    assert served("GET", "/users/me", authorization=f"Bearer {token}").status == 200
    families = scrape(served).families
    for name, (kind, labels) in NAMES.items():
        family = families[name.removesuffix("_total") if kind == "counter" else name]
        assert family.type == kind
        assert all(set(sample.labels) - {"le"} == labels for sample in family.samples), name
