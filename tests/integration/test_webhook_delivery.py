"""The dispatcher: every event reaches the receiver, in order, whatever the receiver, the worker or an admin
does meanwhile."""

import json
import random
import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.together import PATIENCE, eventually, in_background
from tests.webhook_deliveries import assert_everything_in_order, happen, subscribe
from tests.webhook_receiver import Receiver
from users.application.commands import RenameUser
from users.application.webhook_endpoint import Answer
from users.application.webhooks import ChangeEndpoint, EndpointState
from users.infrastructure import metrics, outbox, reads, retention
from users.infrastructure.reads import DatabaseReads
from users.infrastructure.webhooks import sender
from users.infrastructure.webhooks.addresses import AddressRules
from users.infrastructure.webhooks.dispatcher import Dispatcher
from users.infrastructure.webhooks.feed import DatabaseFeed
from users.infrastructure.webhooks.leases import Leases
from users.infrastructure.webhooks.sender import HttpSender
from users.infrastructure.webhooks.signing import SealedSecrets
from users.infrastructure.webhooks.store import entry, forget_old_deliveries
from users.models import OutboxEvent, RelayPosition, WebhookDelivery, WebhookEndpoint
from users_domain.value_objects import COMMAND_LINE

PATIENT = 30
IMPATIENT = 0.3
"""Seconds that a sender gives a receiver: so few where the test is about giving up. Then a machine that is
slow for a while may add an attempt."""
SOON = 0.03


class MovedClock:
    """The real time, and as much more as was let pass."""

    def __init__(self):
        self.passed = timedelta()

    def __call__(self):
        return timezone.now() + self.passed


def last_sequence():
    return outbox.position()[0]


@pytest.fixture
def clock():
    return MovedClock()


@pytest.fixture
def dispatcher(service, clock, monkeypatch):
    """Makes one that tries again soon, and leaves bodies that dribble in sooner than in life."""
    monkeypatch.setattr(sender, "BODY_SECONDS", IMPATIENT)

    def make(timeout=PATIENT, **parts):
        secrets = SealedSecrets([settings.SECRET_KEY])
        rules = AddressRules(private_addresses=True)
        post = HttpSender(secrets, rules, timeout_seconds=timeout, clock=timezone.now)
        parts = {"delay": lambda failures, retry_after: SOON, "retry_for": timedelta(hours=72)} | parts
        parts.setdefault("lease_seconds", 2 * PATIENT)
        sent = parts.pop("sent", lambda answer: None)
        return Dispatcher(DatabaseFeed(DatabaseReads()), post, clock=clock, sent=sent, **parts)

    return make


def loop(dispatcher, every=0.02):
    """As the worker runs it."""

    def run(stop):
        while not stop.is_set():
            dispatcher.start_due()
            stop.wait(every)
        dispatcher.finish()

    return run


def delivering(dispatcher):
    return in_background(loop(dispatcher))


@pytest.fixture
def receivers():
    made = []

    def make():
        made.append(Receiver().up())
        return made[-1]

    yield make
    for receiver in made:
        receiver.down()


@pytest.fixture
def receiver(receivers):
    return receivers()


def end_leases():
    """As if the time that they have left were over."""
    WebhookEndpoint.objects.exclude(lease=None).update(leased_until=timezone.now() - timedelta(seconds=1))


def attempts(endpoint_id):
    """(sequence, attempt, status, error) of each, oldest first."""
    rows = WebhookDelivery.objects.filter(endpoint_id=endpoint_id).order_by("id")
    return list(rows.values_list("sequence", "attempt", "status", "error"))


