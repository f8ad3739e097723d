"""The relay: every committed event goes to the stream once, in order and without a gap, whatever happens to
Redis and to other relays meanwhile; and no command fails or waits for it."""

import json
import threading
import time
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tests.builders import an_actor, an_admin
from tests.events import rows
from tests.together import PATIENCE, eventually, in_background, together
from users import wiring
from users.application.commands import BlockUser, RegisterUser, RenameUser
from users.application.representation import UserView
from users.infrastructure import metrics, outbox
from users.infrastructure.after_commit import CacheThenEvents
from users.infrastructure.cache import EPOCH
from users.infrastructure.event_bus import EventBus, Published
from users.infrastructure.redis_link import RedisAway, RedisLink
from users.infrastructure.relay import REASONS, DuePuts, Relay
from users.models import OutboxEvent, RelayPosition
from users_domain.errors import ConcurrentUpdate
from users_domain.value_objects import SYSTEM

ADMIN = an_actor(an_admin())
STREAM = "users.events"
SOMEBODY = [UserView("somebody", 2, 1, b"{}")]


def stream(redis):
    """Sequences and envelopes as a consumer reads them; checks the form of every entry on the way."""
    entries = []
    for entry_id, fields in redis.xrange(STREAM):
        assert list(fields) == [b"event"]
        envelope = json.loads(fields[b"event"])
        assert entry_id.decode() == f"{envelope['sequence']}-0"
        entries.append(envelope)
    return entries


def published_to(redis):
    return [envelope["sequence"] for envelope in stream(redis)]


