"""The admins' pages about webhooks, as a browser without JavaScript sees them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from tests.browser import Browser, text, told
from tests.fixtures import People
from tests.together import together
from tests.webhook_receiver import Receiver
from users.application.webhooks import ChangeEndpoint, CreateEndpoint, EndpointView
from users.models import WebhookDelivery, WebhookEndpoint
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE

LIST = "/admin/users/webhookendpoint/"
NOWHERE = "http://127.0.0.1:1/hooks"
ACTIONS = ["ping", "resume", "rotate", "redeliver", "delete"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().up()
    yield receiver
    receiver.down()


@pytest.fixture
def endpoint(service: Service) -> EndpointView:
    return made(service, NOWHERE)


def made(service: Service, url: str, receiver: Receiver | None = None, **fields: Any) -> EndpointView:
    view, secret = service.webhooks.create(CreateEndpoint(url=url, by=COMMAND_LINE, **fields))
    if receiver:
        receiver.secrets.append(secret)
    return view


def page(endpoint: EndpointView, action: str = "change") -> str:
    return f"{LIST}{endpoint.id}/{action}/"


def settings_of(endpoint: EndpointView, **changes: Any) -> dict[str, Any]:
    """The fields of the form as the page shows them, but for the changes; a box that is not ticked is not
    sent."""
    fields = {
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": list(endpoint.event_types),
        "enabled": "on" if endpoint.enabled else None,
        "version": endpoint.version,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def secret_on(response: Any) -> str:
    found = re.search(r'class="secret">(whsec_[^<]+)<', response.content.decode())
    assert found, text(response)
    return found[1]


# --- Who may ---------------------------------------------------------------------------------------


def test_an_operator_neither_sees_nor_does_anything(
    browser: Browser, service: Service, endpoint: EndpointView
) -> None:
    assert "Webhook" not in text(browser.get("/admin/"))
    token = browser.client.cookies["csrftoken"].value
    for path in (LIST, f"{LIST}add/", *(page(endpoint, name) for name in ("change", "history", *ACTIONS))):
        assert browser.get(path).status_code == 403, path
        fields = {**settings_of(endpoint, url="http://127.0.0.1:1/evil"), "sequence": 1, "scope": "since"}
        sent = browser.client.post(path, {"csrfmiddlewaretoken": token, **fields})
        assert sent.status_code == 403, path
    assert service.webhooks.endpoints() == [endpoint]
    assert not WebhookDelivery.objects.exists()


def test_strangers_are_led_to_the_login(endpoint: EndpointView) -> None:
    for path in (LIST, f"{LIST}add/", page(endpoint), page(endpoint, "rotate")):
        assert Browser().get(path).redirect_chain[-1][0].startswith("/admin/login/"), path


def test_a_post_from_another_site_is_refused(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    for path in (f"{LIST}add/", *(page(endpoint, name) for name in ("change", *ACTIONS))):
        assert boss.client.post(path, settings_of(endpoint, url="http://127.0.0.1:1/x")).status_code == 403
    assert service.webhooks.endpoints() == [endpoint]


@pytest.mark.parametrize("action", ACTIONS)
def test_looking_does_nothing(boss: Browser, service: Service, endpoint: EndpointView, action: str) -> None:
    assert boss.get(page(endpoint, action)).status_code == 200
    assert service.webhooks.endpoints() == [endpoint]
    assert not WebhookDelivery.objects.exists()


@pytest.mark.parametrize("named", ["01a204ac-7212-774f-823f-1966cb49b3f2", "nonsense", "%00"])
@pytest.mark.parametrize("action", ["change", *ACTIONS])
def test_what_is_not_there_leads_back_to_the_list(boss: Browser, named: str, action: str) -> None:
    shown = boss.get(f"{LIST}{named}/{action}/")
    assert told(shown) == ["There is no such webhook."]
    assert shown.redirect_chain[-1][0] == LIST


# --- Looking ---------------------------------------------------------------------------------------


def test_the_list_without_webhooks_says_so(boss: Browser) -> None:
    assert "No events are sent anywhere yet." in text(boss.get(LIST))


def test_the_list_shows_what_matters(boss: Browser, service: Service, people: People) -> None:
    people.user("Ann")
    made(service, NOWHERE, description="<b>Orders</b>", event_types=["user.blocked"])
    behind = made(service, "http://127.0.0.1:1/other", after=0)
    WebhookEndpoint.objects.filter(id=behind.id).update(failures=2, failing_since="2026-01-31T09:30:00Z")
    shown = text(boss.get(LIST))
    assert f"{NOWHERE} <b>Orders</b> user.blocked active {behind.waiting} 0 –" in shown
    row = f"http://127.0.0.1:1/other – all retrying 0 {behind.waiting} 2026-01-31 09:30:00 UTC"
    assert behind.waiting > 1
    assert row in shown


def test_a_page_shows_state_settings_and_log(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    assert "Nothing has been sent yet" in text(boss.get(page(endpoint)))
    service.webhooks.redeliver(endpoint.id, 1, by=COMMAND_LINE)
    WebhookEndpoint.objects.update(paused_at=timezone.now(), paused_because="The receiver answered 410 Gone.")
    shown = boss.get(page(endpoint))
    assert "State: paused" in text(shown)
    assert "The receiver answered 410 Gone." in text(shown)
    assert re.search(r"redelivery user\.created 1 1 – \d+ ms connection failed Send again…", text(shown))
    assert "whsec_" not in shown.content.decode()


def test_nothing_of_the_secret_is_kept_but_sealed(boss: Browser) -> None:
    secret = secret_on(boss.send(f"{LIST}add/", url=NOWHERE)).removeprefix("whsec_")
    assert secret not in text(boss.get(LIST))
    kept = [str(session.get_decoded()) for session in Session.objects.all()]
    kept += [str(row) for row in WebhookEndpoint.objects.values_list()]
    kept += [str(row) for row in LogEntry.objects.values_list()]
    assert kept
    assert not any(secret in each for each in kept)
    assert not any(secret in cookie.value for cookie in boss.client.cookies.values())


# --- Settings --------------------------------------------------------------------------------------


def test_adding_one_shows_its_secret_to_nobody_else(
    boss: Browser, service: Service, receiver: Receiver
) -> None:
    shown = boss.send(
        f"{LIST}add/",
        url=receiver.url,
        description="Orders",
        event_types=["user.blocked", "user.unblocked"],
        enabled="on",
        after="0",
    )
    assert shown.status_code == 200
    assert "no-store" in shown["Cache-Control"]
    receiver.secrets.append(secret_on(shown))
    (view,) = service.webhooks.endpoints()
    assert (view.url, view.description, view.position, view.enabled) == (receiver.url, "Orders", 0, True)
    assert view.event_types == ("user.blocked", "user.unblocked")
    assert service.webhooks.ping(view.id, by=COMMAND_LINE).error is None
    assert LogEntry.objects.get().user.email == "boss@example.com"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": ""}, "This field is required."),
        ({"url": "orders"}, "An address begins with https://."),
        ({"event_types": ["user.promoted"]}, "user.promoted is not one of the available choices"),
        ({"description": "x" * 201}, "at most 200 characters"),
    ],
)
def test_what_is_no_setting_is_told_at_its_field_and_changes_nothing(
    boss: Browser, service: Service, endpoint: EndpointView, changes: dict[str, Any], message: str
) -> None:
    for path in (f"{LIST}add/", page(endpoint)):
        shown = boss.send(path, **settings_of(endpoint, **changes))
        assert message in text(shown)
        (field,) = shown.context["form"].errors
        assert field == next(iter(changes))
    assert service.webhooks.endpoints() == [endpoint]


def test_a_beginning_that_is_not_there_is_told_at_its_field(boss: Browser, service: Service) -> None:
    shown = boss.send(f"{LIST}add/", url=NOWHERE, after="99999")
    assert list(shown.context["form"].errors) == ["after"]
    assert service.webhooks.endpoints() == []


def test_settings_are_changed(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    fields = settings_of(endpoint, description="New", event_types=["user.blocked"], enabled=None)
    assert told(boss.send(page(endpoint), **fields)) == ["Saved."]
    after = service.webhooks.get(endpoint.id)
    assert (after.url, after.description, after.event_types) == (endpoint.url, "New", ("user.blocked",))
    assert (after.enabled, after.version) == (False, 2)
    assert LogEntry.objects.get().change_message == "Changed: description, event_types, enabled."


def test_another_description_alone_does_not_resume_what_is_paused(
    boss: Browser, service: Service, endpoint: EndpointView
) -> None:
    WebhookEndpoint.objects.update(paused_at=timezone.now(), paused_because="gone", failures=3)
    boss.send(page(endpoint), **settings_of(endpoint, description="New"))
    after = service.webhooks.get(endpoint.id)
    assert (after.description, after.state, after.failures) == ("New", "paused", 3)


@pytest.mark.parametrize("action", ["change", "rotate", "delete"])
def test_a_page_that_is_out_of_date_changes_nothing(
    boss: Browser, service: Service, endpoint: EndpointView, action: str
) -> None:
    newer = service.webhooks.change(
        ChangeEndpoint(endpoint_id=endpoint.id, description="theirs", by=COMMAND_LINE)
    )
    shown = boss.send(page(endpoint, action), **settings_of(endpoint, description="mine"))
    assert "It has been changed meanwhile" in text(shown)
    assert service.webhooks.get(endpoint.id) == newer


def test_one_is_deleted_after_a_question(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    assert "deleted with its log" in text(boss.get(page(endpoint, "delete")))
    assert told(boss.send(page(endpoint, "delete"), version=1)) == ["Deleted."]
    assert service.webhooks.endpoints() == []


# --- Acting ----------------------------------------------------------------------------------------


def test_a_new_secret_is_shown_once_and_the_same_form_makes_no_third(
    boss: Browser, service: Service, receiver: Receiver
) -> None:
    endpoint = made(service, receiver.url, receiver)
    first = receiver.secrets.pop()
    second = secret_on(boss.send(page(endpoint, "rotate"), version=1))
    assert second != first
    for secret in (first, second):
        receiver.secrets = [secret]
        assert service.webhooks.ping(endpoint.id, by=COMMAND_LINE).error is None
    again = boss.send(page(endpoint, "rotate"), version=1)
    assert "It has been changed meanwhile: look at it again." in told(again)
    assert service.webhooks.get(endpoint.id).version == 2


def test_of_forms_sent_at_once_one_rotates(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    boss.get(page(endpoint, "rotate"))
    fields = {"version": 1, "csrfmiddlewaretoken": boss.client.cookies["csrftoken"].value}

    def post() -> int:
        client = Client(SERVER_NAME="localhost")
        client.cookies = boss.client.cookies
        return client.post(page(endpoint, "rotate"), fields).status_code

    assert sorted(together([post] * 4)) == [200, 302, 302, 302]
    assert service.webhooks.get(endpoint.id).version == 2


def press(boss: Browser, endpoint: EndpointView, action: str) -> Any:
    """A button on the webhook's page."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', boss.get(page(endpoint)).content.decode())
    assert token
    return boss.client.post(page(endpoint, action), {"csrfmiddlewaretoken": token[1]}, follow=True)