class TestDelivery:
    def test_everything_that_happens_arrives_as_it_stands_in_the_stream(
        self, service, people, receiver, dispatcher, redis
    ):
        endpoint_id = subscribe(service, receiver)
        user_id = people.user("Ann")
        service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=COMMAND_LINE))
        happen(120)

        with delivering(dispatcher()):
            eventually(lambda: len(receiver.taken) == 122)

        service.relay.drain(seconds=PATIENCE)
        stream = [json.loads(fields[b"event"]) for _, fields in redis.xrange("users.events")]
        assert receiver.taken == stream
        assert [headers["webhook-id"] for headers in receiver.seen] == [each["event_id"] for each in stream]
        view = service.webhooks.get(endpoint_id)
        assert (view.position, view.waiting, view.state) == (122, 0, EndpointState.ACTIVE)
        assert attempts(endpoint_id) == [(sequence, 1, 204, None) for sequence in range(1, 123)]

    def test_a_new_endpoint_begins_with_the_next_event_or_where_it_was_told(
        self, service, receivers, dispatcher
    ):
        happen(5)
        fresh, all_of_it, some = receivers(), receivers(), receivers()
        subscribe(service, fresh)
        subscribe(service, all_of_it, after=0)
        subscribe(service, some, after=3)
        happen(1)

        with delivering(dispatcher()):
            eventually(lambda: (len(fresh.taken), len(all_of_it.taken), len(some.taken)) == (1, 6, 3))

        assert (fresh.sequences, some.sequences) == ([6], [4, 5, 6])

    def test_only_what_is_wanted_is_sent_and_the_position_moves_over_the_rest(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver, event_types=["user.blocked"])
        happen(300)
        wanted = happen(2, "user.blocked")
        happen(300)

        with delivering(dispatcher()):
            eventually(lambda: service.webhooks.get(endpoint_id).position == 602)

        assert receiver.sequences == wanted
        assert len(attempts(endpoint_id)) == 2

    def test_nothing_is_sent_before_it_has_a_sequence(self, service, receiver, dispatcher):
        subscribe(service, receiver)
        happen(1)
        OutboxEvent.objects.create(
            event_id=uuid7(),
            event_type="user.renamed",
            user_id=uuid7(),
            user_version=1,
            occurred_at=timezone.now(),
            data={},
        )

        with delivering(dispatcher()):
            eventually(lambda: receiver.taken)
            time.sleep(0.1)

        assert receiver.sequences == [1]

    def test_a_row_that_was_set_aside_goes_out_as_its_tombstone(self, service, receiver, dispatcher):
        subscribe(service, receiver)
        sequences = happen(3)
        OutboxEvent.objects.filter(sequence=2).update(
            set_aside_at=timezone.now(), set_aside_because="it cannot be read"
        )

        with delivering(dispatcher()):
            eventually(lambda: len(receiver.taken) == 3)

        assert receiver.sequences == sequences
        assert receiver.taken[1]["event_type"] == "user.set_aside"

    def test_who_wants_to_know_of_rows_set_aside_waits_until_the_relay_has_judged_them(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver, event_types=["user.set_aside", "user.blocked"])
        happen(1)
        OutboxEvent.objects.update(data=[1])  # which no envelope can be made of
        happen(1, "user.blocked")
        one = dispatcher()
        assert one.start_due() == 0
        assert one._feed.end(["user.set_aside"]) == 0

        with delivering(one):
            service.relay.drain(seconds=PATIENT)
            eventually(lambda: service.webhooks.get(endpoint_id).position == 2)

        assert [each["event_type"] for each in receiver.taken] == ["user.set_aside", "user.blocked"]

    def test_a_disabled_endpoint_gets_nothing_until_it_is_enabled_and_then_everything(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver, enabled=False)
        sequences = happen(3)

        with delivering(dispatcher()):
            time.sleep(0.15)
            assert receiver.seen == []
            service.webhooks.change(ChangeEndpoint(endpoint_id=endpoint_id, enabled=True, by=COMMAND_LINE))
            eventually(lambda: len(receiver.taken) == 3)

        assert receiver.sequences == sequences

    def test_an_idle_dispatcher_writes_nothing(self, service, receiver, dispatcher):
        endpoint_id = subscribe(service, receiver)
        happen(1)
        idle = dispatcher()
        with delivering(idle):
            eventually(lambda: service.webhooks.get(endpoint_id).position == 1)

        with CaptureQueriesContext(connection) as asked:
            assert idle.start_due() == 0

        assert [query["sql"].split()[0] for query in asked] == ["SELECT", "SELECT"]