def metric(name, **labels):
    for family in text_string_to_metric_families(metrics.page().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0


class Lab:
    """A relay of the test's own, over the run's Redis."""

    def __init__(self, **options):
        self.bus = EventBus(RedisLink("events"), stream=STREAM, maxlen=options.pop("maxlen", 100_000))
        self.renewed = []
        self.distrusted = 0
        self.told = []
        self.waited = []
        self.failures = []
        self.relay = Relay(
            self.bus,
            renew=self.renewed.append,
            distrust=self._distrust,
            published=lambda envelopes: self.told.extend(each["sequence"] for each in envelopes),
            waited=self.waited.extend,
            failed=self.failures.append,
            **options,
        )

    def _distrust(self):
        self.distrusted += 1


@pytest.fixture
def lab(database):
    return Lab()


def rename(service, user_id, name):
    return service.commands.rename(RenameUser(user_id=user_id, name=name, by=SYSTEM))


# --- The way of an event -----------------------------------------------------------------------------


def test_when_a_command_answers_its_event_is_in_the_stream(service, people, redis):
    user_id = people.user("Ann")
    service.commands.block(BlockUser(user_id=user_id, reason="spam", by=ADMIN))

    assert stream(redis) == outbox.batch(0, 10)
    assert [each["event_type"] for each in stream(redis)] == ["user.created", "user.blocked"]
    assert outbox.position() == (2, 2)


def test_a_simple_listener_hears_the_same_json_on_the_channel_of_its_type(service, people, redis):
    user_id = people.user("Ann")
    with redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("user.blocked")
        eventually(lambda: redis.pubsub_numsub("user.blocked") == [(b"user.blocked", 1)])
        rename(service, user_id, "Anna")
        service.commands.block(BlockUser(user_id=user_id, reason="spam", by=ADMIN))

        heard = eventually(lambda: listener.get_message(timeout=1))
        nothing_more = listener.get_message(timeout=0.05)

    assert heard["channel"] == b"user.blocked"
    assert heard["data"] == redis.xrange(STREAM)[-1][1][b"event"]
    assert nothing_more is None


def test_whoever_hears_of_an_event_reads_a_user_who_is_no_older(service, people, redis):
    """The cache is renewed before the event is out."""
    user_id = people.user("Ann")
    service.queries.get(user_id)
    with redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("user.renamed")
        eventually(lambda: redis.pubsub_numsub("user.renamed") == [(b"user.renamed", 1)])
        wrong = []

        def listen(stop):
            while not stop.is_set():
                if message := listener.get_message(timeout=0.05):
                    known = json.loads(message["data"])["user_version"]
                    if service.cache.get(user_id).view.version < known:
                        wrong.append(known)

        with in_background(listen):
            for n in range(30):
                rename(service, user_id, f"Ann {n}")
    assert wrong == []


def test_published_events_are_counted_by_type_and_the_backlog_is_shown(service, people, redis):
    before = metric("user_events_published_total", event_type="user.created")
    people.user("Ann")
    people.user("Bob")
    assert metric("user_events_published_total", event_type="user.created") == before + 2
    assert metric("user_events_pending") == metric("user_events_lag_seconds") == 0

    rows(3)
    assert metric("user_events_pending") == 3
    assert metric("user_events_lag_seconds") > 0
    service.relay.drain(seconds=PATIENCE)
    assert metric("user_events_pending") == metric("user_events_lag_seconds") == 0


def test_a_crash_between_commit_and_hook_loses_neither_event_nor_cache(service, people, redis):
    user_id = people.user("Ann")
    service.queries.get(user_id)
    real, service.commands._unit_of_work._after_commit = (
        service.commands._unit_of_work._after_commit,
        lambda views: None,  # the process is gone before its hook ran
    )
    rename(service, user_id, "Anna")
    assert service.cache.get(user_id).view.version == 1
    service.commands._unit_of_work._after_commit = real

    service.relay.drain(seconds=PATIENCE)

    assert service.cache.get(user_id).view.version == 2
    assert published_to(redis) == [1, 2]


def test_whom_somebody_has_just_saved_is_put_along_with_his_event_unless_that_is_newer(lab):
    """The others of a batch are renewed first."""
    rows(3)
    outbox.give_sequences(10)
    first, second, third = (envelope["user_id"] for envelope in outbox.batch(0, 10))
    due = DuePuts([UserView(first, 1, 1, b"{}"), UserView(second, 0, 1, b"{}")])

    lab.relay.drain(seconds=PATIENCE, due=due)

    assert due.done
    assert lab.renewed == [{second: 1, third: 1}]


def test_whoever_drains_puts_for_the_others_and_they_need_not(service, people, monkeypatch):
    """One has published what the other has committed, who comes to his hook only now."""
    user_id = people.user("Ann")
    service.queries.get(user_id)
    hook = service.commands._unit_of_work._after_commit
    others = DuePuts([replace(service.queries.get(user_id), version=2, json=b'{"version":2}')])
    hook._relay._due.append(others)
    monkeypatch.setattr(hook, "_put", pytest.fail)

    people.user("Bob")

    assert others.done
    assert service.cache.get(user_id).view.version == 2


def test_whom_nobody_has_put_yet_the_hook_puts_itself(lab, redis):
    """Another thread drains and was too late to take him along; or Redis does not take the events."""
    put, views = [], SOMEBODY
    hook = CacheThenEvents(put.append, lab.relay)

    with lab.relay._draining:
        hook(views)
    assert put == [views]

    redis.set(STREAM, "somebody else's")
    rows(1)
    hook(views)
    assert put == [views, views]


def publishers_while_others_come(lab, until):
    """The threads that publish, one for each round; during each somebody leaves a wish, until there were so
    many rounds."""
    real, publishers = lab.relay._rounds, []

    def others_come_meanwhile(deadline):
        publishers.append(threading.get_ident())
        sent = real(deadline)
        if len(publishers) < until:
            rows(1)
            lab.relay._wanted.set()
        return sent

    lab.relay._rounds = others_come_meanwhile
    return publishers


def test_whoever_has_published_his_own_leaves_the_others_to_a_thread_that_nobody_waits_for(lab, redis):
    hook, publishers = CacheThenEvents(pytest.fail, lab.relay), publishers_while_others_come(lab, 3)
    events = rows(1)
    hook([UserView(str(events[0].user_id), 1, 1, b"{}")])

    assert publishers[0] == threading.get_ident()
    eventually(lambda: published_to(redis) == [1, 2, 3])
    assert len(publishers) == 3
    assert threading.get_ident() not in publishers[1:]


def test_whose_event_another_process_has_published_publishes_no_longer_for_others(lab, redis):
    """Nor is what they want forgotten."""
    hook, publishers = CacheThenEvents(lambda views: None, lab.relay), publishers_while_others_come(lab, 10)
    events = rows(1)
    Lab().relay.drain(seconds=PATIENCE)
    hook([UserView(str(events[0].user_id), 1, 1, b"{}")])

    eventually(lambda: published_to(redis) == list(range(1, 11)))
    assert publishers.count(threading.get_ident()) == 1


def test_what_others_want_is_not_forgotten_when_whoever_publishes_fails(lab, redis):
    hook, real, tries = CacheThenEvents(lambda views: None, lab.relay), lab.relay._rounds, []

    def fails_first(deadline):
        tries.append(None)
        if len(tries) > 1:
            return real(deadline)
        rows(1)
        lab.relay._wanted.set()
        raise OperationalError("this thread's connection is broken")

    lab.relay._rounds = fails_first
    events = rows(1)
    with pytest.raises(OperationalError):
        hook([UserView(str(events[0].user_id), 1, 1, b"{}")])

    eventually(lambda: published_to(redis) == [1, 2])


def test_no_command_publishes_for_longer_than_for_itself(service, people):
    """However many come while it does."""
    users = [people.user(name) for name in ("Ann", "Bob", "Cid", "Dan")]
    relay = service.commands._unit_of_work._after_commit._relay
    real, rounds = relay._fulfil, defaultdict(int)

    def count(deadline):
        rounds[threading.get_ident()] += 1
        return real(deadline)

    def act(user_id):
        most = 0
        for number in range(25):
            rounds.pop(threading.get_ident(), None)
            rename(service, user_id, f"Name {number}")
            most = max(most, rounds[threading.get_ident()])
        return most

    relay._fulfil = count
    try:
        most = together([partial(act, user_id) for user_id in users])
    finally:
        del relay._fulfil
    assert max(most) == 1
    eventually(lambda: outbox.backlog().pending == 0)


def test_whose_events_another_thread_has_in_hand_he_only_puts(lab, redis):
    """That one numbered them between the commit and the hook: there is nothing to ask the table for."""
    events = rows(1)
    lab.relay.drain(seconds=PATIENCE)
    put, user_id = [], str(events[0].user_id)
    hook = CacheThenEvents(put.append, lab.relay)

    with CaptureQueriesContext(connection) as asked:
        hook([UserView(user_id, 1, 1, b"{}")])
    assert len(asked) == 0
    assert len(put) == 1

    rows(1, user_id=user_id, user_version=2)
    hook([UserView(user_id, 2, 1, b"{}")])
    assert published_to(redis) == [1, 2]


def test_while_the_cache_is_not_trusted_a_put_along_asks_for_another_epoch(lab):
    lab.relay._puts = lambda views: None
    rows(1)
    due = DuePuts(SOMEBODY)

    lab.relay.drain(seconds=PATIENCE, due=due)

    assert (lab.distrusted, due.done) == (1, True)


def test_what_cannot_be_put_is_not_told_before_nobody_believes_the_cache(service, people, redis):
    user_id = people.user("Ann")
    service.queries.get(user_id)
    redis.delete(EPOCH)
    redis.rpush(EPOCH, "not ours")

    assert rename(service, user_id, "Anna").version == 2
    assert published_to(redis) == [1]
    assert redis.type(EPOCH) == b"string"
    assert service.cache.get(user_id).result == "miss"

    service.relay.drain(seconds=PATIENCE)
    assert published_to(redis) == [1, 2]


# --- Several relays, many writers --------------------------------------------------------------------


def test_many_writers_and_several_relays_publish_everything_once_and_in_each_users_order(service, redis):
    """Each writer's hook is a relay, too; two workers drain beside them."""
    users = [
        service.commands.register(
            RegisterUser(email=f"u{n}@example.com", name=f"User {n}", password="correct horse")
        ).id
        for n in range(5)
    ]
    processes = [service, wiring.build(), wiring.build()]
    done = threading.Event()
    told_before = metric("user_events_published_total", event_type="user.renamed")

    def write(number):
        def act():
            renamed = 0
            for change in range(30):
                try:
                    rename(processes[number % 3], users[(number + change) % 5], f"Name {number} {change}")
                    renamed += 1
                except ConcurrentUpdate:
                    continue
            return renamed

        return act

    def write_all():
        try:
            return sum(together([write(number) for number in range(8)]))
        finally:
            done.set()

    def drain(process):
        def act():
            while not done.is_set():
                process.relay.drain(seconds=1)
                time.sleep(0.001)

        return act

    renamed, *_ = together([write_all, drain(processes[1]), drain(processes[2])])
    eventually(lambda: service.relay.drain(seconds=PATIENCE) == 0 and outbox.backlog().pending == 0)

    events = stream(redis)
    assert renamed > 100
    assert [each["sequence"] for each in events] == list(range(1, len(users) + renamed + 1))
    assert events == outbox.batch(0, 10_000)
    versions = defaultdict(list)
    for each in events:
        versions[each["user_id"]].append(each["user_version"])
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in versions.values())
    assert metric("user_events_published_total", event_type="user.renamed") == told_before + renamed


