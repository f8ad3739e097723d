"""The endpoints and the delivery log in PostgreSQL, as admins use them."""

from dataclasses import fields, replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.builders import NOW
from tests.fakes import InMemoryEndpoints
from tests.together import together
from tests.webhook_deliveries import happen
from users.application.errors import EventNotFound, WebhookNotFound
from users.application.webhook_endpoint import Endpoint
from users.application.webhooks import ChangeEndpoint, CreateEndpoint
from users.infrastructure.webhooks.signing import SealedSecrets
from users.infrastructure.webhooks.store import DatabaseEndpoints, forget_old_secrets, renew_seals
from users.models import OutboxEvent, WebhookDelivery, WebhookEndpoint
from users_domain.errors import VersionMismatch
from users_domain.value_objects import COMMAND_LINE

NOWHERE = "http://127.0.0.1:1/hook"
NOBODY = "01a2046b-5b5e-7bd2-a4d5-6b1c3ad9f0c1"


@pytest.fixture
def webhooks(service):
    return service.webhooks


@pytest.fixture
def endpoint(webhooks):
    return webhooks.create(CreateEndpoint(url=NOWHERE, by=COMMAND_LINE))[0]


STORED = Endpoint(
    id=NOBODY,
    url=NOWHERE,
    description="Billing",
    event_types=("user.created", "user.blocked"),
    secret="sealed",
    previous_secret="sealed before",
    previous_secret_until=NOW,
    enabled=False,
    position=7,
    failures=3,
    failing_since=NOW + timedelta(seconds=1),
    next_attempt_at=NOW + timedelta(seconds=2),
    paused_at=NOW + timedelta(seconds=3),
    paused_because="Why.",
    created_at=NOW + timedelta(seconds=4),
    updated_at=NOW + timedelta(seconds=5),
    version=9,
)


@pytest.fixture(params=[DatabaseEndpoints, InMemoryEndpoints])
def store(database, request):
    """The real one, and the fake that unit tests believe."""
    return request.param()


class TestStore:
    def test_what_is_stored_comes_back_whole(self, store):
        defaults = {field.name: field.default for field in fields(STORED)}
        assert not any(getattr(STORED, name) == default for name, default in defaults.items())

        store.add(STORED)

        assert store.get(NOBODY) == store.get(NOBODY.upper()) == STORED
        changed = store.change(NOBODY, lambda each: replace(each, position=8, paused_at=None))
        assert changed == replace(STORED, position=8, paused_at=None)
        assert store.all() == [changed]

    def test_they_come_oldest_first(self, store):
        younger = replace(STORED, id=str(uuid7()), created_at=STORED.created_at + timedelta(days=1))
        store.add(STORED)
        store.add(younger)

        assert store.all() == [STORED, younger]

    def test_what_is_refused_stays(self, store):
        def refuse(endpoint):
            raise VersionMismatch

        store.add(STORED)
        for act in (store.change, store.delete):
            with pytest.raises(VersionMismatch):
                act(NOBODY, refuse)
        assert store.get(NOBODY) == STORED

    def test_what_is_not_there_cannot_be_had(self, store):
        store.add(STORED)
        store.delete(NOBODY, lambda each: each)

        for act in (store.get, lambda id_: store.change(id_, None), lambda id_: store.delete(id_, None)):
            with pytest.raises(WebhookNotFound):
                act(NOBODY)


@pytest.mark.parametrize(
    "endpoint_id", [NOBODY, "", "x", "1" * 300, "{" + NOBODY + "}", NOBODY.replace("-", "")]
)
def test_an_id_that_is_none_names_nobody(webhooks, endpoint, endpoint_id):
    for read in (webhooks.get, lambda id_: webhooks.deliveries(id_, limit=1)):
        with pytest.raises(WebhookNotFound):
            read(endpoint_id)
    with pytest.raises(WebhookNotFound):
        webhooks.resume(endpoint_id, by=COMMAND_LINE)