class TestTrouble:
    @pytest.mark.parametrize(
        "mischief", ["500", "close", "take_then_close", "redirect", "nonsense", "drip_body"]
    )
    def test_it_is_tried_again_until_it_is_accepted_and_nothing_overtakes(
        self, service, receiver, dispatcher, mischief
    ):
        endpoint_id = subscribe(service, receiver)
        sequences = happen(5)
        receiver.mischief.extend([None, mischief, mischief, None, mischief])

        with delivering(dispatcher()):
            eventually(lambda: service.webhooks.get(endpoint_id).position == sequences[-1])

        assert_everything_in_order(receiver, sequences)
        assert service.webhooks.get(endpoint_id).state == EndpointState.ACTIVE
        numbers = [attempt for _, attempt, _, _ in attempts(endpoint_id)]
        assert numbers == ([1] * 5 if mischief == "drip_body" else [1, 1, 2, 3, 1, 2, 1, 1])

    @pytest.mark.parametrize("mischief", ["hang", "drip"])
    def test_so_is_one_that_was_given_up(self, service, receiver, dispatcher, mischief):
        endpoint_id = subscribe(service, receiver)
        sequences = happen(5)
        receiver.mischief.extend([None, mischief, mischief, None, mischief])

        with delivering(dispatcher(timeout=IMPATIENT)):
            eventually(lambda: service.webhooks.get(endpoint_id).position == sequences[-1])

        assert_everything_in_order(receiver, sequences)
        made = attempts(endpoint_id)
        assert sorted(made) == made
        assert {error for *_, error in made} == {None, "timeout"}
        assert len(made) >= 5 + 3
        for sequence in sequences:
            numbers = [attempt for which, attempt, *_ in made if which == sequence]
            assert numbers == list(range(1, len(numbers) + 1))

    def test_while_it_fails_the_endpoint_says_so(self, service, receiver, dispatcher, clock):
        endpoint_id = subscribe(service, receiver)
        happen(2)
        receiver.always = "500"

        with delivering(dispatcher(delay=lambda failures, retry_after: 60)):
            eventually(lambda: attempts(endpoint_id))

        view = service.webhooks.get(endpoint_id)
        assert (view.state, view.failures, view.position, view.waiting) == (EndpointState.RETRYING, 1, 0, 2)
        (attempted_at,) = WebhookDelivery.objects.values_list("attempted_at", flat=True)
        assert 60 <= (view.next_attempt_at - attempted_at).total_seconds() < 60 + PATIENT
        assert view.failing_since is not None

    def test_the_receivers_wish_to_be_left_alone_is_heard(self, service, receiver, dispatcher):
        subscribe(service, receiver)
        happen(1)
        receiver.mischief.append("busy")
        asked = []

        def delay(failures, retry_after):
            asked.append((failures, retry_after))
            return SOON

        with delivering(dispatcher(delay=delay)):
            eventually(lambda: receiver.taken)

        assert asked == [(1, 7)]

    def test_a_receiver_that_is_down_for_a_while_gets_everything_afterwards(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver)
        receiver.down()
        sequences = happen(50)

        with delivering(dispatcher()):
            eventually(lambda: len(attempts(endpoint_id)) > 5)
            receiver.up()
            eventually(lambda: service.webhooks.get(endpoint_id).position == 50)

        assert_everything_in_order(receiver, sequences)

    def test_one_that_hangs_holds_up_no_other(self, service, receivers, dispatcher):
        hanging = [receivers() for _ in range(6)]
        for each in hanging:
            each.always, each.hang_seconds = "hang", 2 * PATIENT
            subscribe(service, each)
        good = receivers()
        endpoint_id = subscribe(service, good)
        with delivering(dispatcher()):
            happen(1)
            eventually(lambda: all(each.seen for each in hanging))
            for number in range(2, 8):
                happen(1)
                eventually(lambda number=number: len(good.taken) == number)
            made = WebhookDelivery.objects.exclude(endpoint_id=endpoint_id)
            assert not made.exists()  # the others hang all the while
            for each in hanging:
                each.release()

    def test_however_many_fail_half_of_the_threads_are_for_the_others(self, service, receivers, dispatcher):
        failing = [receivers() for _ in range(6)]
        for each in failing:
            each.always, each.hang_seconds = "hang", PATIENT
            subscribe(service, each)
        happen(1)
        WebhookEndpoint.objects.update(failures=1)

        one = dispatcher(threads=4)
        assert one.start_due() == 2
        assert one.start_due() == 0
        for each in failing:
            each.release()
        one.finish()

    def test_however_busy_the_others_are_one_thread_is_for_those_that_fail(
        self, service, receivers, dispatcher
    ):
        busy, failing = [receivers() for _ in range(4)], receivers()
        for each in busy:
            each.always, each.hang_seconds = "hang", PATIENT
            subscribe(service, each)
        endpoint_id = subscribe(service, failing)
        WebhookEndpoint.objects.filter(id=endpoint_id).update(failures=1, next_attempt_at=timezone.now())
        happen(1)

        one = dispatcher(threads=2)
        one.start_due()
        eventually(lambda: failing.sequences == [1])
        for each in busy:
            each.release()
        one.finish()


