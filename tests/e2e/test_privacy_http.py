"""DELETE /users/{id} and GET /users/{id}/export: what is answered, what the receipt proves, and how an erased
user looks to staff."""

import json
from typing import Any

import jwt
import pytest
from django.db import connection
from django.utils import timezone
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.e2e.answers import TIME, UUID7, problem, results, user
from tests.fixtures import PASSWORD, Api, People
from users import wiring
from users.application.commands import RenameUser
from users.infrastructure import export
from users.models import EmailChange, Mail, OutboxEvent, UserRecord
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE

ERASED = ["id", "status", "erased_at", "version", "event_id", "receipt"]


@pytest.fixture
def ann(people: People) -> str:
    return people.user("Ann")


# --- Erasing --------------------------------------------------------------------------------------------


def test_the_answer_says_what_happened_and_may_be_kept_by_nobody(
    people: People, admin: Api, ann: str
) -> None:
    """ASVS 14.3.2."""
    answer = people.log_in("Ann")("DELETE", "/users/me")

    body = answer.json()
    assert answer.status_code == 200
    assert list(body) == ERASED
    assert (body["id"], body["status"], body["version"]) == (ann, "erased", 2)
    assert TIME.fullmatch(body["erased_at"])
    assert UUID7.fullmatch(body["event_id"])
    assert answer["ETag"] == '"2"'
    assert answer["Cache-Control"] == "no-store"
    event = admin("GET", f"/users/{ann}/events").json()["results"][-1]
    assert event["event_type"] == "user.erased"
    assert event["event_id"] == body["event_id"]
    assert event["actor_id"] == ann
    assert event["data"] == {"user_id": ann, "erased_at": body["erased_at"]}


def test_the_receipt_is_verified_by_the_published_keys_and_names_nobody(
    admin: Api, anyone: Api, ann: str
) -> None:
    """ASVS 9.1.1, 9.1.2."""
    body = admin("DELETE", f"/users/{ann}").json()

    header = jwt.get_unverified_header(body["receipt"])
    keys = {key["kid"]: key for key in anyone("GET", "/.well-known/jwks.json").json()["keys"]}
    claims = jwt.decode(
        body["receipt"],
        jwt.PyJWK(keys[header["kid"]]),
        algorithms=[header["alg"]],
        issuer="user-service",
        options={"verify_aud": False},
    )
    assert header["typ"] == "erasure-receipt+jwt"
    assert claims.pop("iat") > 0
    assert claims == {
        "iss": "user-service",
        "sub": ann,
        "jti": body["event_id"],
        "erased_at": body["erased_at"],
    }


def test_a_receipt_is_no_token(people: People, admin: Api, ann: str) -> None:
    """ASVS 9.2.2, 9.2.3: signed by the same key, of another type, without an audience."""
    receipt = people.log_in("Ann")("DELETE", "/users/me").json()["receipt"]

    for path in ("/users/me", f"/users/{ann}"):
        problem(Api(receipt)("GET", path), "invalid_token")


def test_a_field_that_nobody_reads_is_refused_and_an_empty_object_is_not(admin: Api, ann: str) -> None:
    """Else whoever sends a password believes that it was asked for."""
    for body in ({"password": PASSWORD}, {"confirm": True}, []):
        problem(admin("DELETE", f"/users/{ann}", body), "invalid_request")
    assert user(admin("GET", f"/users/{ann}"))["status"] == "active"

    assert admin("DELETE", f"/users/{ann}", {}).status_code == 200


def test_a_second_time_there_is_nobody_to_erase(admin: Api, ann: str) -> None:
    admin("DELETE", f"/users/{ann}")

    problem(admin("DELETE", f"/users/{ann}"), "user_not_found")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"name": "Somebody"}),
        ("PUT", "/email", {"email": "new@example.com"}),
        ("PUT", "/roles", {"roles": ["admin"]}),
        ("POST", "/block", {"reason": "spam"}),
        ("POST", "/unblock", {}),
        ("GET", "/export", None),
    ],
)
def test_no_command_reaches_an_erased_user(admin: Api, ann: str, method: str, path: str, body: Any) -> None:
    admin("DELETE", f"/users/{ann}")
    before = admin("GET", f"/users/{ann}").content

    problem(admin(method, f"/users/{ann}{path}", body), "user_not_found")

    assert admin("GET", f"/users/{ann}").content == before