def test_two_relays_at_once_publish_nothing_twice(database, redis):
    rows(400)
    first, second = Lab(batch_size=7), Lab(batch_size=11)

    sent = together(
        [lambda: first.relay.drain(seconds=PATIENCE), lambda: second.relay.drain(seconds=PATIENCE)]
    )
    sent.append(first.relay.drain(seconds=PATIENCE))

    assert sum(sent) == 400
    assert published_to(redis) == list(range(1, 401))
    assert sorted(first.told + second.told) == list(range(1, 401))


def test_one_thread_of_a_process_drains_for_all_and_nobodys_wish_is_lost(database, redis):
    lab = Lab(batch_size=5)

    def act():
        for _ in range(5):
            rows(3)
            lab.relay.drain(seconds=PATIENCE)

    together([act] * 8)

    assert published_to(redis) == list(range(1, 121))


def test_a_zombie_relay_adds_nothing(lab, redis):
    """It slept with a batch in its hands while others went on."""
    rows(10)
    outbox.give_sequences(100)
    batch = outbox.batch(2, 5)
    lab.relay.drain(seconds=PATIENCE)
    before = redis.xrange(STREAM)

    assert lab.bus.publish(batch, floor=2) == Published(10, 0, stranger=False)
    assert redis.xrange(STREAM) == before