class TestPausing:
    def test_after_the_time_for_trying_it_is_paused_with_an_alert_and_resumed_it_goes_on(
        self, service, receiver, dispatcher, clock, caplog
    ):
        endpoint_id = subscribe(service, receiver)
        sequences = happen(3)
        receiver.mischief.append(None)
        receiver.always = "500"

        with delivering(dispatcher()):
            eventually(lambda: len(attempts(endpoint_id)) > 3)
            assert service.webhooks.get(endpoint_id).state == EndpointState.RETRYING
            clock.passed = timedelta(hours=71)
            eventually(lambda: len(attempts(endpoint_id)) > 6)
            assert service.webhooks.get(endpoint_id).state == EndpointState.RETRYING
            clock.passed = timedelta(hours=72)
            eventually(lambda: service.webhooks.get(endpoint_id).state == EndpointState.PAUSED)
            tried = len(receiver.seen)
            sequences += happen(2)
            time.sleep(0.15)
            assert len(receiver.seen) == tried

            view = service.webhooks.get(endpoint_id)
            assert (view.position, view.waiting) == (1, 4)
            assert "Nothing was accepted since" in view.paused_because
            assert b'user_webhook_endpoints{state="paused"} 1.0' in metrics.page()
            assert b"user_webhook_lag_events 4.0" in metrics.page()
            alerts = [record for record in caplog.records if record.levelname == "ERROR"]
            assert [(each.msg["event"], each.msg["endpoint_id"]) for each in alerts] == [
                ("webhook_paused", endpoint_id)
            ]

            receiver.always = None
            service.webhooks.resume(endpoint_id, by=COMMAND_LINE)
            eventually(lambda: service.webhooks.get(endpoint_id).position == 5)

        assert_everything_in_order(receiver, sequences)
        assert receiver.url not in caplog.text
        assert "whsec_" not in caplog.text

    def test_one_success_and_the_time_begins_anew(self, service, receiver, dispatcher, clock):
        endpoint_id = subscribe(service, receiver)
        receiver.mischief.extend(["500"] * 3)
        happen(1)
        with delivering(dispatcher()):
            eventually(lambda: receiver.taken)
            clock.passed = timedelta(hours=100)
            receiver.always = "500"
            happen(1)
            eventually(lambda: len(attempts(endpoint_id)) > 6)

        assert service.webhooks.get(endpoint_id).state == EndpointState.RETRYING

    def test_410_pauses_at_once(self, service, receiver, dispatcher):
        endpoint_id = subscribe(service, receiver)
        happen(2)
        receiver.mischief.append("410")

        with delivering(dispatcher()):
            eventually(lambda: service.webhooks.get(endpoint_id).state == EndpointState.PAUSED)
            time.sleep(0.1)

        assert len(receiver.seen) == 1
        assert "410" in service.webhooks.get(endpoint_id).paused_because
        assert service.webhooks.get(endpoint_id).waiting == 2

    @pytest.mark.parametrize("how", ["enable", "another address", "redeliver since"])
    def test_other_ways_out_of_a_pause(self, service, receivers, dispatcher, how):
        old, new = receivers(), receivers()
        endpoint_id = subscribe(service, old)
        new.secrets = old.secrets
        sequences = happen(2)
        old.mischief.append("410")
        with delivering(dispatcher()):
            eventually(lambda: service.webhooks.get(endpoint_id).state == EndpointState.PAUSED)
            if how == "enable":
                change = {"enabled": True}
            elif how == "another address":
                change = {"url": new.url}
            if how == "redeliver since":
                service.webhooks.redeliver_since(endpoint_id, 1, by=COMMAND_LINE)
            else:
                service.webhooks.change(ChangeEndpoint(endpoint_id=endpoint_id, by=COMMAND_LINE, **change))
            taker = new if how == "another address" else old
            eventually(lambda: taker.sequences == sequences)

    def test_events_that_are_no_longer_kept_are_not_left_out_silently(
        self, service, receiver, dispatcher, caplog
    ):
        endpoint_id = subscribe(service, receiver, enabled=False)
        happen(5)
        OutboxEvent.objects.filter(sequence__lte=3).delete()
        RelayPosition.objects.update(pruned=3)
        service.webhooks.change(ChangeEndpoint(endpoint_id=endpoint_id, enabled=True, by=COMMAND_LINE))

        with delivering(dispatcher()):
            eventually(lambda: service.webhooks.get(endpoint_id).state == EndpointState.PAUSED)
            assert receiver.seen == []
            assert "up to 3" in service.webhooks.get(endpoint_id).paused_because
            service.webhooks.resume(endpoint_id, by=COMMAND_LINE)
            eventually(lambda: receiver.sequences == [4, 5])

        assert "webhook_paused" in caplog.text

    @pytest.mark.parametrize(
        ("event_types", "when"),
        [([], "at first"), (["user.renamed"], "at first"), (["user.renamed"], "in the middle")],
    )
    def test_nor_are_those_that_go_while_the_feed_is_read(
        self, service, receiver, dispatcher, monkeypatch, when, event_types
    ):
        endpoint_id = subscribe(service, receiver, event_types=event_types)
        happen(60)
        one = dispatcher()
        where = (one._feed, "messages") if when == "at first" else (reads, "_first_of_types")
        real = getattr(*where)

        def read(*arguments):
            found = real(*arguments)
            with connection.cursor() as cursor:
                retention._delete(cursor, 40)
            return real(*arguments) if when == "at first" else found

        monkeypatch.setattr(*where, read)
        with delivering(one):
            eventually(lambda: service.webhooks.get(endpoint_id).state == EndpointState.PAUSED)

        assert (service.webhooks.get(endpoint_id).position, receiver.sequences) == (0, [])

    def test_no_alert_tells_of_a_pause_that_an_admin_has_prevented(
        self, service, receiver, dispatcher, monkeypatch, caplog
    ):
        endpoint_id = subscribe(service, receiver)
        happen(5)
        one = dispatcher()

        asked = threading.Event()

        def pruned():
            service.webhooks.change(ChangeEndpoint(endpoint_id=endpoint_id, enabled=False, by=COMMAND_LINE))
            asked.set()
            return 3

        monkeypatch.setattr(one._feed, "pruned", pruned)
        with delivering(one):
            assert asked.wait(PATIENT)

        assert service.webhooks.get(endpoint_id).paused_at is None
        assert "webhook_paused" not in caplog.text


