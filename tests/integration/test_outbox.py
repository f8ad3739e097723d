"""The outbox table: what is written of an event, and its public order, which is given after commit."""

import threading
from collections import defaultdict
from dataclasses import fields
from datetime import timedelta

import pytest
import structlog
from django.db import connection, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.builders import NOW, a_newborn, an_actor, an_admin
from tests.events import rows
from tests.integration.test_unit_of_work import other_session
from tests.together import PATIENCE, eventually, in_background, together
from users.application.commands import BlockUser, RegisterUser
from users.infrastructure import outbox
from users.infrastructure.unit_of_work import DjangoUnitOfWork
from users.models import OutboxEvent, RelayPosition
from users_domain.events import USER_EVENTS, UserCreated, UserEvent
from users_domain.value_objects import SYSTEM, UserId, UserName

ADMIN = an_actor(an_admin())


@pytest.fixture
def unit_of_work(database):
    """Without a relay behind it: what is numbered, the test numbers."""
    return DjangoUnitOfWork(lambda views: None)


@pytest.fixture
def born(unit_of_work):
    def born():
        user = a_newborn()
        with unit_of_work() as users:
            users.add(user)
        return user

    return born


def sequences():
    """By id, the order of insertion."""
    return list(OutboxEvent.objects.order_by("id").values_list("sequence", flat=True))


# --- What is written ---------------------------------------------------------------------------------


def test_a_row_keeps_the_schema_version_of_its_event(born, monkeypatch):
    born()
    monkeypatch.setattr(UserCreated, "schema_version", 2)
    born()

    written = OutboxEvent.objects.order_by("id").values_list("schema_version", flat=True)
    assert list(written) == [1, 2]
    assert outbox.give_sequences(10) == 2
    assert [len(envelope) for envelope in outbox.batch(0, 10)] == [9, 9]


def test_an_envelope_says_what_happened_to_whom_by_whom_and_in_which_request(service, people):
    user_id = people.user("Ann")
    with structlog.contextvars.bound_contextvars(request_id="r-17"):
        service.commands.block(BlockUser(user_id=user_id, reason="spam", by=ADMIN))

    created, blocked = outbox.batch(0, 10)

    assert list(created) == [
        "event_type",
        "event_id",
        "timestamp",
        "data",
        "user_id",
        "user_version",
        "sequence",
        "request_id",
        "actor_id",
    ]
    assert created["data"] == {
        "user_id": user_id,
        "email": "ann@example.com",
        "name": "Ann",
        "created_at": created["timestamp"],
    }
    assert blocked["data"] == {"user_id": user_id, "reason": "spam", "blocked_at": blocked["timestamp"]}
    assert (created["request_id"], created["actor_id"]) == (None, None)
    assert (blocked["request_id"], blocked["actor_id"]) == ("r-17", ADMIN.id)
    assert (blocked["event_type"], blocked["user_id"]) == ("user.blocked", user_id)
    assert [each["user_version"] for each in (created, blocked)] == [1, 2]
    assert [each["sequence"] for each in (created, blocked)] == [1, 2]


def test_every_event_of_the_model_can_be_written_and_read(database):
    values = {"email": "a@b.example", "name": "Zoë 🙂", "reason": 'line\n"two"', "roles": ["admin"]}
    user_id = UserId.new()

    def own(kind):
        return {field.name for field in fields(kind)} - {field.name for field in fields(UserEvent)}

    told = [
        kind(
            event_id=uuid7(),
            user_id=user_id,
            user_version=version,
            occurred_at=NOW,
            actor_id="cli",
            **{name: values.get(name, NOW) for name in own(kind)},
        )
        for version, kind in enumerate(USER_EVENTS, 1)
    ]
    assert outbox.write_with("SELECT %s", [1], told)
    outbox.give_sequences(100)

    written = outbox.batch(0, 100)

    assert [each["event_type"] for each in written] == [kind.event_type for kind in USER_EVENTS]
    for kind, each in zip(USER_EVENTS, written, strict=True):
        assert set(each["data"]) == own(kind) | {"user_id"}
        assert each["timestamp"] == "2026-07-01T12:00:00.000000Z"
        assert each["data"].pop("user_id") == str(user_id)
        for name, value in each["data"].items():
            assert value == values.get(name, "2026-07-01T12:00:00.000000Z")