def test_if_match_is_honoured(admin: Api, ann: str, settings: Any) -> None:
    problem(admin("DELETE", f"/users/{ann}", if_match='"7"'), "version_mismatch")
    problem(admin("DELETE", f"/users/{ann}", if_match='W/"1"'), "version_mismatch")
    problem(admin("DELETE", f"/users/{ann}", if_match="nonsense"), "invalid_request")
    settings.REQUIRE_IF_MATCH = True
    problem(admin("DELETE", f"/users/{ann}"), "precondition_required")
    assert user(admin("GET", f"/users/{ann}"))["version"] == 1

    assert admin("DELETE", f"/users/{ann}", if_match='"1"').status_code == 200


def test_nobody_erases_the_last_admin_himself_included(people: People, admin: Api) -> None:
    """ASVS 8.3.1."""
    details = problem(admin("DELETE", "/users/me"), "forbidden")["details"]
    assert "last active admin" in details
    people.staff("admin", "Second")

    assert admin("DELETE", "/users/me").status_code == 200
    problem(people.log_in("Second")("DELETE", "/users/me"), "forbidden")


def test_a_blocked_user_can_be_erased(admin: Api, ann: str) -> None:
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})

    assert admin("DELETE", f"/users/{ann}").status_code == 200
    assert user(admin("GET", f"/users/{ann}"))["status"] == "erased"


def test_staff_sees_that_there_was_a_user_and_nobody_else_does(
    people: People, admin: Api, operator: Api, ann: str
) -> None:
    people.user("Bob")
    admin("DELETE", f"/users/{ann}")

    shown = user(operator("GET", f"/users/{ann}"))
    assert shown == {
        "id": ann,
        "email": None,
        "name": None,
        "status": "erased",
        "blocked": None,
        "roles": [],
        "email_verified": False,
        "created_at": shown["created_at"],
        "updated_at": shown["updated_at"],
        "version": 2,
    }
    problem(people.log_in("Bob")("GET", f"/users/{ann}"), "user_not_found")


def test_lists_and_searches_show_erased_users_by_id_and_status_only(admin: Api, ann: str) -> None:
    admin("DELETE", f"/users/{ann}")

    for query in ("status=erased", f"ids={ann}", f"ids={ann}&status=erased"):
        assert [each["id"] for each in results(admin("GET", f"/users?{query}"))] == [ann]
    assert ann in [each["id"] for each in results(admin("GET", "/users"))]
    for query in ("email=ann@example.com", "email_prefix=ann", "q=ann", "status=active&q=ann"):
        assert results(admin("GET", f"/users?{query}")) == []


def test_the_former_address_and_password_log_nobody_in(people: People, anyone: Api, ann: str) -> None:
    people.log_in("Ann")("DELETE", "/users/me")

    body = {"email": "ann@example.com", "password": PASSWORD}
    problem(anyone("POST", "/auth/token", body), "invalid_credentials")


# --- Export ---------------------------------------------------------------------------------------------


def exported(api: Api, user_id: str = "me") -> dict[str, Any]:
    answer = api("GET", f"/users/{user_id}/export")
    assert answer.status_code == 200
    body: dict[str, Any] = json.loads(answer.getvalue())
    return body


def test_an_export_is_a_file_for_whom_it_is_about(people: People, ann: str) -> None:
    """ASVS 14.3.2."""
    answer = people.log_in("Ann")("GET", "/users/me/export")

    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"] == f'attachment; filename="user-{ann}.json"'
    assert answer["Cache-Control"] == "no-store"