def test_a_zombie_relay_makes_no_gap_in_a_stream_that_was_emptied_meanwhile(lab, redis):
    rows(10)
    outbox.give_sequences(100)
    batch = outbox.batch(5, 5)
    lab.relay.drain(seconds=PATIENCE)
    redis.flushall()

    assert lab.bus.publish(batch, floor=5) == Published(0, 0, stranger=False)
    assert redis.exists(STREAM) == 0


# --- Redis loses data --------------------------------------------------------------------------------


def test_after_flushall_the_stream_is_rebuilt_exactly(service, people, redis):
    user_id = people.user("Ann")
    for n in range(20):
        rename(service, user_id, f"Ann {n}")
    before = redis.xrange(STREAM)
    redis.flushall()

    service.relay.check_stream()

    assert redis.xrange(STREAM) == before
    assert outbox.position() == (21, 21)


def test_after_flushall_the_next_command_alone_notices(service, people, redis):
    user_id = people.user("Ann")
    rename(service, user_id, "Anna")
    redis.flushall()
    rename(service, user_id, "Annabel")
    eventually(lambda: service.relay.drain(seconds=1) == 0)

    assert published_to(redis) == [1, 2, 3]


def test_a_rebuilt_stream_goes_no_further_back_than_it_would_keep(database, redis):
    lab = Lab(maxlen=50, batch_size=20)
    rows(130)
    lab.relay.drain(seconds=PATIENCE)
    redis.flushall()

    lab.relay.check_stream()

    assert published_to(redis) == list(range(81, 131))


