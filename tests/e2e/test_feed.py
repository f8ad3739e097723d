"""GET /events over HTTP: types, waiting, tags, CloudEvents; and the documents that describe the events."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from django.conf import settings as django_settings
from django.http import HttpResponse
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker

from config.embedded import PROJECT
from tests.e2e.answers import faults, problem, results
from tests.e2e.served import Answer, Served, database_url
from tests.fixtures import Api, People
from tests.together import PATIENCE, eventually, in_background, together
from tests.yaml_text import read_yaml
from users.application.cloud_events import cloud_event
from users.application.event_schemas import EVENT_TYPES, FOLDER, SCHEMAS, Schema
from users.infrastructure import feed_watch
from users.models import OutboxEvent, RelayPosition
from users_domain.events import UserCreated

pytestmark = pytest.mark.e2e

BATCH = "application/cloudevents-batch+json"
JSON = "application/json"


@pytest.fixture(autouse=True, scope="module")
def _no_thread_is_left(django_db_setup: None) -> Iterator[None]:
    """It has a connection to the database that is to be dropped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_watch, "LINGER_SECONDS", 0.05)
        yield
    eventually(lambda: feed_watch.THREAD not in {thread.name for thread in threading.enumerate()})


@pytest.fixture
def feed(people: People) -> Api:
    """A service's, on a feed of four events: its own two, then user.created of Ann and Bob."""
    people.staff("service")
    api = people.log_in("Service")
    people.user("Ann")
    people.user("Bob")
    assert [event["event_type"] for event in results(api("GET", "/events"))] == [
        "user.created",
        "user.roles_changed",
        "user.created",
        "user.created",
    ]
    return api


def sequences(answer: HttpResponse) -> list[int]:
    return [event["sequence"] for event in results(answer)]


# --- Reading ------------------------------------------------------------------------------------------


def test_pages_lead_through_the_feed_and_keep_types_and_limit_but_no_wait(feed: Api) -> None:
    first = feed("GET", "/events?types=user.created,user.blocked&limit=2&wait=1")
    assert sequences(first) == [1, 3]
    following = first.json()["next"]
    assert following == "/events?types=user.created%2Cuser.blocked&limit=2&after=3"
    assert first["Link"] == f'<{following}>; rel="next"'
    last = feed("GET", following)
    assert sequences(last) == [4]
    assert last.json()["next"] is None
    assert "Link" not in last


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("types=user.deleted", ("types", "unknown")),
        ("types=user.created,", ("types", "unknown")),
        ("types=User.Created", ("types", "unknown")),
        ("types=user.created,user.created", ("types", "repeated")),
        ("types=user.created&types=user.blocked", ("types", "repeated")),
        ("types=", ("types", "blank")),
        ("types=%00", ("types", "unknown")),
        ("wait=31", ("wait", "max_value")),
        ("wait=-1", ("wait", "invalid")),
        ("wait=1.5", ("wait", "invalid")),
        ("wait=", ("wait", "invalid")),
        ("after=-1", ("after", "invalid")),
        ("cursor=1", ("cursor", "unknown")),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_in_detail(feed: Api, query: str, fault: Any) -> None:
    assert fault in faults(feed("GET", f"/events?{query}"))


def test_an_unknown_type_is_told_which_there_are(feed: Api) -> None:
    [detail] = problem(feed("GET", "/events?types=user.deleted"), "invalid_request")["details"]
    assert all(event_type in detail["message"] for event_type in ["user.deleted", *EVENT_TYPES])


def test_a_position_whose_events_are_deleted_is_gone(feed: Api) -> None:
    RelayPosition.objects.update(pruned=3)
    gone = problem(feed("GET", "/events?after=2&types=user.blocked&wait=5"), "events_gone")
    assert gone["oldest"] == 4
    assert feed("GET", "/events?after=3").status_code == 200
    assert feed("GET", "/events?after=0").status_code == 200


def test_head_says_what_get_does(feed: Api) -> None:
    get, head = feed("GET", "/events?limit=2"), feed("HEAD", "/events?limit=2")
    assert head.status_code == 200
    assert head.content == b""
    for name in ("ETag", "Content-Length", "Content-Type", "Link", "Cache-Control", "Vary"):
        assert head[name] == get[name], name


# --- Tags ---------------------------------------------------------------------------------------------