class TestAdminsMeanwhile:
    def test_a_rotation_in_the_middle_loses_nothing_whichever_secret_the_receiver_knows(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver)
        with delivering(dispatcher()):
            sequences = happen(20)
            eventually(lambda: len(receiver.taken) >= 5)
            _, secret = service.webhooks.rotate_secret(endpoint_id, by=COMMAND_LINE)
            sequences += happen(20)
            eventually(lambda: len(receiver.taken) >= 30)  # the receiver knows the old one only
            receiver.secrets = [secret]
            sequences += happen(20)
            eventually(lambda: service.webhooks.get(endpoint_id).position == 60)

        assert_everything_in_order(receiver, sequences)
        assert receiver.forged == 0

    def test_after_the_overlap_the_old_secret_signs_no_more(self, service, receiver, dispatcher):
        endpoint_id = subscribe(service, receiver)
        service.webhooks.rotate_secret(endpoint_id, by=COMMAND_LINE)
        WebhookEndpoint.objects.update(previous_secret_until=timezone.now() - timedelta(seconds=1))
        happen(1)

        with delivering(dispatcher()):
            eventually(lambda: receiver.forged)

        assert service.webhooks.get(endpoint_id).previous_secret_until is None

    def test_an_event_type_that_is_added_while_messages_go_out_counts_from_then_on(
        self, service, receiver, dispatcher
    ):
        """Whoever reads the feed for the old types must not move the position over events of the new one."""
        endpoint_id = subscribe(service, receiver, event_types=["user.blocked"])
        happen(1)
        one = dispatcher()
        feed = one._feed
        real, reading, changed = feed.messages, threading.Event(), threading.Event()

        def slow(after, event_types, limit):
            reading.set()
            assert changed.wait(PATIENT)
            return real(after, event_types, limit)

        feed.messages = slow
        with delivering(one):
            assert reading.wait(PATIENT)
            service.webhooks.change(
                ChangeEndpoint(
                    endpoint_id=endpoint_id, event_types=["user.blocked", "user.renamed"], by=COMMAND_LINE
                )
            )
            (sequence,) = happen(1)
            changed.set()
            eventually(lambda: sequence in receiver.sequences)

    def test_putting_the_position_back_wins_over_a_delivery_that_is_under_way(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver)
        happen(3)
        with delivering(dispatcher()):
            eventually(lambda: service.webhooks.get(endpoint_id).position == 3)
            receiver.mischief.append("drip_body")  # accepted, 0.3 s before the sender goes on
            happen(1)
            eventually(lambda: len(receiver.taken) == 4)
            service.webhooks.redeliver_since(endpoint_id, 2, by=COMMAND_LINE)
            eventually(lambda: service.webhooks.get(endpoint_id).position == 4)

        assert receiver.sequences == [1, 2, 3, 4, 2, 3, 4]

    def test_deleting_an_endpoint_while_a_message_is_under_way_breaks_nothing(
        self, service, receiver, dispatcher, caplog
    ):
        endpoint_id = subscribe(service, receiver)
        receiver.mischief.append("drip_body")
        happen(2)
        with delivering(dispatcher()):
            eventually(lambda: receiver.taken)
            service.webhooks.delete(endpoint_id, by=COMMAND_LINE)

        assert receiver.sequences == [1]
        assert not WebhookDelivery.objects.exists()
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