def test_a_stream_that_fell_back_to_older_data_gets_the_rest_and_the_cache_is_not_trusted(
    service, people, redis
):
    """As a replica that lagged, or a restart from an older file: entries of the cache are old as well."""
    user_id = people.user("Ann")
    service.queries.get(user_id)
    older = {key: redis.dump(key) for key in redis.keys("*")}
    rename(service, user_id, "Anna")
    before = redis.xrange(STREAM)
    redis.flushall()
    for key, content in older.items():
        redis.restore(key, 0, content)
    assert published_to(redis) == [1]

    service.relay.check_stream()

    assert redis.xrange(STREAM) == before
    assert service.queries.get(user_id).version == 2


def test_a_rebuilding_that_is_interrupted_is_taken_up_again(database, redis):
    lab = Lab(batch_size=10)
    rows(35)
    lab.relay.drain(seconds=PATIENCE)
    redis.flushall()

    lab.relay.check_stream(seconds=-1)
    assert published_to(redis) == list(range(1, 11))

    lab.relay.check_stream()
    assert published_to(redis) == list(range(1, 36))
    assert lab.distrusted == 2


def test_redis_killed_and_back_empty_gets_everything_while_the_worker_runs(
    service, people, fragile_redis, redis_client
):
    user_id = people.user("Ann")
    with in_background(service.worker().run):
        eventually(lambda: published_to(redis_client) == [1])
        fragile_redis.kill()
        for n in range(5):
            assert rename(service, user_id, f"Ann {n}").version == n + 2
        assert metric("user_events_pending") == 5
        fragile_redis.start()
        eventually(lambda: published_to(redis_client) == [1, 2, 3, 4, 5, 6])
        eventually(lambda: metric("user_events_pending") == 0)


def test_a_frozen_redis_loses_nothing_either(service, people, fragile_redis, redis_client):
    user_id = people.user("Ann")
    with in_background(service.worker().run):
        fragile_redis.pause()
        for n in range(3):
            rename(service, user_id, f"Ann {n}")
        fragile_redis.resume()
        eventually(lambda: published_to(redis_client) == [1, 2, 3, 4])
    assert stream(redis_client) == outbox.batch(0, 10)


# --- Rows that are gone -------------------------------------------------------------------------------


def drained(lab, count):
    rows(count)
    lab.relay.drain(seconds=PATIENCE)


def test_a_stream_is_rebuilt_from_what_retention_has_left(lab, redis):
    drained(lab, 10)
    OutboxEvent.objects.filter(sequence__lte=6).delete()
    redis.flushall()

    for _ in range(3):
        lab.relay.check_stream()
    drained(lab, 1)

    assert published_to(redis) == [7, 8, 9, 10, 11]
    assert lab.distrusted == 1


@pytest.mark.parametrize("gone", [{}, {"sequence__gt": 7}])
def test_a_table_that_was_emptied_beside_an_empty_redis_is_not_rewound_for_ever(lab, redis, gone):
    """Each time the cache would be worthless anew."""
    drained(lab, 10)
    OutboxEvent.objects.filter(**gone).delete()
    left = OutboxEvent.objects.count()
    redis.flushall()

    for _ in range(3):
        lab.relay.check_stream()
    assert lab.distrusted == 1
    drained(lab, 2)

    assert published_to(redis) == [*range(1, left + 1), 11, 12]
    assert lab.distrusted == 1