def test_an_unchanged_page_is_not_sent_again(feed: Api) -> None:
    page = feed("GET", "/events")
    tag = page["ETag"]
    assert tag.startswith('"')
    assert page["Cache-Control"] == "private, no-cache"
    assert {"Accept", "Authorization"} <= set(page["Vary"].split(", "))

    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = feed("GET", "/events", if_none_match=known)
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", tag), known
        assert "Accept" in again["Vary"]
    for other in ('"other"', "nonsense", ""):
        assert feed("GET", "/events", if_none_match=other).status_code == 200, other


def test_a_page_that_grew_has_another_tag(feed: Api, people: People) -> None:
    tag = feed("GET", "/events")["ETag"]
    people.user("Cid")
    assert feed("GET", "/events", if_none_match=tag).status_code == 200


@pytest.mark.parametrize("accept", [JSON, BATCH])
def test_a_full_page_has_another_tag_as_soon_as_another_one_follows(
    feed: Api, people: People, accept: str
) -> None:
    tag = feed("GET", "/events?limit=4", accept=accept)["ETag"]
    people.user("Cid")
    page = feed("GET", "/events?limit=4", accept=accept, if_none_match=tag)
    assert page.status_code == 200
    assert page["Link"] == '</events?limit=4&after=4>; rel="next"'


# --- CloudEvents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        (JSON, JSON),
        ("text/csv", JSON),
        (BATCH, BATCH),
        (BATCH.upper(), BATCH),
        (f"{BATCH}; charset=utf-8", BATCH),
        (f"{BATCH}, */*", BATCH),
        (f"{BATCH}, */*;q=0.1", BATCH),
        (f"{JSON}, {BATCH}", JSON),
        (f"{JSON};q=0.5, {BATCH};q=0.8", BATCH),
        (f"{JSON};q=0.8, {BATCH};q=0.5", JSON),
        (f"{BATCH};q=0", JSON),
        (f"{BATCH};q=0, */*", JSON),
        (f"{BATCH};q=x", BATCH),
        (",,;", JSON),
    ],
)
def test_cloud_events_are_for_those_who_prefer_them(feed: Api, accept: str | None, expected: str) -> None:
    answer = feed("GET", "/events", **({} if accept is None else {"accept": accept}))
    assert (answer.status_code, answer["Content-Type"]) == (200, expected)
    assert isinstance(answer.json(), list) == (expected == BATCH)


def test_a_batch_holds_the_same_events_as_the_official_sdk_reads_them(feed: Api) -> None:
    told, batch = feed("GET", "/events?limit=3"), feed("GET", "/events?limit=3", accept=BATCH)
    assert batch["Link"] == told["Link"] == '</events?limit=3&after=3>; rel="next"'
    assert batch["ETag"] != told["ETag"]
    assert feed("GET", "/events?limit=3", accept=BATCH, if_none_match=batch["ETag"]).status_code == 304
    assert feed("GET", "/events?limit=3", if_none_match=batch["ETag"]).status_code == 200
    for mapped, envelope in zip(batch.json(), results(told), strict=True):
        read = JSONFormat().read(None, json.dumps(mapped))
        assert (read.get_id(), read.get_type()) == (envelope["event_id"], envelope["event_type"])
        assert (read.get_subject(), read.get_data()) == (envelope["user_id"], envelope["data"])
        assert read.get_source() == django_settings.EVENT_SOURCE
        assert int(read.get_extension("sequence")) == envelope["sequence"]
        dataschema = read.get_dataschema()
        assert dataschema.startswith("http://localhost/schema/events/")
        schema = Api()("GET", dataschema.removeprefix("http://localhost"))
        Draft202012Validator(schema.json(), format_checker=FormatChecker()).validate(read.get_data())


