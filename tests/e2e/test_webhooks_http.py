"""The endpoints about webhooks: what admins make, change and send, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse

from tests.e2e.answers import TIME, UUID7, faults, problem, results
from tests.fixtures import Api, People
from tests.webhook_receiver import Receiver
from users.models import WebhookEndpoint

NOWHERE = "http://127.0.0.1:1/hooks"
NOBODY = "01890000-0000-7000-8000-000000000000"
FIELDS = [
    "id",
    "url",
    "description",
    "event_types",
    "enabled",
    "state",
    "position",
    "waiting",
    "failures",
    "failing_since",
    "next_attempt_at",
    "paused",
    "previous_secret_until",
    "created_at",
    "updated_at",
    "version",
]
DELIVERY_FIELDS = [
    "id",
    "kind",
    "event_id",
    "event_type",
    "sequence",
    "attempt",
    "attempted_at",
    "duration_ms",
    "status",
    "error",
]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().up()
    yield receiver
    receiver.down()


def webhook(response: HttpResponse, status: int = 200, *, secret: bool = False) -> dict[str, Any]:
    """The webhook in the body, having made sure that it is a whole one, with its headers."""
    assert response.status_code == status, response.content
    body: dict[str, Any] = response.json()
    assert list(body) == FIELDS + (["secret"] if secret else [])
    assert UUID7.fullmatch(body["id"])
    assert TIME.fullmatch(body["created_at"])
    assert TIME.fullmatch(body["updated_at"])
    assert response["ETag"] == f'"{body["version"]}"'
    assert response["Cache-Control"] == "no-store"
    return body


def delivery(response: HttpResponse) -> dict[str, Any]:
    assert response.status_code == 200, response.content
    body: dict[str, Any] = response.json()
    assert list(body) == DELIVERY_FIELDS
    assert UUID7.fullmatch(body["event_id"])
    assert TIME.fullmatch(body["attempted_at"])
    return body


def made(admin: Api, url: str = NOWHERE, **fields: Any) -> str:
    """A new webhook's address."""
    answer = admin("POST", "/webhooks", {"url": url, **fields})
    return f"/webhooks/{webhook(answer, 201, secret=True)['id']}"


def received_by(admin: Api, receiver: Receiver, **fields: Any) -> str:
    """The address of a new webhook, whose secret the receiver knows."""
    body = webhook(admin("POST", "/webhooks", {"url": receiver.url, **fields}), 201, secret=True)
    receiver.secrets.append(body["secret"])
    return f"/webhooks/{body['id']}"


def last_sequence(admin: Api) -> int:
    return int(results(admin("GET", "/events?limit=100"))[-1]["sequence"])


# --- Adding and reading --------------------------------------------------------------------------------


def test_a_new_webhook_comes_with_its_secret_and_never_again(admin: Api) -> None:
    answer = admin("POST", "/webhooks", {"url": NOWHERE})
    body = webhook(answer, 201, secret=True)
    secret = body.pop("secret")
    assert secret.startswith("whsec_")
    assert answer["Location"] == f"/webhooks/{body['id']}"
    assert webhook(admin("GET", answer["Location"])) == body
    assert results(admin("GET", "/webhooks")) == [body]
    for path in ("/webhooks", answer["Location"], f"{answer['Location']}/deliveries"):
        assert secret.removeprefix("whsec_") not in admin("GET", path).content.decode()


def test_a_new_webhook_is_as_it_was_asked_for(admin: Api) -> None:
    asked = {
        "url": "http://127.0.0.1:1/here?who=me",
        "description": " The orders ",
        "event_types": ["user.unblocked", "user.blocked"],
        "enabled": False,
        "after": 0,
    }
    body = webhook(admin("POST", "/webhooks", asked), 201, secret=True)
    assert body["url"] == asked["url"]
    assert body["description"] == "The orders"
    assert set(body["event_types"]) == {"user.blocked", "user.unblocked"}
    assert (body["enabled"], body["state"], body["position"], body["version"]) == (False, "disabled", 0, 1)
    assert (body["paused"], body["failing_since"], body["next_attempt_at"]) == (None, None, None)