def test_a_ping_tells_what_came_of_it(boss: Browser, service: Service, receiver: Receiver) -> None:
    endpoint = made(service, receiver.url, receiver)
    (message,) = told(press(boss, endpoint, "ping"))
    assert re.fullmatch(r"Ping: accepted with 204 in \d+ ms\.", message)
    receiver.always = "500"
    assert told(press(boss, endpoint, "ping")) == ["Ping: refused with 500."]
    receiver.down()
    shown = press(boss, endpoint, "ping")
    assert told(shown) == ["Ping: connection failed."]
    assert len(re.findall("ping webhook.ping", text(shown))) == 3
    assert [envelope["event_type"] for envelope in receiver.taken] == ["webhook.ping"]


def test_what_is_paused_is_resumed(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    assert "Resume" not in text(boss.get(page(endpoint)))
    WebhookEndpoint.objects.update(paused_at=timezone.now(), paused_because="gone", failures=3)
    assert "Resume" in text(boss.get(page(endpoint)))
    assert told(press(boss, endpoint, "resume")) == ["Resumed: it is tried again at once."]
    assert service.webhooks.get(endpoint.id).state == "active"


def test_one_event_is_sent_again(boss: Browser, service: Service, receiver: Receiver) -> None:
    endpoint = made(service, receiver.url, receiver)
    shown = boss.get(page(endpoint, "redeliver"), sequence=1)
    assert 'value="1"' in shown.content.decode(), "from the log's link"
    (message,) = told(boss.send(page(endpoint, "redeliver"), sequence=1, scope="one"))
    assert message.startswith("Event 1: accepted with 204")
    assert receiver.sequences == [1]


def test_all_since_an_event_are_sent_again(boss: Browser, service: Service, endpoint: EndpointView) -> None:
    assert endpoint.position > 1
    shown = boss.send(page(endpoint, "redeliver"), sequence=1, scope="since")
    assert told(shown) == ["All since 1 will be sent again."]
    assert service.webhooks.get(endpoint.id).position == 0


@pytest.mark.parametrize(
    "fields", [{}, {"sequence": 99999}, {"sequence": 0}, {"sequence": 1, "scope": "all"}]
)
def test_what_cannot_be_sent_again_is_told(
    boss: Browser, service: Service, endpoint: EndpointView, fields: dict[str, Any]
) -> None:
    shown = boss.send(page(endpoint, "redeliver"), **{"scope": "one", **fields})
    assert shown.context["form"].errors
    assert service.webhooks.get(endpoint.id) == endpoint
    assert not WebhookDelivery.objects.exists()


def test_what_admins_did_is_on_record_without_the_address(boss: Browser, service: Service) -> None:
    endpoint = made(service, "http://127.0.0.1:1/hooks/token-4711")
    press(boss, endpoint, "ping")
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.change_message) == ("127.0.0.1", "Sent a test ping.")
    assert "Sent a test ping." in text(boss.get(page(endpoint, "history")))


@pytest.mark.parametrize(
    "url", [f"http://{'.'.join(['a' * 60] * 4)}/", "http://a]b/", f"http://{'a' * 300}/", "http://[::1"]
)
def test_that_record_takes_every_host(boss: Browser, endpoint: EndpointView, url: str) -> None:
    """Also one that was stored when addresses were looked at less closely."""
    WebhookEndpoint.objects.update(url=url)
    boss.send(page(endpoint, "delete"), version=1)
    assert LogEntry.objects.count() == 1
