"""What admins may do with webhooks, and what deliveries make of an endpoint; in memory."""

import json
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from tests.builders import NOW, an_actor, an_admin, an_operator
from tests.fakes import (
    CountedSecrets,
    InMemoryDeliveryLog,
    InMemoryEndpoints,
    InMemoryFeed,
    ScriptedSender,
    StoppedClock,
)
from users.application.errors import EventNotFound, Forbidden, InvalidWebhook, WebhookNotFound
from users.application.webhook_endpoint import Answer
from users.application.webhooks import (
    EVENT_TYPES,
    SECRET_OVERLAP,
    ChangeEndpoint,
    CreateEndpoint,
    EndpointState,
    Webhooks,
)
from users_domain.errors import VersionMismatch
from users_domain.value_objects import COMMAND_LINE, SYSTEM, Actor

ADMIN = an_actor(an_admin())
URL = "https://hooks.example.com/in"
NOBODY = "01a2046b-5b5e-7bd2-a4d5-6b1c3ad9f0c1"


def good_urls_only(url):
    if not url.startswith("https://"):
        raise InvalidWebhook("url", "scheme", "An address begins with https://.")


class World:
    def __init__(self):
        self.store = InMemoryEndpoints()
        self.log = InMemoryDeliveryLog(self.store)
        self.feed = InMemoryFeed("user.created", "user.blocked", "user.created")
        self.sender = ScriptedSender()
        self.clock = StoppedClock()
        self.counted = []
        self.webhooks = Webhooks(
            store=self.store,
            log=self.log,
            feed=self.feed,
            sender=self.sender,
            secrets=CountedSecrets(),
            check_url=good_urls_only,
            clock=self.clock,
            sent=self.counted.append,
        )

    def endpoint(self, **given):
        view, _ = self.webhooks.create(CreateEndpoint(**({"url": URL, "by": ADMIN} | given)))
        return view

    def change(self, endpoint_id, **given):
        return self.webhooks.change(ChangeEndpoint(**({"endpoint_id": endpoint_id, "by": ADMIN} | given)))

    def fail(self, endpoint_id, *, status=500, hours=0.0):
        """As the dispatcher would note it."""
        self.clock.advance(hours=hours)
        answer = Answer(status=status, error="status", duration_ms=1)
        self.store.change(
            endpoint_id,
            lambda each: each.failed(answer, delay=8, retry_for=timedelta(hours=72), now=self.clock()),
        )
        return self.webhooks.get(endpoint_id)


@pytest.fixture
def world():
    return World()


