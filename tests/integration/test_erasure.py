"""Erasing a user: afterwards nothing that is kept, in PostgreSQL, in Redis or in the log, says who he was;
and whatever went on meanwhile goes on rightly."""

import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session as PageSession
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from jsonschema import Draft202012Validator, FormatChecker
from redis import Redis as RedisClient
from uuid_utils.compat import uuid7

from tests.browser import Browser
from tests.builders import an_actor, an_admin
from tests.events import POISON, spoil
from tests.fixtures import PASSWORD, Api, People
from tests.together import PATIENCE, eventually, in_background, together
from users import wiring
from users.application.commands import ChangeEmail, RenameUser
from users.application.event_schemas import named
from users.application.privacy import Erased, EraseUser
from users.application.session import Refresh
from users.infrastructure import envelopes, erasure, event_bus, outbox
from users.infrastructure.event_bus import NO_PUTS, EventBus
from users.infrastructure.redis_link import RedisAway, RedisLink
from users.infrastructure.sessions import DatabaseSessions
from users.models import (
    EmailChange,
    Erasure,
    IdempotencyRecord,
    Mail,
    OutboxEvent,
    RefreshToken,
    RelayPosition,
    Session,
    UserRecord,
)
from users.wiring import Service
from users_domain.errors import UserNotFound
from users_domain.value_objects import COMMAND_LINE

STREAM = "users.events"
ADMIN = an_actor(an_admin())
NAME = "Annabel Quill"
EMAIL, FORMER, WANTED = "annabel.q@example.com", "aquill@example.org", "bella.quill@example.net"
TRACES = ["Annabel", "annabel.q", "aquill", "bella.quill"]


def erase(service: Service, user_id: str) -> Erased:
    return service.privacy.erase(EraseUser(user_id=user_id, by=COMMAND_LINE))


def let_time_pass(seconds: float = 61) -> None:
    for row in Erasure.objects.all():
        Erasure.objects.filter(pk=row.pk).update(erased_at=row.erased_at - timedelta(seconds=seconds))


# --- Nothing remains ------------------------------------------------------------------------------------


def database_rows() -> Iterator[tuple[str, str]]:
    """Every row of every table there is, as text."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" AS t')
            yield from ((table, row) for (row,) in cursor.fetchall())


def redis_values(redis: RedisClient) -> Iterator[tuple[str, str]]:
    """Every key, with its name and all that is in it, whatever its type."""
    readers = {
        "string": redis.get,
        "hash": redis.hgetall,
        "set": redis.smembers,
        "list": lambda key: redis.lrange(key, 0, -1),
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    for key in redis.scan_iter():
        value = readers[redis.type(key).decode()](key)
        yield key.decode(), f"{key!r} {value!r}"


def places_that_name_her(redis: RedisClient, *more: str) -> set[str]:
    kept = [*database_rows(), *redis_values(redis)]
    return {place for place, text in kept for trace in (*TRACES, *more) if trace.lower() in text.lower()}


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What the process logs, as it is written."""
    lines: list[str] = []
    (written,) = [each for each in logging.getLogger().handlers if each.get_name() == "stdout"]

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(written.format(record))

    handler = Keeping()
    logging.getLogger().addHandler(handler)
    yield lines
    logging.getLogger().removeHandler(handler)