def test_a_user_has_one_event_for_each_version(born):
    user = born()
    with pytest.raises(Exception, match="outbox_user_version_unique"):
        rows(1, user_id=user.id.value)


# --- Numbering ---------------------------------------------------------------------------------------


def test_numbers_are_given_in_order_without_gaps_in_portions(database):
    rows(7)

    assert [outbox.give_sequences(3) for _ in range(4)] == [3, 3, 1, 0]
    assert sequences() == [1, 2, 3, 4, 5, 6, 7]
    assert outbox.position() == (7, 0)


def test_a_rolled_back_command_takes_no_number_though_it_took_an_id(unit_of_work, born):
    born()

    def fail():
        with unit_of_work() as users:
            users.add(a_newborn())
            raise ZeroDivisionError

    outbox_id = OutboxEvent.objects.get().id
    with pytest.raises(ZeroDivisionError):
        fail()
    with transaction.atomic():
        rows(1)
        transaction.set_rollback(True)
    born()
    outbox.give_sequences(10)

    assert OutboxEvent.objects.latest("id").id > outbox_id + 1
    assert sequences() == [1, 2]


def test_an_event_that_becomes_visible_late_is_not_lost_though_a_naive_reader_loses_it(unit_of_work):
    """The bug of polling relays: ids are given before commit, and commits come in any order."""
    inserted, may_commit = threading.Event(), threading.Event()
    late, early = a_newborn(), a_newborn()

    def slow_command(stop):
        with transaction.atomic():
            with unit_of_work() as users:
                users.add(late)
            inserted.set()
            may_commit.wait(PATIENCE)

    naive, last_id = [], 0

    def naive_poll():
        nonlocal last_id
        for row in OutboxEvent.objects.filter(id__gt=last_id).order_by("id"):
            naive.append(row.user_id)
            last_id = row.id

    numbered = []

    def our_poll():
        outbox.give_sequences(10)
        numbered.extend(each["user_id"] for each in outbox.batch(len(numbered), 10))

    with in_background(slow_command):
        assert inserted.wait(PATIENCE)
        with unit_of_work() as users:
            users.add(early)
        naive_poll()
        our_poll()
        may_commit.set()
    naive_poll()
    our_poll()

    assert naive == [early.id.value]  # `late` has the smaller id, and is never looked at again
    assert OutboxEvent.objects.earliest("id").user_id == late.id.value
    assert numbered == [str(early.id), str(late.id)]


def test_under_concurrent_commits_nothing_is_lost_and_each_users_order_is_that_of_his_commits(unit_of_work):
    """While several number, what is read by sequence is gapless as it grows, and each user's versions are in
    the order of their commits."""
    writers, changes = 6, 50
    done, seen = threading.Event(), []

    def write():
        own = a_newborn()
        with unit_of_work() as users:
            users.add(own)
        for change in range(changes):
            with unit_of_work() as users:
                user = users.get(own.id)
                user.rename(UserName(f"Name {change}"), by=SYSTEM, now=NOW)
                users.save(user)

    def write_all():
        try:
            return together([write] * writers)
        finally:
            done.set()

    def number():
        while not done.is_set():
            outbox.give_sequences(7)

    def follow(stop):
        while not stop.is_set():
            seen.extend(outbox.batch(len(seen), 100))

    with in_background(follow):
        outcomes = together([write_all, number, number, number])
        while outbox.give_sequences(100):
            pass
        eventually(lambda: len(seen) >= OutboxEvent.objects.count())

    assert outcomes == [[None] * writers, None, None, None]
    assert len(seen) == writers * (changes + 1)
    assert [each["sequence"] for each in seen] == list(range(1, len(seen) + 1))
    versions = defaultdict(list)
    for each in seen:
        versions[each["user_id"]].append(each["user_version"])
    assert list(versions.values()) == [list(range(1, changes + 2))] * writers