class TestSeveralWorkers:
    def test_several_deliver_each_event_once_and_in_order(self, service, receivers, dispatcher):
        three = [receivers() for _ in range(3)]
        for receiver in three:
            subscribe(service, receiver)

        with delivering(dispatcher()), delivering(dispatcher()), delivering(dispatcher(turn_seconds=0.05)):
            sequences = happen(30)
            for _ in range(5):
                sequences += happen(10)
                time.sleep(0.02)
            eventually(lambda: all(len(receiver.taken) == 80 for receiver in three))

        for receiver in three:
            assert receiver.sequences == sequences
            assert receiver.most_at_once == 1

    def test_a_zombie_whose_lease_went_to_another_moves_nothing(self, service, receiver, dispatcher):
        endpoint_id = subscribe(service, receiver)
        happen(3)
        moment = iter(range(0, 6000, 120))
        leases = Leases(seconds=100, clock=timezone.now, monotonic=lambda: next(moment))
        (old,) = leases.take(1, retrying=False)
        assert leases.take(1, retrying=False) == []
        end_leases()
        assert not leases.holds(old, seconds=0)
        (new,) = leases.take(1, retrying=False)
        noted = entry(
            old.endpoint,
            dispatcher()._feed.message(1),
            Answer(status=200, error=None, duration_ms=1),
            kind="event",
            at=timezone.now(),
        )
        on_first = old.endpoint.accepted(1, timezone.now())

        assert leases.keep(old, on_first, noted) is None
        assert not leases.give_back(old, on_first, noted)
        leases.release(old, old.endpoint.accepted(3, timezone.now()))
        assert service.webhooks.get(endpoint_id).position == 0
        assert leases.keep(new, on_first, noted)
        assert service.webhooks.get(endpoint_id).position == 1
        assert len(attempts(endpoint_id)) == 3  # all have been attempts

    def test_a_worker_that_was_frozen_between_two_messages_sends_no_second_one(
        self, service, receiver, dispatcher
    ):
        endpoint_id = subscribe(service, receiver)
        happen(3)
        frozen = dispatcher()
        real = frozen._leases.keep

        def freeze(*arguments, **named):
            held = real(*arguments, **named)
            frozen._leases._monotonic = lambda: time.monotonic() + 2 * PATIENT
            return held

        frozen._leases.keep = freeze
        assert frozen.start_due() == 1
        eventually(lambda: service.webhooks.get(endpoint_id).position == 1)
        frozen.finish()

        assert receiver.sequences == [1]

    def test_a_worker_that_died_is_succeeded_when_its_lease_ends(self, service, receiver, dispatcher):
        subscribe(service, receiver)
        sequences = happen(3)
        assert Leases(seconds=600, clock=timezone.now).take(1, retrying=False)

        with delivering(dispatcher()):
            time.sleep(0.1)
            assert receiver.seen == []
            end_leases()
            eventually(lambda: receiver.sequences == sequences)

    def test_it_stops_after_the_message_under_way(self, service, receiver, dispatcher):
        endpoint_id = subscribe(service, receiver)
        receiver.mischief.append("drip_body")
        happen(100)
        one = dispatcher()
        one.start_due()
        eventually(lambda: receiver.taken)

        one.finish()

        assert service.webhooks.get(endpoint_id).position == 1
        assert WebhookEndpoint.objects.get().lease is None