class TestCreating:
    def test_the_secret_is_shown_this_once_and_stored_sealed(self, world):
        view, secret = world.webhooks.create(CreateEndpoint(url=URL, description=" Billing ", by=ADMIN))

        assert secret == "whsec_1"
        assert world.store.get(view.id).secret == "sealed 1"
        assert secret not in repr(view)
        assert "sealed" not in repr(world.store.get(view.id))
        assert (view.description, view.enabled, view.state, view.version) == ("Billing", True, "active", 1)
        assert view == world.webhooks.get(view.id) == world.webhooks.endpoints()[0]

    def test_it_begins_with_the_next_event_or_where_it_is_told(self, world):
        assert (world.endpoint().position, world.endpoint().waiting) == (3, 0)
        assert (world.endpoint(after=0).position, world.endpoint(after=1).waiting) == (0, 2)

    def test_what_is_waiting_is_what_is_wanted(self, world):
        assert world.endpoint(after=0, event_types=["user.blocked"]).waiting == 1

    def test_event_types_are_kept_in_one_order_and_once(self, world):
        wanted = ["user.blocked", "user.created", "user.blocked"]

        assert world.endpoint(event_types=wanted).event_types == ("user.created", "user.blocked")
        assert set(EVENT_TYPES) > {"user.created", "user.blocked"}

    @pytest.mark.parametrize(
        ("given", "field", "reason"),
        [
            ({"url": "http://x"}, "url", "scheme"),
            ({"event_types": ["user.unheard_of"]}, "event_types", "unknown"),
            ({"event_types": ["webhook.ping"]}, "event_types", "unknown"),
            ({"description": "x" * 201}, "description", "too_long"),
            ({"description": "a\nb"}, "description", "control_characters"),
            ({"after": -1}, "after", "unknown"),
            ({"after": 4}, "after", "unknown"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, world, given, field, reason):
        with pytest.raises(InvalidWebhook) as refused:
            world.endpoint(**given)

        assert (refused.value.field, refused.value.reason) == (field, reason)
        assert world.webhooks.endpoints() == []

    def test_nor_can_it_begin_with_what_is_no_longer_kept(self, world):
        world.feed.pruned = 2

        with pytest.raises(InvalidWebhook, match="still kept is 3"):
            world.endpoint(after=1)
        assert world.endpoint(after=2).waiting == 1


class TestChanging:
    def test_what_is_not_named_stays(self, world):
        old = world.endpoint(description="Old", event_types=["user.created"])

        new = world.change(old.id, url="https://elsewhere.example.com/", expected=[1])

        assert (new.url, new.description, new.event_types) == (
            "https://elsewhere.example.com/",
            "Old",
            ("user.created",),
        )
        assert new.version == 2

    def test_an_empty_list_means_all_again(self, world):
        endpoint = world.endpoint(event_types=["user.created"])

        assert world.change(endpoint.id, event_types=[]).event_types == ()

    def test_another_version_than_expected_changes_nothing(self, world):
        endpoint = world.endpoint()

        with pytest.raises(VersionMismatch, match="webhook"):
            world.change(endpoint.id, enabled=False, expected=[2])
        for act in ("delete", "rotate_secret", "resume"):
            with pytest.raises(VersionMismatch):
                getattr(world.webhooks, act)(endpoint.id, expected=[2], by=ADMIN)
        for act in ("redeliver", "redeliver_since"):
            with pytest.raises(VersionMismatch):
                getattr(world.webhooks, act)(endpoint.id, 1, expected=[2], by=ADMIN)
        assert world.sender.sent == []
        assert world.webhooks.get(endpoint.id) == endpoint

    def test_what_makes_no_sense_is_refused(self, world):
        endpoint = world.endpoint()
        for given in ({"url": "ftp://x"}, {"event_types": ["x"]}, {"description": "x" * 201}):
            with pytest.raises(InvalidWebhook):
                world.change(endpoint.id, **given)
        assert world.webhooks.get(endpoint.id) == endpoint

    @pytest.mark.parametrize("given", [{"enabled": True}, {"url": "https://new.example.com/"}])
    def test_enabling_or_another_address_lets_a_paused_one_try_again(self, world, given):
        endpoint = world.endpoint(after=0)
        assert world.fail(endpoint.id, status=410).state == EndpointState.PAUSED

        tried_again = world.change(endpoint.id, **given)

        assert (tried_again.state, tried_again.position) == (EndpointState.ACTIVE, 0)
        assert tried_again.paused_because is None

    @pytest.mark.parametrize("given", [{}, {"enabled": True}, {"url": URL, "description": ""}])
    def test_where_nothing_differs_the_version_stays(self, world, given):
        endpoint = world.endpoint()
        world.clock.advance(hours=1)

        assert world.change(endpoint.id, **given) == endpoint

    def test_another_description_does_not(self, world):
        endpoint = world.endpoint()
        world.fail(endpoint.id, status=410)

        assert world.change(endpoint.id, description="x", url=URL).state == EndpointState.PAUSED

    def test_a_rotation_keeps_the_old_secret_for_a_while(self, world):
        endpoint = world.endpoint()

        rotated, secret = world.webhooks.rotate_secret(endpoint.id, by=ADMIN)

        stored = world.store.get(endpoint.id)
        assert secret == "whsec_2"
        assert stored.sealed_secrets(NOW) == ["sealed 2", "sealed 1"]
        assert stored.sealed_secrets(NOW + SECRET_OVERLAP) == ["sealed 2"]
        assert rotated.previous_secret_until == NOW + SECRET_OVERLAP
        world.clock.advance(hours=24)
        assert world.webhooks.get(endpoint.id).previous_secret_until is None

    def test_deleted_is_deleted(self, world):
        endpoint = world.endpoint()

        world.webhooks.delete(endpoint.id, expected=[1], by=ADMIN)

        with pytest.raises(WebhookNotFound):
            world.webhooks.get(endpoint.id)


class TestFailing:
    def test_it_is_retried_and_says_when(self, world):
        endpoint = world.endpoint(after=0)

        view = world.fail(endpoint.id)

        assert (view.state, view.failures, view.failing_since) == (EndpointState.RETRYING, 1, NOW)
        assert view.next_attempt_at == NOW + timedelta(seconds=8)
        assert (view.position, view.version) == (0, 1)  # a delivery is no change by an admin

    def test_after_the_time_for_trying_it_is_paused(self, world):
        endpoint = world.endpoint()
        world.fail(endpoint.id)
        assert world.fail(endpoint.id, hours=71.9).state == EndpointState.RETRYING

        view = world.fail(endpoint.id, hours=0.1)

        assert (view.state, view.failures, view.next_attempt_at) == (EndpointState.PAUSED, 3, None)
        assert view.paused_because == "Nothing was accepted since 2026-07-01 12:00 UTC."

    def test_a_disabled_one_is_that_first_of_all(self, world):
        endpoint = world.endpoint()
        world.fail(endpoint.id, status=410)

        assert world.change(endpoint.id, enabled=False).state == EndpointState.DISABLED

    def test_resumed_it_has_the_whole_time_again(self, world):
        endpoint = world.endpoint(after=1)
        world.fail(endpoint.id)
        world.fail(endpoint.id, hours=72)

        view = world.webhooks.resume(endpoint.id, by=ADMIN)

        assert (view.state, view.position, view.failures) == (EndpointState.ACTIVE, 1, 0)
        assert world.fail(endpoint.id, hours=71).state == EndpointState.RETRYING

    def test_resumed_it_goes_on_with_what_is_still_kept(self, world):
        endpoint = world.endpoint(after=0)
        world.feed.pruned = 2

        assert world.webhooks.resume(endpoint.id, by=ADMIN).position == 2


class TestSendingByHand:
    def test_a_ping_is_an_envelope_of_no_user(self, world):
        endpoint = world.endpoint(enabled=False)

        view = world.webhooks.ping(endpoint.id, by=ADMIN)

        ((_, message),) = world.sender.sent
        envelope = json.loads(message.body)
        assert envelope == {
            "event_type": "webhook.ping",
            "event_id": view.event_id,
            "timestamp": "2026-07-01T12:00:00.000000Z",
            "data": {"endpoint_id": endpoint.id},
            "user_id": None,
            "user_version": None,
            "sequence": None,
            "request_id": None,
            "actor_id": ADMIN.id,
        }
        assert (view.kind, view.sequence, view.attempt, view.status, view.error) == (
            "ping",
            None,
            1,
            200,
            None,
        )
        assert len(world.counted) == 1
        assert world.webhooks.ping(endpoint.id, by=ADMIN).event_id != view.event_id

    def test_a_failed_one_is_answered_and_changes_nothing(self, world):
        endpoint = world.endpoint()
        world.sender.answer = Answer(status=None, error="timeout", duration_ms=5000)

        view = world.webhooks.ping(endpoint.id, by=ADMIN)

        assert (view.status, view.error, view.duration_ms) == (None, "timeout", 5000)
        assert world.webhooks.get(endpoint.id) == endpoint

    def test_one_event_again_out_of_turn(self, world):
        endpoint = world.endpoint()

        view = world.webhooks.redeliver(endpoint.id, 2, by=ADMIN)

        assert (view.kind, view.sequence, view.event_type) == ("redelivery", 2, "user.blocked")
        assert world.webhooks.get(endpoint.id) == endpoint

    def test_all_since_one_again(self, world):
        endpoint = world.endpoint()
        world.fail(endpoint.id, status=410)

        view = world.webhooks.redeliver_since(endpoint.id, 2, by=ADMIN)

        assert (view.position, view.waiting, view.state) == (1, 2, EndpointState.ACTIVE)
        assert world.webhooks.redeliver_since(endpoint.id, 3, by=ADMIN).position == 1  # never forward

    @pytest.mark.parametrize("sequence", [0, 1, 4])
    def test_not_what_there_is_not(self, world, sequence):
        endpoint = world.endpoint()
        world.feed.pruned = 1
        for act in (world.webhooks.redeliver, world.webhooks.redeliver_since):
            with pytest.raises(EventNotFound):
                act(endpoint.id, sequence, by=ADMIN)
        assert world.sender.sent == []

    def test_an_endpoint_that_is_deleted_meanwhile_is_not_there(self, world):
        endpoint = world.endpoint()
        world.sender.meanwhile = lambda: world.webhooks.delete(endpoint.id, by=ADMIN)

        with pytest.raises(WebhookNotFound):
            world.webhooks.ping(endpoint.id, by=ADMIN)

    def test_the_log_comes_newest_first_in_pages(self, world):
        endpoint, other = world.endpoint(), world.endpoint()
        ids = [world.webhooks.ping(endpoint.id, by=ADMIN).id for _ in range(3)]
        world.webhooks.ping(other.id, by=ADMIN)

        first = world.webhooks.deliveries(endpoint.id, limit=2)
        rest = world.webhooks.deliveries(endpoint.id, limit=2, before=first[-1].id)

        assert [view.id for view in first + rest] == ids[::-1]


ACTS = {
    "create": lambda webhooks, id_, by: webhooks.create(CreateEndpoint(url=URL, by=by)),
    "change": lambda webhooks, id_, by: webhooks.change(ChangeEndpoint(endpoint_id=id_, by=by)),
    "delete": lambda webhooks, id_, by: webhooks.delete(id_, by=by),
    "rotate": lambda webhooks, id_, by: webhooks.rotate_secret(id_, by=by),
    "resume": lambda webhooks, id_, by: webhooks.resume(id_, by=by),
    "ping": lambda webhooks, id_, by: webhooks.ping(id_, by=by),
    "redeliver": lambda webhooks, id_, by: webhooks.redeliver(id_, 1, by=by),
    "redeliver since": lambda webhooks, id_, by: webhooks.redeliver_since(id_, 1, by=by),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
class TestWho:
    @pytest.mark.parametrize("by", [an_actor(an_operator()), Actor(NOBODY)], ids=["operator", "user"])
    def test_only_admins_may(self, world, act, by):
        endpoint = world.endpoint()

        with pytest.raises(Forbidden):
            act(world.webhooks, endpoint.id, by)
        assert world.webhooks.endpoints() == [endpoint]
        assert world.sender.sent == []

    @pytest.mark.parametrize("by", [ADMIN, COMMAND_LINE, SYSTEM], ids=["admin", "cli", "system"])
    def test_those_do(self, world, act, by):
        act(world.webhooks, world.endpoint().id, by)

    @pytest.mark.parametrize("id_", [NOBODY, "", "x", "'", "1" * 300])
    def test_an_id_that_is_none_names_nobody(self, world, act, id_):
        if act is ACTS["create"]:
            return
        with pytest.raises(WebhookNotFound):
            act(world.webhooks, id_, ADMIN)


def test_every_field_of_an_endpoint_is_either_shown_or_secret(world):
    endpoint = world.store.get(world.endpoint().id)
    shown = {field.name for field in fields(endpoint.view(waiting=0, now=NOW))}

    assert {field.name for field in fields(endpoint)} - shown == {"secret", "previous_secret"}
    assert replace(endpoint) == endpoint
