"""Poison: a row of the outbox that cannot be told stops nobody. It is set aside, and a tombstone of the same
sequence stands in its place, in the stream as in every read, until it is mended and released."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
import structlog
from django.utils import timezone

from tests.events import HUGE, POISON, mend, rows, spoil
from tests.integration.test_admin import Browser
from tests.integration.test_management_commands import run  # noqa: F401
from tests.integration.test_relay import Lab, metric, published_to, stream
from tests.together import PATIENCE, together
from users.infrastructure import envelopes, outbox
from users.infrastructure.redis_link import RedisAway
from users.models import OutboxEvent, RelayPosition

STREAM = "users.events"


@pytest.fixture
def lab(database):
    return Lab()


def aside():
    """Reasons, by id."""
    found = OutboxEvent.objects.filter(set_aside_at__isnull=False)
    return dict(found.values_list("id", "set_aside_because"))


def is_tombstone_of(envelope, event):
    """Checks all nine fields."""
    at, because = OutboxEvent.objects.values_list("set_aside_at", "set_aside_because").get(id=event.pk)
    return envelope == {
        "event_type": "user.set_aside",
        "event_id": str(event.event_id),
        "timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}",
        "data": {"user_id": str(event.user_id), "event_type": event.event_type, "because": because},
        "user_id": str(event.user_id),
        "user_version": event.user_version,
        "sequence": envelope["sequence"],
        "request_id": event.request_id,
        "actor_id": event.actor_id,
    }


@pytest.mark.parametrize("poison", POISON)
def test_the_stream_goes_on_and_has_a_tombstone_in_its_place(lab, redis, poison):
    events = rows(5, request_id="r-1", actor_id="cli")
    spoil(events[2], *POISON[poison])
    began = timezone.now()

    assert lab.relay.drain(seconds=PATIENCE) == 5

    told = stream(redis)
    assert [each["sequence"] for each in told] == [1, 2, 3, 4, 5]
    assert [each["event_type"] for each in told] == [
        *["user.renamed"] * 2,
        "user.set_aside",
        *["user.renamed"] * 2,
    ]
    assert is_tombstone_of(told[2], events[2])
    assert set(aside()) == {events[2].pk}
    assert began <= datetime.fromisoformat(told[2]["timestamp"]) <= timezone.now()
    assert outbox.backlog() == outbox.Backlog(0, 0)
    assert outbox.batch(0, 10) == told


@pytest.mark.parametrize("poison", POISON)
def test_feed_and_history_show_the_tombstone_before_and_after_it_is_published(admin, poison):
    """Whoever meets the row first sets it aside."""
    [event] = rows(1)
    spoil(event, *POISON[poison])

    history = admin("GET", f"/users/{event.user_id}/events").json()["results"]
    outbox.give_sequences(100)
    feed = admin("GET", "/events?limit=100").json()["results"]

    assert [each["event_type"] for each in history] == ["user.set_aside"]
    assert history[0]["sequence"] is None
    assert is_tombstone_of(history[0], event)
    assert is_tombstone_of(feed[-1], event)
    assert admin("GET", "/events?limit=100").json()["results"] == feed


def test_a_user_s_page_and_the_events_page_show_it(people):
    people.staff("admin")
    browser = Browser()
    browser.log_in("Admin")
    ann = people.user("Ann")
    event = OutboxEvent.objects.get(user_id=ann)
    spoil(event, "occurred_at", "infinity")

    before = browser.get("/admin/users/outboxevent/")
    page = browser.get(f"/admin/users/userrecord/{ann}/change/")
    listed = browser.get("/admin/users/outboxevent/", set_aside="yes")
    others = browser.get("/admin/users/outboxevent/", set_aside="no")
    alone = browser.get(f"/admin/users/outboxevent/{event.pk}/change/")

    assert [answer.status_code for answer in (before, page, listed, others, alone)] == [200] * 5
    assert "user.set_aside" in page.content.decode()
    assert [each.pk for each in listed.context["cl"].result_list] == [event.pk]
    assert event.pk not in [each.pk for each in others.context["cl"].result_list]
    assert "it cannot be read" in alone.content.decode()
    assert "ann@example.com" in alone.content.decode()


def test_all_of_a_batch_may_be_poison(lab, redis):
    events = rows(len(POISON))
    for event, poison in zip(events, POISON.values(), strict=True):
        spoil(event, *poison)

    assert lab.relay.drain(seconds=PATIENCE) == len(POISON)

    assert {each["event_type"] for each in stream(redis)} == {"user.set_aside"}
    assert published_to(redis) == list(range(1, len(POISON) + 1))
    assert set(aside().values()) == {envelopes.UNREADABLE, envelopes.UNENCODABLE, envelopes.TOO_LARGE}


def test_what_is_just_small_enough_is_told(lab, redis):
    small, large = rows(2, data={"text": ""})
    outbox.give_sequences(2)
    room = envelopes.MAX_BYTES - len(orjson.dumps(outbox.batch(0, 1)[0]))
    mend(small, data={"text": "x" * room})
    mend(large, data={"text": "x" * (room + 1)})

    lab.relay.drain(seconds=PATIENCE)

    assert [each["event_type"] for each in stream(redis)] == ["user.renamed", "user.set_aside"]
    assert aside() == {large.pk: envelopes.TOO_LARGE}


def test_several_who_meet_it_at_once_tell_the_same(database):
    events = rows(20)
    for event in events[::4]:
        spoil(event, "occurred_at", "infinity")
    outbox.give_sequences(100)

    read = together([lambda: outbox.batch(0, 100)] * 6)

    assert all(each == read[0] for each in read)
    assert [each["event_type"] == "user.set_aside" for each in read[0]] == [True, False, False, False] * 5


def test_it_is_logged_once_and_counted(lab):
    [event] = rows(1)
    spoil(event, "occurred_at", "infinity")
    with structlog.testing.capture_logs() as logs:
        lab.relay.drain(seconds=PATIENCE)
        outbox.batch(0, 10)

    [line] = [each for each in logs if each["event"] == "event_set_aside"]
    assert line["log_level"] == "error"
    assert (line["event_id"], line["sequence"], line["because"]) == (
        str(event.event_id),
        "1",
        "it cannot be read",
    )
    assert metric("user_events_set_aside") == 1


def test_a_rewound_stream_gets_the_tombstone_again(lab, redis):
    events = rows(3)
    spoil(events[1], "data", '{"n": 18446744073709551616}')
    lab.relay.drain(seconds=PATIENCE)
    before = redis.xrange(STREAM)
    redis.flushall()

    lab.relay.check_stream()

    assert redis.xrange(STREAM) == before


def test_a_tombstone_says_nothing_of_the_data(lab, redis):
    [event] = rows(1)
    spoil(event, "data", '{"email": "ann@example.com", "n": 18446744073709551616}')

    lab.relay.drain(seconds=PATIENCE)

    assert b"ann@" not in redis.xrange(STREAM)[0][1][b"event"]
    assert "ann@" not in aside()[event.pk]


def test_a_clock_that_is_wrong_by_centuries_breaks_no_gauge(database):
    for event, moment in zip(rows(3), ["infinity", "-infinity", "20000-01-01T00:00:00Z"], strict=True):
        spoil(event, "occurred_at", moment)

    assert outbox.backlog() == outbox.Backlog(3, 0)
    assert metric("user_events_pending") == 3


@pytest.mark.parametrize("refusal", ["wrong type", "out of memory", "read-only"])
def test_what_redis_refuses_is_no_poison_it_waits(lab, redis, refusal):
    rows(3)
    if refusal == "wrong type":
        redis.set(STREAM, "somebody else's")
    elif refusal == "out of memory":
        redis.config_set("maxmemory", 1)
    else:
        redis.replicaof("127.0.0.1", 1)
    try:
        with pytest.raises(RedisAway):
            lab.relay.drain(seconds=PATIENCE)
        assert lab.failures == ["redis_refused"]
    finally:
        redis.config_set("maxmemory", 0)
        redis.replicaof("NO", "ONE")
        redis.delete(STREAM)

    assert aside() == {}
    assert lab.relay.drain(seconds=PATIENCE) == 3
    assert published_to(redis) == [1, 2, 3]


def test_many_large_events_go_out_in_several_messages(lab, redis, monkeypatch):
    monkeypatch.setattr("users.infrastructure.event_bus.MESSAGE_BYTES", 100_000)
    rows(30, data={"text": "x" * 40_000})
    sizes, publish = [], lab.bus.publish

    def noting(batch, **others):
        sizes.append(len(batch))
        return publish(batch, **others)

    monkeypatch.setattr(lab.bus, "publish", noting)

    assert lab.relay.drain(seconds=PATIENCE) == 30

    assert published_to(redis) == list(range(1, 31))
    assert sizes == [2] * 15


# --- release_events -----------------------------------------------------------------------------------


def test_what_was_mended_is_released_and_the_rest_stays(lab, run):  # noqa: F811
    mended, broken = rows(2)
    for event in (mended, broken):
        spoil(event, "occurred_at", "infinity")
    lab.relay.drain(seconds=PATIENCE)
    mend(mended, occurred_at=timezone.now())

    tried = run("release_events", "--dry-run")
    assert len(aside()) == 2
    ran = run("release_events")

    assert tried.lines[-1] == "1 would be released, 1 still set aside"
    assert ran.lines == [
        f"1 user.renamed {mended.event_id}: released",
        f"2 user.renamed {broken.event_id}: still set aside, it cannot be read",
        "1 released, 1 still set aside",
    ]
    assert (tried.code, ran.code) == (1, 1)
    assert [each["event_type"] for each in outbox.batch(0, 10)] == ["user.renamed", "user.set_aside"]
    assert outbox.batch(0, 1)[0]["data"] == {"name": "Ann"}
    assert metric("user_events_set_aside") == 1


def test_when_all_is_released_it_exits_with_0_and_has_nothing_to_do_again(lab, run):  # noqa: F811
    [event] = rows(1)
    spoil(event, "data", HUGE)
    lab.relay.drain(seconds=PATIENCE)
    mend(event, data={"name": "Ann"})

    assert run("release_events").code == 0
    assert (run("release_events").code, run("release_events").out) == (0, "0 released, 0 still set aside\n")


def test_what_was_set_aside_before_it_had_a_number_is_tried_too(database, run):  # noqa: F811
    [event] = rows(1)
    spoil(event, "occurred_at", "infinity")
    envelopes.read(OutboxEvent.objects.all(), 10)
    mend(event, occurred_at=datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=1))

    assert run("release_events").lines[0] == f"- user.renamed {event.event_id}: released"
    assert not RelayPosition.objects.exists()