def test_a_missing_counter_is_made_at_once_and_behind_the_numbers_in_use(database):
    rows(3)
    assert outbox.give_sequences(10) == 3
    RelayPosition.objects.all().delete()
    rows(2)

    assert outbox.give_sequences(10) == 2
    assert sequences() == [1, 2, 3, 4, 5]


def test_two_who_miss_the_counter_at_once_make_one(database):
    rows(20)

    given = together([lambda: outbox.give_sequences(100)] * 4)

    assert sum(given) == 20
    assert sequences() == list(range(1, 21))
    assert RelayPosition.objects.count() == 1


@pytest.mark.parametrize("numbered_already", [False, True])
def test_the_counters_lock_is_never_waited_for(database, numbered_already):
    """A worker that hangs in the middle of numbering holds up no command's hook."""
    rows(3)
    outbox.give_sequences(1)
    holding, let_go = threading.Event(), threading.Event()

    def hang(stop):
        with transaction.atomic():
            if numbered_already:
                outbox.give_sequences(1)
            else:
                list(RelayPosition.objects.select_for_update().all())
            holding.set()
            let_go.wait(PATIENCE)

    with in_background(hang):
        assert holding.wait(PATIENCE)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 1")
            try:
                assert outbox.give_sequences(10) == 0
            finally:
                cursor.execute("RESET lock_timeout")
                let_go.set()
    outbox.give_sequences(10)
    assert sequences() == [1, 2, 3]


@pytest.mark.parametrize("numbering", ["NUMBER", "NUMBER_AND_READ"])
def test_who_sees_the_table_as_it_was_before_another_numbered_numbers_nothing_twice(database, numbering):
    """What a statement sees is older than the lock that it gets: here the counter's lock comes after another
    has numbered all, and has let go."""
    late = getattr(outbox, numbering).replace(
        "WHERE id = 1 AND", "WHERE id = 1 AND (SELECT true FROM pg_advisory_xact_lock(17)) AND", 1
    )
    rows(3)
    outbox.give_sequences(1)
    with other_session() as gate:
        gate.execute("SELECT pg_advisory_lock(17)")
        with in_background(lambda stop: outbox._numbered(late, 10)):
            eventually(lambda: gate.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
            assert outbox.give_sequences(10) == 2
            outbox.mark_published(3)
            rows(1)
            gate.execute("SELECT pg_advisory_unlock(17)")

    assert sequences() == [1, 2, 3, 4]
    assert outbox.position() == (4, 3)


# --- The backlog -------------------------------------------------------------------------------------


def test_the_backlog_counts_what_is_not_known_to_be_in_the_stream_and_its_age(database):
    assert outbox.backlog() == outbox.Backlog(0, 0)
    rows(2, occurred_at=timezone.now() - timedelta(minutes=10))
    rows(3)
    assert outbox.backlog().pending == 5
    assert 600 <= outbox.backlog().lag_seconds < 660

    outbox.give_sequences(10)
    assert outbox.backlog().pending == 5
    outbox.mark_published(2)
    assert outbox.backlog().pending == 3
    assert outbox.backlog().lag_seconds < 60
    outbox.mark_published(5)
    assert outbox.backlog() == outbox.Backlog(0, 0)


def test_what_is_published_never_moves_backward(database):
    rows(3)
    outbox.give_sequences(10)
    outbox.mark_published(3)
    outbox.mark_published(2)

    assert outbox.position() == (3, 3)


def test_what_is_told_of_publishing_is_not_waited_for_but_all_else_that_commits_is(database):
    def setting():
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            return cursor.fetchone()[0]

    rows(3)
    outbox.give_sequences(10)
    before = setting()
    with transaction.atomic():
        outbox.mark_published(3)
        assert (before, setting()) == ("on", "off")
    assert setting() == "on"


def test_nothing_of_a_secret_is_written(service):
    service.commands.register(RegisterUser(email="ann@example.com", name="Ann", password="correct horse 17"))

    with connection.cursor() as cursor:
        cursor.execute("SELECT outbox::text FROM outbox")
        [[row]] = cursor.fetchall()
    assert "correct horse" not in row
    assert "bcrypt" not in row