def test_it_begins_with_the_next_event_or_where_it_is_told(people: People, admin: Api) -> None:
    people.user("Ann")
    last = last_sequence(admin)
    now = webhook(admin("GET", made(admin, after=None)))
    assert (now["position"], now["waiting"]) == (last, 0)
    behind = webhook(admin("GET", made(admin, after=1)))
    assert (behind["position"], behind["waiting"]) == (1, last - 1)
    assert faults(admin("POST", "/webhooks", {"url": NOWHERE, "after": last + 1})) == {("after", "unknown")}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": None}, "url"),
        ({"url": 5}, "url"),
        ({"url": ""}, "url"),
        ({"url": "orders"}, "url"),
        ({"url": "ftp://127.0.0.1/x"}, "url"),
        ({"url": "http://"}, "url"),
        ({"url": "https://xn--a/"}, "url"),
        ({"url": "http://127.0.0.1/" + "x" * 2000}, "url"),
        ({"description": None}, "description"),
        ({"description": "x" * 201}, "description"),
        ({"description": "a\x07b"}, "description"),
        ({"event_types": "user.blocked"}, "event_types"),
        ({"event_types": ["user.promoted"]}, "event_types"),
        ({"event_types": ["user.blocked"] * 2}, "event_types"),
        ({"event_types": [None]}, "event_types.0"),
        ({"enabled": "true"}, "enabled"),
        ({"enabled": 1}, "enabled"),
        ({"enabled": None}, "enabled"),
        ({"secret": "whsec_mine"}, "secret"),
        ({"position": 0}, "position"),
    ],
)
def test_what_is_no_setting_is_refused_and_changes_nothing(
    admin: Api, changes: dict[str, object], field: str
) -> None:
    path = made(admin)
    before = admin("GET", "/webhooks").json()
    assert {at for at, _ in faults(admin("POST", "/webhooks", {"url": NOWHERE} | changes))} == {field}
    assert {at for at, _ in faults(admin("PATCH", path, changes))} == {field}
    assert admin("GET", "/webhooks").json() == before


@pytest.mark.parametrize("after", [-1, "0", 1.5, True, [], 2**63])
def test_after_is_a_sequence(admin: Api, after: object) -> None:
    assert {at for at, _ in faults(admin("POST", "/webhooks", {"url": NOWHERE, "after": after}))} == {"after"}
    assert results(admin("GET", "/webhooks")) == []


def test_a_url_is_needed(admin: Api) -> None:
    assert faults(admin("POST", "/webhooks", {})) == {("url", "required")}


def test_whoever_has_the_version_gets_no_body(admin: Api) -> None:
    path = made(admin)
    answer = admin("GET", path, if_none_match='"1"')
    assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", '"1"')
    admin("PATCH", path, {"description": "new"})
    assert webhook(admin("GET", path, if_none_match='"1"'))["version"] == 2


def test_reading_takes_no_parameters_that_do_not_exist(admin: Api) -> None:
    path = made(admin)
    for address in ("/webhooks", path, f"{path}/deliveries"):
        assert faults(admin("GET", f"{address}?state=paused")) == {("state", "unknown")}


# --- Changing and deleting -----------------------------------------------------------------------------


def test_a_change_changes_what_it_names_and_nothing_else(admin: Api) -> None:
    path = made(admin, description="Orders", event_types=["user.blocked"])
    before = webhook(admin("GET", path))
    after = webhook(admin("PATCH", path, {"event_types": [], "enabled": False}))
    changed = {"event_types": [], "enabled": False, "state": "disabled", "version": 2}
    assert after == before | changed | {"updated_at": after["updated_at"], "waiting": after["waiting"]}
    assert after["updated_at"] > before["updated_at"]
    assert webhook(admin("GET", path)) == after