class Life:
    """Everything that may happen to a user, through the doors that users and staff have."""

    def __init__(self, admin: Api, redis: RedisClient) -> None:
        self.admin = admin
        self.redis = redis
        self.anyone = Api()
        body = {"email": FORMER, "name": "Annabel", "password": PASSWORD}
        born = self.anyone("POST", "/users", body, idempotency_key="once", user_agent="Annabel's phone")
        self.id: str = born.json()["id"]
        self.password_hash = UserRecord.objects.get(id=self.id).password_hash

    def log_in(self, email: str, password: str = PASSWORD) -> Any:
        credentials = {"email": email, "password": password}
        return self.anyone("POST", "/auth/token", credentials, user_agent="Annabel's phone").json()

    def happen(self) -> None:
        api = Api(self.log_in(FORMER)["access"])
        self.log_in(FORMER, "not her password")
        self.must(api("PATCH", "/users/me", {"name": NAME}))
        self.must(self.admin("PUT", f"/users/{self.id}/email", {"email": EMAIL}))
        self.must(self.admin("POST", f"/users/{self.id}/block", {"reason": f"{EMAIL} asked for it"}))
        self.must(self.admin("POST", f"/users/{self.id}/unblock"))
        self.anyone("POST", "/auth/password-reset", {"email": EMAIL})
        self.must(self.admin("POST", "/webhooks", {"url": "http://127.0.0.1:1/hooks"}))
        self.be_staff_for_a_while()
        self.leave_what_only_workers_leave()
        tokens = self.log_in(EMAIL)
        self.must(self.anyone("POST", "/auth/token/refresh", {"refresh": tokens["refresh"]}))
        self.must(Api(tokens["access"])("GET", "/users/me"))  # into the cache

    def be_staff_for_a_while(self) -> None:
        self.must(self.admin("PUT", f"/users/{self.id}/roles", {"roles": ["operator"]}))
        browser = Browser()
        browser.send("/admin/login/?next=/admin/", username=EMAIL, password=PASSWORD)
        assert PageSession.objects.count() == 1

    def leave_what_only_workers_leave(self) -> None:
        now = timezone.now()
        EmailChange.objects.create(
            user_id=self.id, email=WANTED, fingerprint="f", created_at=now, expires_at=now
        )
        for columns in (
            {"kind": "password_changed", "user_id": self.id, "data": {"name": NAME}},
            {"kind": "reset_password", "email": EMAIL},
            {"kind": "confirm_email_change", "email": WANTED},
        ):
            Mail.objects.create(created_at=now, **columns)
        LogEntry.objects.create(
            user=UserRecord.objects.get(roles__contains=["admin"]),
            content_type=ContentType.objects.get_for_model(UserRecord),
            object_id=self.id,
            object_repr=f"{NAME} <{EMAIL}>",
            action_flag=CHANGE,
            change_message="Blocked.",
        )
        her = OutboxEvent.objects.filter(user_id=self.id)
        her.filter(event_type="user.unblocked").update(
            set_aside_at=now, set_aside_because="it cannot be read", data={"note": EMAIL}
        )

    def forget_the_first_events(self) -> None:
        """As retention does: gone from the table, and in the stream still."""
        last = OutboxEvent.objects.filter(user_id=self.id, user_version=2).get().sequence
        OutboxEvent.objects.filter(sequence__lte=last).delete()
        RelayPosition.objects.update(pruned=last)

    @staticmethod
    def must(answer: Any) -> None:
        assert answer.status_code < 300, answer.content