def test_an_event_names_the_schema_under_which_it_was_written(
    feed: Api, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = feed("GET", "/events?after=3").json()
    monkeypatch.setattr(UserCreated, "schema_version", 2)
    monkeypatch.setitem(SCHEMAS, "user.created", Schema("user.created", 2, {"title": "the next one"}))
    people.user("Cid")

    old, new = feed("GET", "/events?after=3", accept=BATCH).json()

    served = "http://localhost/schema/events/user.created"
    assert (old["dataschema"], new["dataschema"]) == (f"{served}.v1", f"{served}.v2")
    told = feed("GET", "/events?after=3").json()["results"]
    assert told[0] == before["results"][0]
    assert told[0].keys() == told[1].keys()
    assert Api()("GET", "/schema/events/user.created.v1").json() == json.loads(
        (FOLDER / "user.created.v1.json").read_text()
    )
    for name in ("user.created.v2", "user.created"):
        assert Api()("GET", f"/schema/events/{name}").json() == {"title": "the next one"}


def test_a_tombstone_names_its_own_schema_whatever_the_events_was(feed: Api) -> None:
    OutboxEvent.objects.filter(sequence=4).update(
        schema_version=7, set_aside_at=timezone.now(), set_aside_because="odd"
    )
    [told] = feed("GET", "/events?after=3", accept=BATCH).json()
    assert told["dataschema"].endswith("/schema/events/user.set_aside.v1")


def test_an_empty_batch_is_an_empty_list(feed: Api) -> None:
    assert feed("GET", "/events?after=4", accept=BATCH).content == b"[]"


def test_a_refusal_is_a_problem_to_readers_of_cloud_events_too(feed: Api) -> None:
    problem(feed("GET", "/events?limit=0", accept=BATCH), "invalid_request")


# --- Waiting ------------------------------------------------------------------------------------------

LONG, BEFORE_ITS_END = 30, 25
"""Seconds: the longest wait there is, and less than that, however slow the machine. Who is answered by then
is not answered because his time is up."""


def took(act: Any) -> tuple[Any, float]:
    began = time.monotonic()
    return act(), time.monotonic() - began


def test_who_waits_is_answered_when_something_comes(feed: Api, people: People) -> None:
    with in_background(lambda stop: (stop.wait(0.3), people.user("Cid"))):
        answer, seconds = took(lambda: feed("GET", f"/events?after=4&wait={LONG}"))
    assert sequences(answer) == [5]
    assert seconds < BEFORE_ITS_END
    assert "Retry-After" not in answer


def test_who_waits_for_some_types_is_not_answered_by_others(feed: Api, people: People) -> None:
    with in_background(lambda stop: (stop.wait(0.2), people.user("Cid"))):
        answer, seconds = took(lambda: feed("GET", "/events?types=user.blocked&wait=1"))
    assert results(answer) == []
    assert 0.9 < seconds < BEFORE_ITS_END


def test_who_has_the_page_waits_until_it_changes_or_the_time_is_up(feed: Api, people: People) -> None:
    tag = feed("GET", "/events")["ETag"]
    answer, seconds = took(lambda: feed("GET", "/events?wait=1", if_none_match=tag))
    assert answer.status_code == 304
    assert 0.9 < seconds < BEFORE_ITS_END

    with in_background(lambda stop: (stop.wait(0.3), people.user("Cid"))):
        answer, seconds = took(lambda: feed("GET", f"/events?wait={LONG}", if_none_match=tag))
    assert sequences(answer) == [1, 2, 3, 4, 5]
    assert seconds < BEFORE_ITS_END


MALFORMED = ["abc", "", "W/x", '"a" "b"']


def test_a_tag_that_is_none_lets_nobody_ask_in_a_busy_loop(feed: Api) -> None:
    def ask(tag: str) -> tuple[Any, float]:
        return took(lambda: feed("GET", "/events?after=4&wait=1", if_none_match=tag))

    for answer, seconds in together(partial(ask, tag) for tag in MALFORMED):
        assert (answer.status_code, results(answer)) == (200, [])
        assert seconds > 0.9


@pytest.mark.parametrize("malformed", MALFORMED)
def test_nor_does_it_keep_anybody_waiting_for_what_is_there(feed: Api, malformed: str) -> None:
    answer, seconds = took(lambda: feed("GET", f"/events?wait={LONG}", if_none_match=malformed))
    assert sequences(answer) == [1, 2, 3, 4]
    assert seconds < BEFORE_ITS_END


def test_a_page_is_made_once_however_often_it_is_looked_at(
    feed: Api, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(envelope: Any, **more: Any) -> Any:
        made.append(envelope["event_id"])
        return cloud_event(envelope, **more)

    monkeypatch.setattr("users.api.feed.cloud_event", counted)
    feed("GET", "/events", accept=BATCH)
    assert len(made) == len(set(made)) == 4

    tag = feed("GET", "/events?types=user.created", accept=BATCH)["ETag"]
    made.clear()
    query = "/events?types=user.created&wait=1"
    assert feed("GET", query, accept=BATCH, if_none_match=tag).status_code == 304
    assert len(made) == len(set(made)) == 3


def test_who_has_another_page_does_not_wait(feed: Api) -> None:
    for query in (f"after=4&wait={LONG}", f"wait={LONG}"):
        answer, seconds = took(lambda query=query: feed("GET", f"/events?{query}", if_none_match='"old"'))
        assert answer.status_code == 200
        assert seconds < BEFORE_ITS_END


def test_redis_is_not_needed(feed: Api, people: People, no_redis: None) -> None:
    with in_background(lambda stop: (stop.wait(0.3), people.user("Cid"))):
        answer, seconds = took(lambda: feed("GET", f"/events?after=4&wait={LONG}"))
    assert sequences(answer) == [5]
    assert seconds < BEFORE_ITS_END


@pytest.fixture
def small(people: People, tmp_path: Path) -> Iterator[Served]:
    """A server of one process with six threads, and a pool of two connections."""
    server = Served(
        tmp_path,
        DATABASE_URL=database_url(),
        REDIS_URL="redis://127.0.0.1:1/0",
        LOCAL_DIR=str(django_settings.LOCAL_DIR),
        WEB_WORKERS="1",
        WEB_THREADS="6",
        FEED_WAITS="3",
        DATABASE_POOL_SIZE="2",
        BCRYPT_COST="4",
        RATE_LIMITS="off",
        DRAIN_SECONDS="1",
    )
    try:
        server.until_it_answers()
        yield server
    finally:
        server.stop()


def test_those_who_wait_starve_nobody_and_are_let_go_when_the_process_stops(
    people: People, small: Served
) -> None:
    people.staff("service")
    token = f"Bearer {people.log_in('Service').token}"

    def ask(wait: int) -> tuple[Answer, float]:
        return took(lambda: small("GET", f"/events?after=2&wait={wait}", authorization=token))

    def is_full() -> bool:
        return "Retry-After" in ask(1)[0].headers

    def hold() -> Answer:
        """Until a place is free, which `is_full` may have."""
        while "Retry-After" in (answer := ask(LONG)[0]).headers:
            time.sleep(0.05)
        return answer

    with ThreadPoolExecutor(6) as pool:
        held = [pool.submit(hold) for _ in range(3)]
        eventually(is_full, every=0.3)  # half of the threads wait, with the whole pool free
        for _ in range(3):
            answer, seconds = ask(LONG)
            assert (answer.status, answer.json()["results"]) == (200, [])
            assert answer.headers["Retry-After"] == "1"
            assert seconds < BEFORE_ITS_END
            assert small("GET", "/users", authorization=token).status == 200
        assert not any(each.done() for each in held), small.log
        body = {"email": "cid@example.com", "name": "Cid", "password": "seven green umbrellas"}
        assert small("POST", "/users", body).status == 201
        for answer in (each.result(PATIENCE) for each in held):
            assert [event["sequence"] for event in answer.json()["results"]] == [3]

        held = [pool.submit(lambda: small("GET", f"/events?after=3&wait={LONG}", authorization=token))]
        time.sleep(0.5)
        assert not held[0].done()
        stopped = pool.submit(took, small.stop)
        answer = held[0].result(PATIENCE)
        _, seconds = stopped.result(PATIENCE)
    assert (answer.status, answer.headers["Retry-After"]) == (200, "1")
    assert seconds < BEFORE_ITS_END


# --- Schemas ------------------------------------------------------------------------------------------


def test_the_asyncapi_document_is_served_to_anyone(anyone: Api) -> None:
    committed = (PROJECT / "docs" / "asyncapi.yaml").read_bytes()
    for accept, media_type in [
        ("*/*", JSON),
        ("application/yaml", "application/yaml"),
        ("application/yaml;q=0.5, application/json", JSON),
        ("text/html", JSON),
    ]:
        answer = anyone("GET", "/schema/events", accept=accept)
        assert (answer.status_code, answer["Content-Type"]) == (200, media_type), accept
        assert answer["Cache-Control"] == "public, max-age=300"
        assert "Accept" in answer["Vary"]
        assert read_yaml(answer.content) == read_yaml(committed)
    assert anyone("GET", "/schema/events", accept="application/yaml").content == committed, (
        "run `make schema`"
    )


def test_each_schema_is_served_to_anyone_by_name_and_version(anyone: Api) -> None:
    for name, schema in SCHEMAS.items():
        committed = json.loads((FOLDER / f"{schema.versioned_name}.json").read_text())
        for address in (name, schema.versioned_name):
            answer = anyone("GET", f"/schema/events/{address}")
            assert (answer.status_code, answer["Content-Type"]) == (200, "application/schema+json")
            assert answer["Cache-Control"] == "public, max-age=300"
            assert answer.json() == committed
    for unknown in ("user.deleted", "user.created.v9", "..", "user.created.json", "%00"):
        problem(anyone("GET", f"/schema/events/{unknown}"), "not_found")