def test_the_secret_is_not_to_be_read_in_the_table(webhooks):
    view, secret = webhooks.create(CreateEndpoint(url=NOWHERE, by=COMMAND_LINE))
    _, second = webhooks.rotate_secret(view.id, by=COMMAND_LINE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT webhook_endpoints::text FROM webhook_endpoints")
        (row,) = cursor.fetchone()

    row_of = WebhookEndpoint.objects.get()
    box = SealedSecrets([settings.SECRET_KEY])
    assert secret.removeprefix("whsec_") not in row
    assert second.removeprefix("whsec_") not in row
    assert (box.open(row_of.secret), box.open(row_of.previous_secret)) == (second, secret)


def test_after_the_key_has_changed_secrets_are_sealed_anew_and_nothing_else_is_touched(webhooks):
    view, first = webhooks.create(CreateEndpoint(url=NOWHERE, by=COMMAND_LINE))
    view, second = webhooks.rotate_secret(view.id, by=COMMAND_LINE)

    renew_seals(DatabaseEndpoints(), SealedSecrets(["new key", settings.SECRET_KEY]))

    row, box = WebhookEndpoint.objects.get(), SealedSecrets(["new key"])
    assert (box.open(row.secret), box.open(row.previous_secret)) == (second, first)
    assert webhooks.get(view.id) == view


def test_a_secret_that_signs_no_more_is_not_kept(webhooks, endpoint):
    webhooks.rotate_secret(endpoint.id, by=COMMAND_LINE)
    assert forget_old_secrets(timezone.now() + timedelta(hours=23)) == 0

    assert forget_old_secrets(timezone.now() + timedelta(hours=25)) == 1

    row = WebhookEndpoint.objects.get()
    assert (row.previous_secret, row.previous_secret_until, row.version) == (None, None, 2)


def test_of_several_who_rotate_the_same_version_one_does(webhooks, endpoint):
    outcomes = together(
        [lambda: webhooks.rotate_secret(endpoint.id, expected=[endpoint.version], by=COMMAND_LINE)] * 4
    )

    assert sum(isinstance(each, VersionMismatch) for each in outcomes) == 3
    assert webhooks.get(endpoint.id).version == 2


def test_a_redelivery_and_a_ping_are_in_the_log_and_move_nothing(webhooks, endpoint):
    happen(2)

    again = webhooks.redeliver(endpoint.id, 2, by=COMMAND_LINE)
    ping = webhooks.ping(endpoint.id, by=COMMAND_LINE)

    assert webhooks.deliveries(endpoint.id, limit=10) == [ping, again]
    assert webhooks.deliveries(endpoint.id, limit=10, before=ping.id) == [again]
    assert (again.error, again.status, again.sequence) == ("connection_failed", None, 2)
    assert again.event_id == str(OutboxEvent.objects.get(sequence=2).event_id)
    assert webhooks.get(endpoint.id).position == 0


def test_what_waits_is_counted_up_to_a_thousand(webhooks, endpoint):
    happen(1010)
    webhooks.change(ChangeEndpoint(endpoint_id=endpoint.id, description="x", by=COMMAND_LINE))

    assert webhooks.get(endpoint.id).waiting == 1000
    happen(3, "user.blocked")
    view = webhooks.change(
        ChangeEndpoint(endpoint_id=endpoint.id, event_types=["user.blocked"], by=COMMAND_LINE)
    )
    assert view.waiting == 3


def test_an_event_that_has_no_sequence_yet_cannot_be_asked_for(webhooks, endpoint):
    happen(1)
    for sequence in (0, 2, 2**63 - 1):
        with pytest.raises(EventNotFound):
            webhooks.redeliver(endpoint.id, sequence, by=COMMAND_LINE)


def test_deleted_it_is_gone_with_its_log(webhooks, endpoint):
    webhooks.ping(endpoint.id, by=COMMAND_LINE)

    webhooks.delete(endpoint.id, by=COMMAND_LINE)

    assert not WebhookEndpoint.objects.exists()
    assert not WebhookDelivery.objects.exists()


def test_of_two_who_change_the_same_version_one_is_told(webhooks, endpoint):
    def change(text):
        return lambda: webhooks.change(
            ChangeEndpoint(endpoint_id=endpoint.id, description=text, expected=[1], by=COMMAND_LINE)
        )

    outcomes = together([change(str(number)) for number in range(4)])

    assert sum(isinstance(outcome, VersionMismatch) for outcome in outcomes) == 3
    assert webhooks.get(endpoint.id).version == 2


def test_a_refused_change_leaves_no_lock(webhooks, endpoint):
    with pytest.raises(VersionMismatch):
        webhooks.delete(endpoint.id, expected=[5], by=COMMAND_LINE)
    assert WebhookEndpoint.objects.filter(id=endpoint.id).update(updated_at=timezone.now()) == 1