@pytest.mark.parametrize(
    ("tag", "refusal"),
    [
        ('"1"', None),
        ("*", None),
        ('"7", "1"', None),
        ('"2"', "version_mismatch"),
        ('W/"1"', "version_mismatch"),
        ("1", "invalid_request"),
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_match_is_honoured(admin: Api, method: str, tag: str, refusal: str | None) -> None:
    path = made(admin)
    body = {"description": "new"} if method == "PATCH" else None
    answer = admin(method, path, body, if_match=tag)
    if refusal:
        problem(answer, refusal)
        assert webhook(admin("GET", path))["version"] == 1
    else:
        assert answer.status_code == {"PATCH": 200, "DELETE": 204}[method]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_if_match_may_be_demanded(admin: Api, settings: Any, method: str) -> None:
    path = made(admin)
    settings.REQUIRE_IF_MATCH = True
    problem(admin(method, path, {"enabled": False} if method == "PATCH" else None), "precondition_required")
    assert webhook(admin("GET", path))["enabled"] is True


@pytest.mark.parametrize(
    ("command", "body"),
    [("rotate-secret", {}), ("resume", {}), ("redeliver", {"since": 1}), ("redeliver", {"sequence": 1})],
)
def test_so_is_it_by_commands(
    people: People, admin: Api, settings: Any, command: str, body: dict[str, Any]
) -> None:
    path = made(admin)
    last_sequence(admin)
    problem(admin("POST", f"{path}/{command}", body, if_match='"2"'), "version_mismatch")
    assert admin("POST", f"{path}/{command}", body, if_match='"1"').status_code == 200
    settings.REQUIRE_IF_MATCH = True
    problem(admin("POST", f"{path}/{command}", body), "precondition_required")


def test_a_deleted_webhook_is_gone_with_its_log(admin: Api) -> None:
    path = made(admin)
    admin("POST", f"{path}/ping")
    answer = admin("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    problem(admin("GET", path), "webhook_not_found")
    problem(admin("DELETE", path), "webhook_not_found")
    assert results(admin("GET", "/webhooks")) == []


# --- Secrets -------------------------------------------------------------------------------------------


def test_a_rotation_gives_another_secret_and_lets_the_old_one_sign_on(admin: Api, receiver: Receiver) -> None:
    path = received_by(admin, receiver)
    rotated = webhook(admin("POST", f"{path}/rotate-secret"), secret=True)
    (first,) = receiver.secrets
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != first
    assert TIME.fullmatch(rotated["previous_secret_until"])
    assert webhook(admin("GET", path))["previous_secret_until"] == rotated["previous_secret_until"]
    for secret in (first, rotated["secret"]):
        receiver.secrets = [secret]
        assert delivery(admin("POST", f"{path}/ping"))["error"] is None
    receiver.secrets = ["whsec_" + "A" * 32]
    assert delivery(admin("POST", f"{path}/ping"))["status"] == 401


# --- Sending -------------------------------------------------------------------------------------------


def test_a_ping_is_sent_at_once_and_its_outcome_told_and_logged(admin: Api, receiver: Receiver) -> None:
    path = received_by(admin, receiver, enabled=False)
    sent = delivery(admin("POST", f"{path}/ping"))
    assert (sent["kind"], sent["event_type"], sent["sequence"]) == ("ping", "webhook.ping", None)
    assert (sent["status"], sent["error"]) == (204, None)
    assert [envelope["event_id"] for envelope in receiver.taken] == [sent["event_id"]]
    assert [headers["webhook-id"] for headers in receiver.seen] == [sent["event_id"]]
    assert results(admin("GET", f"{path}/deliveries")) == [sent]


def test_a_ping_that_fails_is_an_answer_too(admin: Api, receiver: Receiver) -> None:
    path = received_by(admin, receiver)
    receiver.always = "500"
    failed = delivery(admin("POST", f"{path}/ping"))
    assert (failed["status"], failed["error"]) == (500, "status")
    admin("PATCH", path, {"url": NOWHERE})
    unheard = delivery(admin("POST", f"{path}/ping"))
    assert (unheard["status"], unheard["error"]) == (None, "connection_failed")
    assert results(admin("GET", f"{path}/deliveries")) == [unheard, failed]


def test_one_event_is_sent_again_out_of_turn(people: People, admin: Api, receiver: Receiver) -> None:
    people.user("Ann")
    path, event = received_by(admin, receiver), results(admin("GET", "/events?limit=100"))[-1]
    sent = delivery(admin("POST", f"{path}/redeliver", {"sequence": event["sequence"]}))
    assert (sent["kind"], sent["event_id"], sent["sequence"]) == (
        "redelivery",
        event["event_id"],
        event["sequence"],
    )
    assert receiver.taken == [event]
    assert webhook(admin("GET", path))["position"] == event["sequence"]


def test_all_since_an_event_are_sent_again_by_going_back(people: People, admin: Api) -> None:
    people.user("Ann")
    path, last = made(admin), last_sequence(admin)
    back = webhook(admin("POST", f"{path}/redeliver", {"since": 2}))
    assert (back["position"], back["waiting"]) == (1, last - 1)
    further = webhook(admin("POST", f"{path}/redeliver", {"since": last}))
    assert further["position"] == 1, "never forward"


@pytest.mark.parametrize(
    "body", [{}, None, {"sequence": 1, "since": 1}, {"sequence": "1"}, {"since": 0}, {"all": True}]
)
def test_what_to_send_again_is_said_in_one_way(admin: Api, body: object) -> None:
    path = made(admin)
    assert faults(admin("POST", f"{path}/redeliver", body))
    assert webhook(admin("GET", path))["version"] == 1


@pytest.mark.parametrize("field", ["sequence", "since"])
def test_an_event_that_is_not_there_cannot_be_sent_again(admin: Api, field: str) -> None:
    path = made(admin)
    for sequence in (last_sequence(admin) + 1, 2**63 - 1):
        problem(admin("POST", f"{path}/redeliver", {field: sequence}), "event_not_found")
    assert results(admin("GET", f"{path}/deliveries")) == []


def test_resuming_makes_a_paused_webhook_try_again(admin: Api) -> None:
    path = made(admin)
    WebhookEndpoint.objects.update(
        paused_at="2026-01-31T09:30:00Z", paused_because="The receiver answered 410 Gone.", failures=3
    )
    paused = webhook(admin("GET", path))
    assert paused["state"] == "paused"
    assert paused["paused"] == {
        "at": "2026-01-31T09:30:00.000000Z",
        "because": "The receiver answered 410 Gone.",
    }
    resumed = webhook(admin("POST", f"{path}/resume", {}))
    assert (resumed["state"], resumed["paused"], resumed["failures"]) == ("active", None, 0)


# --- The log -------------------------------------------------------------------------------------------


def test_the_log_is_paged_newest_first(admin: Api, receiver: Receiver) -> None:
    path = received_by(admin, receiver)
    ids = [delivery(admin("POST", f"{path}/ping"))["id"] for _ in range(5)]
    seen, page = [], f"{path}/deliveries?limit=2"
    while page:
        answer = admin("GET", page)
        seen += [each["id"] for each in results(answer)]
        page = answer.json()["next"]
        assert len(seen) <= 5
    assert seen == ids[::-1]


def test_a_cursor_is_good_for_its_own_log_only(admin: Api, receiver: Receiver) -> None:
    path, other = received_by(admin, receiver), made(admin)
    for _ in range(2):
        admin("POST", f"{path}/ping")
    cursor = admin("GET", f"{path}/deliveries?limit=1").json()["next"].partition("?")[2]
    assert len(results(admin("GET", f"{path}/deliveries?{cursor}"))) == 1
    assert faults(admin("GET", f"{other}/deliveries?{cursor}")) == {("cursor", "invalid")}
    assert faults(admin("GET", f"{path}/deliveries?cursor=nonsense")) == {("cursor", "invalid")}


# --- Nobody there --------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [NOBODY, "nonsense", "me", "%00", "1", NOBODY.replace("-", "")])
@pytest.mark.parametrize(
    ("method", "under", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("POST", "/rotate-secret", None),
        ("POST", "/resume", None),
        ("POST", "/ping", None),
        ("POST", "/redeliver", {"sequence": 1}),
        ("POST", "/redeliver", {"since": 1}),
        ("GET", "/deliveries", None),
    ],
)
def test_what_names_no_webhook_finds_none(
    admin: Api, method: str, under: str, body: object, named: str
) -> None:
    problem(admin(method, f"/webhooks/{named}{under}", body), "webhook_not_found")


def test_commands_without_fields_take_an_empty_object_or_nothing(admin: Api) -> None:
    path = made(admin)
    for command in ("rotate-secret", "resume", "ping"):
        assert admin("POST", f"{path}/{command}", {}).status_code == 200
        assert faults(admin("POST", f"{path}/{command}", {"now": True})) == {("now", "unknown")}