def test_in_everything_at_once_nothing_is_lost(service, people, receiver, dispatcher):
    """Several workers, a writer, a receiver with every kind of mischief that is down for a while and gets a
    new secret in the middle."""
    endpoint_id = subscribe(service, receiver)
    kinds = ["500", "hang", "close", "take_then_close", "redirect", "drip", "nonsense", "drip_body", "503"]
    trouble = kinds * 3
    random.Random(7).shuffle(trouble)
    receiver.mischief.extend(each for kind in trouble for each in (None, kind))
    receiver.hang_seconds = 0.5
    users = [people.user(name) for name in ("Ann", "Bob", "Cem")]

    def write(stop):
        number = 0
        while not stop.is_set():
            number += 1
            for user_id in users:
                service.commands.rename(RenameUser(user_id=user_id, name=f"Name {number}", by=COMMAND_LINE))
            stop.wait(0.05)

    impatient = [dispatcher(timeout=IMPATIENT, turn_seconds=0.3), dispatcher(timeout=IMPATIENT)]
    with delivering(impatient[0]), delivering(impatient[1]):
        with in_background(write):
            eventually(lambda: len(receiver.mischief) < 40)
            receiver.down()
            eventually(lambda: attempts(endpoint_id)[-1][-1] == "connection_failed")
            receiver.up()
            _, secret = service.webhooks.rotate_secret(endpoint_id, by=COMMAND_LINE)
            eventually(lambda: len(receiver.mischief) < 20)
            receiver.secrets = [secret]
            eventually(lambda: not receiver.mischief)
        while outbox.give_sequences(1000):
            pass
        eventually(lambda: service.webhooks.get(endpoint_id).position == last_sequence())

    assert_everything_in_order(receiver, range(1, last_sequence() + 1))
    assert receiver.forged == 0
    assert {error for *_, error in attempts(endpoint_id)} == {
        *(None, "status", "redirect", "timeout", "broken_answer", "connection_failed")
    }
    versions = {}
    for envelope in receiver.taken:
        assert envelope["user_version"] in {versions.get(envelope["user_id"], 0) + i for i in (0, 1)}
        versions[envelope["user_id"]] = envelope["user_version"]


@pytest.mark.soak
def test_a_receiver_that_is_down_for_a_minute(service, receiver, clock):
    """With the real back-off and the real worker."""
    endpoint_id = subscribe(service, receiver)
    with in_background(service.worker().run):
        receiver.down()
        sequences = happen(200)
        time.sleep(60)
        receiver.up()
        eventually(lambda: service.webhooks.get(endpoint_id).position == 200, seconds=70)

    assert_everything_in_order(receiver, sequences)


def test_the_worker_delivers(service, people, receiver):
    subscribe(service, receiver)
    with in_background(service.worker().run):
        people.user("Ann")
        eventually(lambda: receiver.sequences == [1])


def test_the_log_is_forgotten_after_its_days(service, receiver):
    endpoint_id = subscribe(service, receiver)
    service.webhooks.ping(endpoint_id, by=COMMAND_LINE)
    service.webhooks.ping(endpoint_id, by=COMMAND_LINE)
    first = WebhookDelivery.objects.earliest("id")
    WebhookDelivery.objects.filter(id=first.id).update(attempted_at=timezone.now() - timedelta(days=31))

    assert forget_old_deliveries(timezone.now(), days=30) == 1
    assert [each.id for each in service.webhooks.deliveries(endpoint_id, limit=10)] == [first.id + 1]
