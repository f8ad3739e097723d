"""Reading the feed from PostgreSQL, waiting for it, and what its events look like to their schemas."""

import json
import threading
import time
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import close_old_connections, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker

from tests.fixtures import PASSWORD, Api
from tests.integration.test_outages import Process
from tests.together import PATIENCE, eventually, in_background, together
from users.application import links
from users.application.event_schemas import ENVELOPE, EVENT_TYPES, SCHEMAS, SET_ASIDE
from users.infrastructure import envelopes, feed_watch
from users.infrastructure.feed_watch import PolledFeedWatch
from users.infrastructure.links import SignedLinks
from users.infrastructure.reads import DatabaseReads
from users.models import OutboxEvent, RelayPosition, UserRecord
from users_domain.value_objects import UserId

READS = DatabaseReads()


def watching() -> int:
    return sum(thread.name == feed_watch.THREAD for thread in threading.enumerate())


@pytest.fixture(autouse=True, scope="module")
def _no_thread_is_left(django_db_setup: None) -> Any:
    """It has a connection to the database that is to be dropped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_watch, "LINGER_SECONDS", 0.05)
        yield
    eventually(lambda: not watching())


def store(*types: str, first: int = 1) -> None:
    """Events of these types, numbered from `first` on, as the relay leaves them."""
    OutboxEvent.objects.bulk_create(
        OutboxEvent(
            event_id=UserId.new().value,
            event_type=event_type,
            user_id=UserId.new().value,
            user_version=1,
            occurred_at=timezone.now(),
            data={"user_id": "somebody"},
            sequence=sequence,
        )
        for sequence, event_type in enumerate(types, first)
    )
    reach = first + len(types) - 1
    RelayPosition.objects.update_or_create(id=1, defaults={"sequenced": reach, "published": reach})


def sequences(**asked: Any) -> list[int]:
    return [event["sequence"] for event in READS.feed(**{"after_sequence": 0, "limit": 10} | asked)]


# --- Reading --------------------------------------------------------------------------------------------

B, R, C = "user.blocked", "user.renamed", "user.created"


def test_types_pick_their_events_in_the_order_of_the_feed(database):
    store(C, R, B, R, C, B)

    assert sequences() == [1, 2, 3, 4, 5, 6]
    assert sequences(types=[B]) == [3, 6]
    assert sequences(types=[B, C]) == [1, 3, 5, 6]
    assert sequences(types=[B, C], limit=2) == [1, 3]
    assert sequences(types=[R, C], after_sequence=2, limit=2) == [4, 5]
    assert sequences(types=["user.unblocked"]) == []
    assert sequences(types=list(EVENT_TYPES)) == [1, 2, 3, 4, 5, 6]


def test_an_event_that_was_set_aside_is_of_the_type_it_had_and_of_the_tombstones(database):
    store(C, R, B, R)
    OutboxEvent.objects.filter(sequence=2).update(set_aside_at=timezone.now(), set_aside_because="odd")

    assert sequences(types=[R]) == [2, 4]
    assert sequences(types=[SET_ASIDE]) == [2]
    assert sequences(types=[SET_ASIDE, R]) == [2, 4]
    [tombstone] = READS.feed(1, 1, [R])
    assert tombstone["event_type"] == SET_ASIDE == envelopes.SET_ASIDE


def scans(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The leaves of a plan."""
    inner = node.get("Plans", [])
    return [leaf for each in inner for leaf in scans(each)] if inner else [node]


MANY = 50_000


@pytest.fixture
def full_outbox(database):
    """Most events of one type; another that was common is not seen any more, nor are the rare ones."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO outbox (event_id, event_type, user_id, user_version, occurred_at, data, sequence)
            SELECT gen_random_uuid(),
                CASE WHEN n < 50 THEN 'user.unblocked' WHEN n %% 1000 = 0 THEN 'user.blocked'
                    WHEN n %% 3 = 0 AND n < %s THEN 'user.created' ELSE 'user.renamed' END,
                gen_random_uuid(), 1, now(), '{}', n
            FROM generate_series(1, %s) AS n
            """,
            [MANY // 2, MANY],
        )
        cursor.execute("ANALYZE outbox")
        yield
        transaction.set_rollback(True)