@pytest.fixture
def life(
    people: People, redis: RedisClient, settings: Any, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> Life:
    """With limits, which keep counts for addresses."""
    people.staff("admin")
    admin = people.log_in("Admin")
    settings.RATE_LIMITS = True
    monkeypatch.setattr(wiring, "_service", None)
    life = Life(admin, redis)
    life.happen()
    return life


def test_after_an_erasure_no_table_no_key_and_no_log_line_names_the_person(
    life: Life, redis: RedisClient, log_lines: list[str]
) -> None:
    """ASVS 14.2.2, 14.2.4, 16.2.5."""
    everywhere = {
        "users", "outbox", "idempotency", "sessions", "email_changes", "mails", "django_admin_log",
        STREAM, f"user:{{{life.id}}}",
    }  # fmt: skip
    assert places_that_name_her(redis, life.password_hash) == everywhere
    life.forget_the_first_events()

    answer = life.admin("DELETE", f"/users/{life.id}")
    assert answer.status_code == 200, answer.content
    assert places_that_name_her(redis, life.password_hash) == {STREAM}
    assert PageSession.objects.count() == 0
    assert not Session.objects.filter(user_id=life.id).exists()
    let_time_pass()
    wiring.service().sweep.finish()

    assert places_that_name_her(redis, life.password_hash) == set()
    assert RefreshToken.objects.count() == 1, "the admin's own"
    assert Erasure.objects.get().swept_at is not None
    named = [line for line in log_lines for trace in (*TRACES, life.password_hash) if trace in line.lower()]
    assert named == []
    assert len(log_lines) > 10


def test_what_is_read_in_redis_at_once_waits_for_no_worker(life: Life, redis: RedisClient) -> None:
    """ASVS 14.2.2."""
    assert len(list(redis.scan_iter("limit:login_known:*"))) == 2, "one for each address, if by a digest"

    life.admin("DELETE", f"/users/{life.id}")

    assert places_that_name_her(redis) == set()
    assert list(redis.scan_iter("limit:login_known:*")) == []
    types = [json.loads(fields[b"event"])["event_type"] for _, fields in redis.xrange(STREAM)]
    assert types[-1] == "user.erased"
    assert "user.roles_changed" in types, "what names nobody stays"


def test_the_address_is_free_again_at_once_and_whoever_takes_it_is_another(
    people: People, admin: Api, anyone: Api
) -> None:
    ann = people.user("Ann")
    people.log_in("Ann")("DELETE", "/users/me")

    again = people.user("Ann")

    assert again != ann
    assert people.log_in("Ann")("GET", "/users/me").json()["id"] == again
    assert admin("GET", "/users?email=ann@example.com").json()["results"][0]["id"] == again


def test_every_token_is_refused_at_the_very_next_request(people: People, redis: RedisClient) -> None:
    """ASVS 7.4.2."""
    people.user("Ann")
    one, other = people.log_in("Ann"), people.log_in("Ann")
    assert other("GET", "/users/me").status_code == 200

    assert one("DELETE", "/users/me").status_code == 200

    assert [api("GET", "/users/me").status_code for api in (one, other)] == [401, 401]
    redis.flushall()
    assert [api("GET", "/users/me").status_code for api in (one, other)] == [401, 401]


def test_what_others_have_asked_for_at_his_addresses_stays_theirs(people: People, service: Service) -> None:
    """One of them is another's by now, one is his, one was his and is nobody's."""
    ann, bob = people.user("Ann"), people.user("Bob")
    for name in ("two", "three"):
        command = ChangeEmail(user_id=ann, email=f"{name}@example.com", by=ADMIN)
        service.commands.change_email(command)
    service.commands.change_email(ChangeEmail(user_id=bob, email="ann@example.com", by=ADMIN))
    now = timezone.now()
    for name in ("ann", "two", "three"):
        Mail.objects.create(kind="reset_password", email=f"{name}@example.com", created_at=now)
    EmailChange.objects.create(
        user_id=bob, email="two@example.com", fingerprint="f", created_at=now, expires_at=now
    )

    erase(service, ann)

    assert [mail.email for mail in Mail.objects.filter(kind="reset_password")] == ["ann@example.com"]
    assert str(EmailChange.objects.get().user_id) == bob


def test_answers_kept_for_his_own_idempotency_keys_go_too_and_others_stay(
    people: People, admin: Api, anyone: Api
) -> None:
    ann = people.user("Ann")
    admin("PUT", f"/users/{ann}/roles", {"roles": ["service"]})
    service = people.log_in("Ann")
    for number, caller in enumerate((service, anyone)):
        body = {"email": f"new{number}@example.com", "name": "New", "password": PASSWORD}
        assert caller("POST", "/users", body, idempotency_key="k").status_code == 201

    admin("DELETE", f"/users/{ann}")

    assert [record.scope for record in IdempotencyRecord.objects.all()] == ["anonymous"]


# --- Emptied events -------------------------------------------------------------------------------------


def test_emptied_events_keep_place_type_and_schema(life: Life) -> None:
    """Whoever reads the history or the feed needs no other code for them."""
    keep = ("event_id", "event_type", "user_version", "sequence", "timestamp", "actor_id")
    before = life.admin("GET", f"/users/{life.id}/events").json()["results"]

    life.admin("DELETE", f"/users/{life.id}")

    after = life.admin("GET", f"/users/{life.id}/events").json()["results"]
    assert [[each[name] for name in keep] for each in after[:-1]] == [
        [each[name] for name in keep] for each in before
    ]
    assert [each["data"].keys() for each in after[:-1]] == [each["data"].keys() for each in before]
    feed = life.admin("GET", "/events?limit=100").json()["results"]
    assert [each for each in feed if each["user_id"] == life.id] == after
    for each in after:
        schema = named(each["event_type"])
        assert schema
        Draft202012Validator(schema.content, format_checker=FormatChecker()).validate(each["data"])


@pytest.mark.parametrize("kind", POISON)
def test_what_cannot_be_told_hinders_no_erasure_and_stays_a_tombstone(
    people: People, service: Service, admin: Api, kind: str
) -> None:
    ann = people.user("Ann")
    service.commands.rename(RenameUser(user_id=ann, name="Ann Lee", by=COMMAND_LINE))
    event = OutboxEvent.objects.get(user_id=ann, user_version=2)
    spoil(event, *POISON[kind])

    erase(service, ann)

    assert admin("GET", f"/users/{ann}/events").status_code == 200
    kept = [row for table, row in database_rows() if table == "outbox" and ann in row]
    assert len(kept) == 3
    assert not any("xxxx" in row or "Ann" in row for row in kept)


def test_what_was_set_aside_is_never_told_again_as_if_nothing_had_been_in_it(
    people: People, service: Service
) -> None:
    ann = people.user("Ann")
    event = OutboxEvent.objects.filter(user_id=ann)
    event.update(set_aside_at=timezone.now(), set_aside_because="it is larger than 512 KiB")

    erase(service, ann)

    assert [tried.because for tried in envelopes.try_again(dry_run=False)] == ["it cannot be read"]
    assert event.filter(user_version=1).get().data is None


def test_a_long_history_is_emptied_a_part_at_a_time_before_the_answer(
    people: People, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = people.user("Ann")
    for number in range(9):
        service.commands.rename(RenameUser(user_id=ann, name=f"Annabel {number}", by=COMMAND_LINE))
    monkeypatch.setattr(erasure, "EVENTS_AT_ONCE", 4)

    erased = erase(service, ann)

    assert erased.removed["outbox"] == 4 - 1, "in the transaction; the last version is user.erased's"
    assert not any("Ann" in row for table, row in database_rows() if table == "outbox")


def test_the_number_of_statements_does_not_grow_with_what_there_is(
    people: People, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("users.infrastructure.relay.Relay.drain", lambda *_, **__: 0)
    costs = []
    for name, much in (("Ann", 1), ("Bob", 30)):
        user_id = people.user(name)
        for number in range(much):
            service.commands.rename(RenameUser(user_id=user_id, name=f"Name {number}", by=COMMAND_LINE))
            people.log_in(name)
            Mail.objects.create(kind="verify_email", user_id=user_id, created_at=timezone.now())
        with CaptureQueriesContext(
            connection,
        ) as cost:
            erase(service, user_id)
        costs.append(len(cost))

    assert costs[0] == costs[1] < 40


# --- The stream and the relay ---------------------------------------------------------------------------


def test_the_relay_goes_on_behind_deleted_entries(
    people: People, service: Service, redis: RedisClient, log_lines: list[str]
) -> None:
    ann = people.user("Ann")
    erase(service, ann)
    redis.xtrim(STREAM, maxlen=0, approximate=False)  # as if all had been his

    service.relay.check_stream()
    people.user("Bob")
    service.relay.check_stream()

    assert [entry_id for entry_id, _ in redis.xrange(STREAM)] == [b"3-0"]
    assert outbox.position() == (3, 3)
    assert not any("stream_rewound" in line or "stream_ahead" in line for line in log_lines)


def test_a_redis_that_was_emptied_gets_the_emptied_events(
    people: People, service: Service, redis: RedisClient
) -> None:
    erase(service, people.user("Ann"))
    redis.flushall()

    service.relay.check_stream()

    entries = [json.loads(fields[b"event"]) for _, fields in redis.xrange(STREAM)]
    assert [each["event_type"] for each in entries] == ["user.created", "user.erased"]
    assert entries[0]["data"]["email"] == ""


def test_what_a_relay_had_read_before_and_publishes_later_is_swept_a_minute_later(
    people: People, service: Service, redis: RedisClient
) -> None:
    """It had the event in its hands when the user was erased, and the first sweep had gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("users.infrastructure.relay.Relay.drain", lambda *_, **__: 0)
        ann = people.user("Ann")
        outbox.give_sequences(10)
        old = outbox.batch(0, 10)
        erase(service, ann)
    bus = EventBus(RedisLink("events"), stream=STREAM, maxlen=1000)
    bus.publish(old, floor=0)
    assert b"ann@example.com" in redis.xrange(STREAM)[0][1][b"event"]

    service.sweep.finish()
    assert len(redis.xrange(STREAM)) == 1, "too early to be sure of anything"
    let_time_pass()
    service.sweep.finish()
    assert Erasure.objects.get().swept_at is None, "not while an event of his is yet to come"
    service.relay.drain(seconds=PATIENCE)
    service.sweep.finish()

    assert [entry_id for entry_id, _ in redis.xrange(STREAM)] == [b"2-0"]
    assert Erasure.objects.get().swept_at is not None
    bus.publish(old, floor=0)
    assert len(redis.xrange(STREAM)) == 1, "nobody can add it again"


def test_what_the_table_has_forgotten_is_looked_for_in_the_whole_of_the_stream_before_it(
    people: People, service: Service, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = people.user("Ann")
    people.user("Bob")
    for number in range(5):
        service.commands.rename(RenameUser(user_id=ann, name=f"Annabel {number}", by=COMMAND_LINE))
    OutboxEvent.objects.filter(sequence__lte=6).delete()
    RelayPosition.objects.update(pruned=6)
    erase(service, ann)
    assert len(redis.xrange(STREAM)) == 7, "all but the one that the table knew"
    let_time_pass()
    monkeypatch.setattr(event_bus, "PAGE", 2)

    service.sweep.finish()

    assert [entry_id for entry_id, _ in redis.xrange(STREAM)] == [b"2-0", b"8-0"]


def test_without_redis_a_user_is_erased_and_the_worker_sweeps_when_it_is_back(
    people: People, fragile_redis: Any, service: Service
) -> None:
    ann = people.user("Ann")
    service.queries.get(ann)
    fragile_redis.pause()
    try:
        assert erase(service, ann).version == 2
        let_time_pass()
        with pytest.raises(RedisAway):
            service.sweep.finish()
        assert Erasure.objects.get().swept_at is None
    finally:
        fragile_redis.resume()

    def is_swept() -> bool:
        try:
            service.relay.drain(seconds=1)
            service.sweep.finish()
        except RedisAway:
            return False
        return Erasure.objects.get().swept_at is not None

    eventually(is_swept)
    client = RedisClient.from_url(fragile_redis.url)
    assert not any("ann" in text for _, text in redis_values(client))


def test_what_came_while_he_was_being_erased_goes_with_the_second_sweep(
    people: People, service: Service, redis: RedisClient
) -> None:
    """A login whose password was right a moment before; a reader who fills the cache late; a mail."""
    ann = people.user("Ann")
    erase(service, ann)
    now = timezone.now()
    Session.objects.create(
        id=uuid7(), user_id=ann, token_version=1, user_agent="Ann's phone", address="", created_at=now,
        last_used_at=now, expires_at=now,
    )  # fmt: skip
    Mail.objects.create(kind="verify_email", user_id=ann, data={"name": "Ann"}, created_at=now)
    redis.set(f"user:{{{ann}}}", "an old entry of Ann's")
    let_time_pass()

    service.sweep.finish()

    assert Session.objects.count() == Mail.objects.count() == 0
    assert not redis.exists(f"user:{{{ann}}}")


def test_the_entry_in_the_cache_goes_also_when_the_new_one_cannot_be_put(
    people: People, service: Service, redis: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = people.user("Ann")
    service.queries.get(ann)
    assert redis.exists(f"user:{{{ann}}}")
    bob = people.user("Bob")
    lease, old = service.cache.get(bob).lease, wiring.DatabaseReads().view(bob)
    assert lease
    assert old
    monkeypatch.setattr("users.infrastructure.cache.RedisUserCache.puts", lambda *_: NO_PUTS)

    erase(service, ann)
    erase(service, bob)
    service.cache.fill(lease, old)

    assert not redis.exists(f"user:{{{ann}}}", f"user:{{{bob}}}")


def test_a_reader_who_began_before_fills_nothing_afterwards(people: People, service: Service) -> None:
    ann = people.user("Ann")
    lease = service.cache.get(ann).lease
    old = wiring.DatabaseReads().view(ann)
    assert lease
    assert old

    erase(service, ann)
    service.cache.fill(lease, old)

    assert b'"erased"' in service.queries.get(ann).json


# --- At the same time -----------------------------------------------------------------------------------


def test_erasing_while_others_change_the_user_and_relays_number_his_events(
    people: People, service: Service
) -> None:
    """Whoever loses is told so; nothing waits for ever, and nothing of the person is left."""
    for round_ in range(5):
        name = f"Ann{round_}"
        ann = people.user(name)
        service.unattended.rename(RenameUser(user_id=ann, name=f"{name} Lee", by=COMMAND_LINE))

        def rename(number: int, ann: str = ann) -> Any:
            command = RenameUser(user_id=ann, name=f"Annabel {number}", by=COMMAND_LINE)
            return service.unattended.rename(command)

        def drain(stop: threading.Event) -> None:
            while not stop.is_set():
                service.relay.drain(seconds=1)

        with in_background(drain):
            *renamed, erased = together(
                [*(lambda n=n: rename(n) for n in range(3)), lambda ann=ann: erase(service, ann)]
            )
        assert isinstance(erased, Erased), erased
        assert not [each for each in renamed if isinstance(each, Exception)] or all(
            isinstance(each, UserNotFound) for each in renamed if isinstance(each, Exception)
        )
        kept = [row for table, row in database_rows() if table == "outbox" and ann in row]
        assert not any("Ann" in row for row in kept)


def test_a_refresh_that_is_under_way_leaves_nothing_behind_and_hinders_nothing(
    people: People, service: Service
) -> None:
    """Its new token hangs on a session that is about to go."""
    ann = people.user("Ann")
    people.log_in("Ann")
    session, token = Session.objects.get(), RefreshToken.objects.get()
    consumed, goes_on = threading.Event(), threading.Event()

    def refresh() -> bool:
        with transaction.atomic():
            now = timezone.now()
            successor = Refresh(
                jti=uuid7(), session_id=session.id, user_id=ann, issued_at=now, expires_at=session.expires_at
            )
            done = DatabaseSessions(timedelta(days=14)).consume(token.jti, successor, now)
            consumed.set()
            goes_on.wait(PATIENCE)
        return done

    def erase_meanwhile() -> Erased:
        consumed.wait(PATIENCE)
        threading.Timer(0.2, goes_on.set).start()
        return erase(service, ann)

    refreshed, erased = together([refresh, erase_meanwhile])

    assert refreshed is True
    assert isinstance(erased, Erased), erased
    assert RefreshToken.objects.count() == Session.objects.count() == 0


def test_of_two_admins_who_erase_each_other_one_stays(people: People, service: Service) -> None:
    first, second = people.staff("admin", "First"), people.staff("admin", "Second")

    outcomes = together([lambda: erase(service, first), lambda: erase(service, second)])

    assert sorted(type(each).__name__ for each in outcomes) == ["Erased", "LastAdmin"]
    assert UserRecord.objects.filter(status="active").count() == 1


def test_whoever_a_backup_brings_back_is_erased_anew(people: People, service: Service) -> None:
    ann = people.user("Ann")
    erase(service, ann)
    let_time_pass()
    service.sweep.finish()
    UserRecord.objects.filter(id=ann).update(
        status="active", email="ann@example.com", name="Ann", locale="en", version=1, password_hash="x"
    )
    OutboxEvent.objects.filter(user_id=ann, user_version=2).delete()

    erase(service, ann)

    assert Erasure.objects.get().swept_at is None
    with pytest.raises(UserNotFound):
        erase(service, ann)