def test_a_reader_who_waits_meanwhile_gets_the_next_event_and_nothing_else(lab, redis):
    drained(lab, 10)
    OutboxEvent.objects.all().delete()
    redis.flushall()
    got, last = [], b"10-0"

    def read(stop):
        nonlocal last
        while not stop.is_set():
            for _, entries in redis.xread({STREAM: last}, block=50) or []:
                got.extend(entries)
                last = entries[-1][0]

    with in_background(read):
        lab.relay.check_stream()
        drained(lab, 1)
        eventually(lambda: got)

    assert [entry_id for entry_id, _ in got] == [b"11-0"]


def test_a_stream_that_was_lost_again_meanwhile_is_not_put_forward(lab, redis):
    drained(lab, 5)
    redis.flushall()

    lab.bus.go_on_behind(5, floor=3)

    assert redis.exists(STREAM) == 0


def test_a_stream_that_is_further_already_is_not_put_back(lab, redis):
    drained(lab, 5)

    lab.bus.go_on_behind(3, floor=0)

    assert lab.bus.top() == 5


# --- A stream ahead of the table ---------------------------------------------------------------------


def ahead(redis, top=100):
    """The table comes from a backup, or is new: consumers have read up to `top`."""
    redis.xadd(STREAM, {"event": json.dumps({"sequence": top})}, id=f"{top}-0")


def test_numbers_that_consumers_have_seen_are_not_given_again(lab, redis):
    rows(2)
    outbox.give_sequences(1)
    ahead(redis)

    lab.relay.check_stream()
    rows(1)
    lab.relay.drain(seconds=PATIENCE)

    assert published_to(redis) == [100, 101, 102, 103]
    assert OutboxEvent.objects.filter(sequence__gt=100).count() == 3


def test_a_command_before_the_workers_check_loses_no_event_either(service, people, redis):
    ahead(redis)

    people.user("Ann")
    people.user("Bob")

    assert published_to(redis) == [100, 101, 102]


def test_what_was_published_before_keeps_its_number(lab, redis):
    rows(3)
    lab.relay.drain(seconds=PATIENCE)
    ahead(redis)
    lab.relay.check_stream()
    rows(1)
    lab.relay.drain(seconds=PATIENCE)

    assert published_to(redis) == [1, 2, 3, 100, 101]
    assert list(OutboxEvent.objects.order_by("id").values_list("sequence", flat=True)) == [1, 2, 3, 101]


def fail_over_to_a_replica_at(sequence, published=None):
    """Its rows behind that are lost."""
    OutboxEvent.objects.filter(sequence__gt=sequence).delete()
    RelayPosition.objects.update(sequenced=sequence, published=published or sequence)


def ids_by_sequence(redis):
    return {envelope["sequence"]: envelope["event_id"] for envelope in stream(redis)}


@pytest.mark.parametrize("new", [2, 3, 5])
def test_numbers_that_were_given_again_before_anybody_noticed_lose_no_event(lab, redis, new):
    """With as many new rows as were lost, the stream's top alone does not tell."""
    drained(lab, 10)
    seen = ids_by_sequence(redis)
    fail_over_to_a_replica_at(7)
    rows(new)
    outbox.give_sequences(100)

    for _ in range(3):
        lab.relay.drain(seconds=PATIENCE)
        lab.relay.check_stream()

    after = ids_by_sequence(redis)
    told = [event_id for sequence, event_id in after.items() if sequence > 10]
    assert {sequence: after[sequence] for sequence in seen} == seen
    unseen = OutboxEvent.objects.order_by("id").values_list("event_id", flat=True)[7:]
    assert told == [str(event_id) for event_id in unseen]
    assert len(told) == new