def test_no_question_walks_through_the_events_however_many_there_are(full_outbox):
    for types in [(), (R,), (C,), ("user.unblocked",), (R, B), (C, B), EVENT_TYPES]:
        for after in (0, MANY // 2, MANY - 10):
            with CaptureQueriesContext(connection) as asked:
                READS.feed(after, 101, types)
            leaves = [leaf for query in asked.captured_queries for leaf in scans(plan_of(query["sql"]))]
            assert leaves
            assert "Seq Scan" not in {leaf["Node Type"] for leaf in leaves}, (types, after, leaves)
            touched = sum(
                leaf["Actual Rows"] * leaf["Actual Loops"] + leaf.get("Rows Removed by Filter", 0)
                for leaf in leaves
            )
            assert touched <= 101 * (len(types) + 2), (types, after, leaves)


def plan_of(sql: str) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        [(explained,)] = cursor.fetchall()
    [whole] = json.loads(explained) if isinstance(explained, str) else explained
    return whole["Plan"]


def test_what_is_pruned_is_asked_from_the_relay(database):
    assert READS.pruned() == 0
    store(R)
    assert READS.pruned() == 0
    RelayPosition.objects.update(pruned=7)
    assert READS.pruned() == 7


# --- Waiting --------------------------------------------------------------------------------------------


@contextmanager
def waiting(watch, seconds=PATIENCE):
    with watch.place(seconds) as place:
        assert place
        yield place


@pytest.fixture
def watch(database):
    return PolledFeedWatch(places=8, draining=lambda: False)


def took(act):
    began = time.monotonic()
    answer = act()
    return answer, time.monotonic() - began


def test_a_wait_ends_when_the_feed_grows(watch):
    store(R)
    with in_background(lambda stop: (stop.wait(0.3), store(R, first=2))), waiting(watch) as place:
        reached, seconds = took(lambda: place.beyond(1))

    assert reached == 2
    assert seconds < PATIENCE / 2


def test_what_came_before_the_wait_ends_it_at_once(watch, monkeypatch):
    store(R, R, R)
    ask_no_more = threading.Event()
    with waiting(watch) as place:
        assert place.beyond(1) == 3
        monkeypatch.setattr(watch, "_asked", lambda: ask_no_more.wait(PATIENCE) and 3)
        reached, seconds = took(lambda: place.beyond(2))  # known by now
        ask_no_more.set()

    assert reached == 3
    assert seconds < PATIENCE / 2


def test_a_wait_ends_with_its_time(watch):
    store(R)
    began = time.monotonic()
    with waiting(watch, 0.3) as place:
        reached = place.beyond(1)

    assert reached is None
    assert not place.cut_short
    assert 0.25 < time.monotonic() - began < PATIENCE / 2


def test_the_end_is_that_of_the_whole_wait_however_often_it_goes_on(watch):
    store(R, R, R)
    with waiting(watch, 0.3) as place:
        place.beyond(1)
        assert took(lambda: place.beyond(3))[1] < PATIENCE / 2


def test_all_who_wait_are_woken_by_one_thread(watch, monkeypatch):
    eventually(lambda: not watching())  # of the tests before
    store(R)
    asked = []
    ask = watch._asked
    monkeypatch.setattr(watch, "_asked", lambda: asked.append(time.monotonic()) or ask())

    def wait():
        with waiting(watch) as place:
            reached = place.beyond(1)
            return reached, watching()

    def grow():
        time.sleep(0.5)
        store(R, first=2)

    began = time.monotonic()
    *answers, _ = together([*[wait] * 8, grow])

    assert answers == [(2, 1)] * 8
    assert len(asked) <= (time.monotonic() - began) / feed_watch.POLL_SECONDS + 2


def test_when_nobody_waits_nothing_is_asked_and_the_thread_ends(watch):
    eventually(lambda: not watching())  # of the tests before
    store(R)
    with waiting(watch) as place:
        place.beyond(0)
        assert watching() == 1
    eventually(lambda: not watching())
    with waiting(watch) as place:  # and another begins when it is needed
        assert place.beyond(0) == 1


def test_places_are_limited_and_become_free(database):
    watch = PolledFeedWatch(places=1, draining=lambda: False)
    with watch.place(5) as first, watch.place(5) as second:
        assert first is not None
        assert second is None
    with watch.place(5) as third:
        assert third is not None


def test_a_process_that_drains_lets_nobody_wait(database):
    draining = threading.Event()
    watch = PolledFeedWatch(places=8, draining=draining.is_set)
    with in_background(lambda stop: (stop.wait(0.3), draining.set())), waiting(watch) as place:
        reached, seconds = took(lambda: place.beyond(5))

    assert reached is None
    assert place.cut_short
    assert seconds < PATIENCE / 2
    with watch.place(20) as later:
        assert later is None


def test_after_a_database_was_restored_waits_go_by_what_it_says_now(watch):
    store(R, R, R, R)
    with waiting(watch) as place:
        assert place.beyond(0) == 4
    RelayPosition.objects.update(sequenced=2)
    with waiting(watch, 0.3) as place:
        assert place.beyond(3) is None


def test_a_wait_holds_no_connection_that_others_could_use(watch, monkeypatch):
    """With a pool: Django's connection is closed, which gives it back."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.close()
    store(R)
    assert connection.connection is not None
    with waiting(watch, 0.2) as place:
        place.beyond(1)
        assert connection.connection is None
    close_old_connections()


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_without_postgresql_whoever_waits_is_told_so_soon(service, people, fragile_postgres, way):
    people.staff("service")
    process = Process()
    token = process.log_in("Service")
    held = threading.Event()

    def ask(_):
        held.set()
        return process("GET", "/events", token=token, QUERY_STRING="after=99&wait=30")

    answers = []
    with in_background(lambda stop: answers.append(took(lambda: ask(stop)))):
        held.wait(PATIENCE)
        eventually(lambda: answers or watching() == 1)
        time.sleep(0.3)
        assert not answers
        getattr(fragile_postgres, way)()
        eventually(lambda: answers)

    [(answer, seconds)] = answers
    assert (answer.status, answer.code) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert seconds < 25  # before the wait was over


# --- The contract ---------------------------------------------------------------------------------------


def valid(schema, value):
    return [
        error.message
        for error in Draft202012Validator(schema.content, format_checker=FormatChecker()).iter_errors(value)
    ]


def test_every_event_keeps_to_its_schema_and_tells_no_secret(people, anyone: Api, admin: Api, redis):
    ann, bob = people.user("Ann"), people.user("Bob")
    proof = SignedLinks().write(links.VERIFY_EMAIL, bob, links.digest("bob@example.com"))
    own = people.log_in("Ann")
    other = "quite another password"
    for speaker, method, path, body in [
        (own, "PATCH", "/users/me", {"name": "Anna"}),
        (own, "PUT", "/users/me/email", {"email": "anna@example.com", "password": PASSWORD}),
        (own, "PUT", "/users/me/password", {"current_password": PASSWORD, "new_password": other}),
        (admin, "PUT", f"/users/{ann}/roles", {"roles": ["service"]}),
        (admin, "POST", f"/users/{ann}/block", {"reason": "spam"}),
        (admin, "POST", f"/users/{ann}/unblock", {}),
        (people.log_in("Bob"), "POST", "/auth/logout-all", {}),
        (anyone, "POST", "/auth/email-verification/confirm", {"token": proof}),
        (admin, "DELETE", f"/users/{bob}", None),
    ]:
        assert speaker(method, path, body).status_code in {200, 204}, (method, path)
    OutboxEvent.objects.filter(user_id=ann, user_version=2).update(
        set_aside_at=timezone.now(), set_aside_because="it is odd"
    )
    store_of_nulls = OutboxEvent.objects.filter(user_version=1)
    assert store_of_nulls.filter(actor_id=None).exists()  # null where the schema says that it may be

    events = admin("GET", "/events").json()["results"]
    published = [json.loads(entry[b"event"]) for _, entry in redis.xrange("users.events")]

    assert {event["event_type"] for event in events + published} == set(EVENT_TYPES)
    secrets = [
        PASSWORD,
        other,
        *UserRecord.objects.exclude(password_hash="").values_list("password_hash", flat=True),
    ]
    for event in events + published:
        assert valid(ENVELOPE, event) == []
        assert set(event) == set(ENVELOPE.content["properties"])
        schema = SCHEMAS[event["event_type"]]
        assert valid(schema, event["data"]) == [], event
        assert set(event["data"]) == set(schema.content["properties"])
        assert not [secret for secret in secrets if secret in json.dumps(event)]