def test_an_export_holds_all_that_is_kept_of_the_person_and_no_secret(
    people: People, admin: Api, anyone: Api
) -> None:
    """ASVS 14.2.4."""
    body = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD, "locale": "ru"}
    ann = anyone("POST", "/users", body, idempotency_key="once").json()["id"]
    people.user("Bob")
    own = people.log_in("Ann")
    admin("PATCH", f"/users/{ann}", {"name": "Ann Lee"})
    now = timezone.now()
    EmailChange.objects.create(
        user_id=ann, email="wanted@example.com", fingerprint="f", created_at=now, expires_at=now
    )
    Mail.objects.create(kind="verify_email", user_id=ann, created_at=now, sent_at=now)
    Mail.objects.create(kind="reset_password", email="ann@example.com", created_at=now)
    Mail.objects.create(kind="reset_password", email="bob@example.com", created_at=now)

    elsewhere = people.log_in("Ann")
    session_id = elsewhere("GET", "/users/me/sessions").json()["results"][0]["id"]
    elsewhere("DELETE", f"/users/me/sessions/{session_id}")

    told = exported(own)

    assert [TIME.fullmatch(at) is not None for at in told["user"]["ended_sessions"].values()] == [True]
    assert {"email": "ann@example.com", "name": "Ann Lee", "locale": "ru"}.items() <= told["user"].items()
    assert told["email_change"]["email"] == "wanted@example.com"
    assert [each["address"] for each in told["sessions"]] == ["127.0.0.0/24"] * 2
    assert len(told["sessions"][0]["refresh_tokens"]) == 1
    kinds = [each["kind"] for each in told["mails"]]
    assert kinds.count("reset_password") == 1
    assert "verify_email" in kinds
    assert [each["response"]["email"] for each in told["idempotency"]] == ["ann@example.com"]
    assert told["events"] == admin("GET", f"/users/{ann}/events").json()["results"]
    text = json.dumps(told)
    assert "bob@" not in text
    assert UserRecord.objects.get(id=ann).password_hash not in text
    assert told == {**exported(admin, ann), "exported_at": told["exported_at"]}


def test_a_long_history_is_exported_in_pages(
    people: People, service: Service, ann: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        service.commands.rename(RenameUser(user_id=ann, name=f"Ann {number}", by=COMMAND_LINE))
    own = [people.log_in("Ann") for _ in range(5)][-1]
    monkeypatch.setattr(export, "AT_ONCE", 3)

    told = exported(own)

    assert [each["user_version"] for each in told["events"]] == list(range(1, 9))
    assert len({each["id"] for each in told["sessions"]}) == 5


def test_every_table_is_told_of_in_the_export_or_left_out_for_a_reason(database: None) -> None:
    """Whoever adds a table decides. ASVS 14.1.1."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        )
        tables = {table for (table,) in cursor.fetchall()}

    assert tables == export.TOLD_IN.keys() | export.LEFT_OUT.keys()
    assert not export.TOLD_IN.keys() & export.LEFT_OUT.keys()
    assert all(export.LEFT_OUT.values())


def test_what_the_export_says_is_in_it_is_in_it(people: People, ann: str) -> None:
    assert set(export.TOLD_IN.values()) <= exported(people.log_in("Ann")).keys()


def test_an_export_of_events_that_cannot_be_told_tells_their_tombstones(
    people: People, admin: Api, ann: str
) -> None:
    OutboxEvent.objects.filter(user_id=ann).update(data=[1])

    assert [each["event_type"] for each in exported(admin, ann)["events"]] == ["user.set_aside"]


@pytest.mark.parametrize("ending", ["a reader who hangs up", "an error of ours"])
def test_an_export_that_is_cut_short_is_logged_and_counted(
    people: People, ann: str, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """The answer had begun with 200."""

    def fail(user_id: str) -> Any:
        raise ZeroDivisionError

    if ending == "an error of ours":
        monkeypatch.setattr(export, "SECTIONS", {**export.SECTIONS, "events": fail})
    before = failed_exports()

    with capture_logs() as lines:
        pieces = iter(wiring.service().privacy.export(ann))
        next(pieces)
        if ending == "an error of ours":
            with pytest.raises(ZeroDivisionError):
                list(pieces)
        else:
            pieces.close()  # type: ignore[attr-defined]

    (line,) = lines
    assert (line["event"], line["user_id"]) == ("export_cut_short", ann)
    assert line["error"] in {"GeneratorExit", "ZeroDivisionError"}
    assert failed_exports() == before + 1


def failed_exports() -> float:
    labels = {"operation": "export", "status": "error"}
    return REGISTRY.get_sample_value("user_command_duration_seconds_count", labels) or 0