def test_what_the_stream_has_already_keeps_its_number(lab, redis):
    drained(lab, 10)
    fail_over_to_a_replica_at(8, published=6)
    rows(4)

    for _ in range(3):
        lab.relay.drain(seconds=PATIENCE)
        lab.relay.check_stream()

    told = [envelope["event_id"] for envelope in stream(redis)]
    assert len(told) == len(set(told)) == 14
    numbers = OutboxEvent.objects.order_by("id").values_list("sequence", flat=True)
    assert list(numbers[:8]) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_foreign_entry_in_the_place_of_ours_stops_nobody(lab, redis):
    drained(lab, 2)
    redis.xadd(STREAM, {"note": "by hand"}, id="3-0")
    rows(2)
    outbox.give_sequences(10)

    for _ in range(3):
        lab.relay.drain(seconds=PATIENCE)

    assert [entry_id for entry_id, _ in redis.xrange(STREAM)] == [b"1-0", b"2-0", b"3-0", b"5-0", b"6-0"]
    assert outbox.backlog().pending == 0


def test_two_who_step_over_at_once_do_it_once(lab, redis):
    drained(lab, 10)
    fail_over_to_a_replica_at(7)
    rows(50)
    outbox.give_sequences(100)

    together([lambda: Lab().relay.drain(seconds=PATIENCE)] * 4)
    lab.relay.drain(seconds=PATIENCE)

    told = [envelope["event_id"] for envelope in stream(redis)]
    assert len(told) == len(set(told)) == 60


def test_what_is_published_again_is_told_to_nobody_who_just_listens(lab, redis):
    drained(lab, 5)
    rows(1)
    outbox.give_sequences(1)
    with redis.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("user.renamed")
        eventually(lambda: redis.pubsub_numsub("user.renamed") == [(b"user.renamed", 1)])
        redis.delete(STREAM)
        lab.relay.check_stream()

        heard = eventually(lambda: listener.get_message(timeout=1))
        nothing_more = listener.get_message(timeout=0.05)

    assert published_to(redis) == [1, 2, 3, 4, 5, 6]
    assert json.loads(heard["data"])["sequence"] == 6
    assert nothing_more is None


def test_a_stream_that_is_not_ahead_is_left_alone(lab, redis):
    rows(3)
    lab.relay.drain(seconds=PATIENCE)

    for _ in range(3):
        lab.relay.check_stream()

    assert outbox.position() == (3, 3)
    assert published_to(redis) == [1, 2, 3]
    assert lab.distrusted == 0


# --- What goes wrong ----------------------------------------------------------------------------------


def failing_for(lab, users, error):
    """The renewal of these users raises, in company or alone; the others' goes well."""

    def renew(wanted):
        if set(wanted) & users:
            raise error
        lab.renewed.append(set(wanted))

    lab.relay._renew = renew


def test_a_user_whose_cache_cannot_be_renewed_holds_up_no_event_and_nobody_else(lab, redis):
    """And as an old entry of his may be there, none is trusted."""
    drained(lab, 0)
    events = rows(4)
    bad = str(events[1].user_id)
    failing_for(lab, {bad}, ValueError("year 20000 is out of range"))

    assert lab.relay.drain(seconds=PATIENCE) == 4

    assert published_to(redis) == [1, 2, 3, 4]
    assert set().union(*lab.renewed) == {str(event.user_id) for event in events} - {bad}
    assert lab.failures == ["cache"]
    assert lab.distrusted == 1


def test_a_real_user_whose_row_cannot_be_read_holds_up_nobody(service, people, redis):
    ann, bob = people.user("Ann"), people.user("Bob")
    for user_id in (ann, bob):
        service.queries.get(user_id)
    before = metric("user_events_relay_failures_total", reason="cache")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET updated_at = 'infinity' WHERE id = %s", [ann])
        cursor.execute("UPDATE users SET name = 'Bobby', version = 2 WHERE id = %s", [bob])
    rows(1, user_id=ann, user_version=2)
    rows(1, user_id=bob, user_version=2)

    service.relay.drain(seconds=PATIENCE)

    assert published_to(redis) == [1, 2, 3, 4]
    assert service.queries.get(bob).version == 2
    assert metric("user_events_relay_failures_total", reason="cache") == before + 1


@pytest.mark.parametrize("error", [RedisAway(), OperationalError("away")])
def test_a_renewal_that_fails_because_a_server_is_away_stops_the_batch(lab, redis, error):
    events = rows(2)
    failing_for(lab, {str(events[0].user_id)}, error)

    with pytest.raises(type(error)):
        lab.relay.drain(seconds=PATIENCE)

    assert redis.exists(STREAM) == 0
    assert lab.distrusted == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RedisAway(), "redis_away"),
        (OperationalError("away"), "postgresql"),
        (InterfaceError("connection already closed"), "postgresql"),
        (ZeroDivisionError(), "other"),
    ],
)
def test_failures_are_counted_by_reason(lab, monkeypatch, error, reason):
    def fail():
        raise error

    monkeypatch.setattr(lab.bus, "top", fail)
    monkeypatch.setattr(lab.bus, "require", fail)

    for attempt in (lab.relay.check_stream, lambda: lab.relay.drain(seconds=1)):
        with pytest.raises(type(error)):
            attempt()

    assert lab.failures == [reason, reason]


def test_every_reason_is_a_metric_from_the_start(database):
    names = {
        sample.labels["reason"]
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
        if sample.name == "user_events_relay_failures_total"
    }
    assert names == set(REASONS)


def test_the_time_from_commit_to_stream_is_measured_once_for_each_event(lab, redis):
    rows(2, occurred_at=timezone.now() - timedelta(seconds=30))
    rows(1)
    lab.relay.drain(seconds=PATIENCE)
    redis.flushall()
    lab.relay.check_stream()

    assert [round(seconds) for seconds in lab.waited] == [30, 30, 0]
    assert lab.told == [1, 2, 3, 1, 2, 3]


def test_the_delay_is_a_metric(service, people):
    before = metric("user_events_delay_seconds_count")
    people.user("Ann")

    assert metric("user_events_delay_seconds_count") == before + 1


# --- No command fails or waits -----------------------------------------------------------------------


def test_a_stream_that_cannot_be_written_fails_no_command(service, people, redis):
    redis.set(STREAM, "somebody else's")

    user_id = people.user("Ann")
    assert rename(service, user_id, "Anna").version == 2
    with pytest.raises(RedisAway):
        service.relay.drain(seconds=1)

    redis.delete(STREAM)
    service.relay.drain(seconds=1)
    assert published_to(redis) == [1, 2]


def test_a_failing_counter_fails_no_command(service, people, monkeypatch):
    def broken(limit):
        raise ZeroDivisionError

    monkeypatch.setattr(outbox, "give_sequences", broken)

    assert people.user("Ann")


def test_a_hook_publishes_about_as_much_as_its_budget_allows(database, redis):
    lab = Lab(batch_size=10)
    rows(200)
    hook = CacheThenEvents(lambda views: None, lab.relay, budget_seconds=0)

    hook(SOMEBODY)
    assert published_to(redis) == list(range(1, 11))
    assert lab.relay.drain(seconds=PATIENCE) == 190


def test_a_hook_does_not_rebuild_a_whole_stream(database, redis):
    lab = Lab(batch_size=10)
    rows(200)
    lab.relay.drain(seconds=PATIENCE)
    redis.flushall()
    rows(1)
    hook = CacheThenEvents(lambda views: None, lab.relay, budget_seconds=0)

    hook(SOMEBODY)
    assert published_to(redis) == list(range(1, 11))
    lab.relay.drain(seconds=PATIENCE)
    assert published_to(redis) == list(range(1, 202))


def test_a_hook_does_not_drain_for_others_for_ever(database, redis):
    """Others keep coming while it drains; when its time is up it goes, and the worker does the rest."""
    lab = Lab(batch_size=10)
    real_renew = lab.relay._renew

    def others_come(users):
        rows(1)
        lab.relay._wanted.set()
        real_renew(users)

    lab.relay._renew = others_come
    rows(1)
    began = time.monotonic()

    together([lambda: lab.relay.drain(seconds=0.1)])

    assert time.monotonic() - began < PATIENCE / 2
