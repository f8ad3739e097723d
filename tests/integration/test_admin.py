"""The operators' pages, as a browser without JavaScript sees them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.cache import caches
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from tests.browser import Browser, text, told
from tests.fixtures import PASSWORD, People
from users.admin import site, users
from users.admin.site import BoundedPaginator
from users.application.commands import BlockUser, ChangeRoles, RenameUser, UnblockUser
from users.models import OutboxEvent, UserRecord, WebhookEndpoint
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE, UserId

LIST = "/admin/users/userrecord/"
WRONG = "Please enter the correct email and password"


def page(user_id: str) -> str:
    return f"{LIST}{user_id}/change/"


def record(user_id: str) -> UserRecord:
    return UserRecord.objects.get(id=user_id)


def events_of(user_id: str) -> list[OutboxEvent]:
    return list(OutboxEvent.objects.filter(user_id=user_id).order_by("user_version"))


# --- Getting in -----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_staff_gets_in_and_sees_the_service_s_name(people: People, role: str) -> None:
    people.staff(role, "Sam")

    shown = Browser().log_in("sam")

    assert shown.status_code == 200
    assert "User service" in text(shown)
    assert "Log out" in text(shown)


def test_an_address_in_another_spelling_is_the_same_account(people: People) -> None:
    people.staff("operator", "Sam")

    assert "Log out" in text(Browser().log_in(" SAM"))


@pytest.mark.parametrize("who", ["plain", "service", "blocked", "unknown", "wrong password"])
def test_whoever_may_not_enter_has_wrong_credentials_whatever_the_cause(
    people: People, service: Service, who: str
) -> None:
    people.user("plain")
    people.staff("service", "service")
    blocked = people.staff("operator", "blocked")
    service.commands.block(BlockUser(user_id=blocked, reason="left", by=COMMAND_LINE))
    people.staff("operator", "Op")
    name, password = ("op", "not the password") if who == "wrong password" else (who, PASSWORD)

    shown = Browser().log_in(name, password)

    assert WRONG in text(shown)
    assert "Log out" not in text(shown)


def test_without_a_login_every_page_leads_to_the_login(people: People) -> None:
    user = people.user()

    for path in ("/admin/", LIST, page(user), f"{LIST}block/?id={user}", "/admin/users/outboxevent/"):
        shown = Browser().get(path)
        assert shown.redirect_chain[-1][0].startswith("/admin/login/"), path


@pytest.mark.parametrize("change", ["blocked", "blocked and unblocked", "demoted"])
def test_an_operator_who_loses_his_right_is_out_at_once(
    browser: Browser, service: Service, change: str
) -> None:
    operator = str(UserRecord.objects.get(name="Op").pk)
    if change == "demoted":
        service.commands.change_roles(ChangeRoles(user_id=operator, roles=(), by=COMMAND_LINE))
    else:
        service.commands.block(BlockUser(user_id=operator, reason="left", by=COMMAND_LINE))
    if change == "blocked and unblocked":
        service.commands.unblock(UnblockUser(user_id=operator, by=COMMAND_LINE))

    shown = browser.get(LIST)

    assert shown.redirect_chain[-1][0].startswith("/admin/login/")


def test_an_operator_whose_block_has_run_out_gets_in_before_anybody_lifts_it(
    people: People, service: Service
) -> None:
    operator = people.staff("operator", "Sam")
    service.commands.block(BlockUser(user_id=operator, reason="break", by=COMMAND_LINE))
    UserRecord.objects.filter(id=operator).update(blocked_until=datetime.now(UTC) - timedelta(seconds=1))

    assert "Log out" in text(Browser().log_in("sam"))


# --- Finding --------------------------------------------------------------------------------------


def listed(response: HttpResponse) -> list[str]:
    return [user.name for user in response.context["cl"].result_list]


def test_the_list_shows_the_newest_first(browser: Browser, people: People) -> None:
    people.user("Ann")
    people.user("Bob")

    shown = browser.get(LIST)

    assert listed(shown) == ["Bob", "Ann", "Op"]
    assert "ann@example.com Ann active –" in text(shown)
    assert "op@example.com Op active operator" in text(shown)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ann@example.com", ["Ann"]),
        ("NN@exam", ["Ann"]),
        ("bobby", ["Bobby"]),
        ("BOBB", ["Bobby"]),
        ("an", ["Ann"]),
        ("obb", ["Bobby"]),
        ("ob", []),
        ("n@e", []),
        ("ann@e.c", []),
        ("%%%", []),
        ("nobody", []),
    ],
)
def test_a_search_finds_parts_of_address_and_name(
    browser: Browser, people: People, search: str, found: list[str]
) -> None:
    people.user("Ann")
    people.user("Bobby")

    assert listed(browser.get(LIST, q=search)) == found


@pytest.mark.parametrize(("search", "told"), [("n@e", True), ("ob", True), ("ann", False), ("", False)])
def test_a_search_that_no_index_can_answer_says_what_was_looked_for(
    browser: Browser, search: str, told: bool
) -> None:
    shown = text(browser.get(LIST, q=search))

    assert ("three letters or digits in a row are" in shown) is told


def test_a_search_finds_a_user_by_his_whole_id(browser: Browser, people: People) -> None:
    ann, _ = people.user("Ann"), people.user("Bob")

    assert listed(browser.get(LIST, q=f" {ann} ")) == ["Ann"]
    assert listed(browser.get(LIST, q=str(UserId.new()))) == []


def test_filters_narrow_by_status_role_and_age(browser: Browser, people: People, service: Service) -> None:
    people.user("Ann")
    bob = people.user("Bob")
    service.commands.block(BlockUser(user_id=bob, reason="spam", by=COMMAND_LINE))
    UserRecord.objects.filter(name="Ann").update(created_at=datetime.now(UTC) - timedelta(days=10))

    assert listed(browser.get(LIST, status="blocked")) == ["Bob"]
    assert listed(browser.get(LIST, role="operator")) == ["Op"]
    assert listed(browser.get(LIST, created="7")) == ["Bob", "Op"]
    assert listed(browser.get(LIST, created="30", status="active")) == ["Op", "Ann"]


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"status": "blocked"},
        {"status": "blocked", "created": "7"},
        {"status": "blocked", "created": "nonsense"},
        {"status": "blocked", "role": "admin"},
        {"status": "blocked", "q": "bob"},
        {"status": "nonsense", "created": "7"},
    ],
)
def test_as_many_are_counted_as_are_listed(
    browser: Browser, people: People, service: Service, query: dict[str, str]
) -> None:
    for name in ("Ann", "Bob", "Cid"):
        user = people.user(name)
        if name != "Ann":
            service.commands.block(BlockUser(user_id=user, reason="spam", by=COMMAND_LINE))
    UserRecord.objects.filter(name="Cid").update(created_at=datetime.now(UTC) - timedelta(days=10))

    shown = browser.get(LIST, **query)

    assert shown.context["cl"].result_count == len(listed(shown))


@pytest.mark.parametrize(
    "query",
    [
        {"password_hash__startswith": "bcrypt"},
        {"email__startswith": "a"},
        {"id__in": "1,2"},
        {"_to_field": "password_hash"},
    ],
)
def test_no_column_can_be_probed_through_the_address(browser: Browser, query: dict[str, str]) -> None:
    assert browser.get(LIST, **query).status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        {"q": "\x00"},
        {"q": "\ud800".encode("utf-8", "surrogatepass")},
        {"status": "\x00"},
        {"status": "vanished"},
        {"role": "'"},
        {"created": "1e9"},
        {"created": "-1"},
        {"p": "99999999999999999999"},
        {"p": "x"},
        {"o": "99.-1.x"},
        {"all": ""},
    ],
)
def test_nonsense_in_the_address_of_the_list_is_no_fault_of_ours(
    browser: Browser, query: dict[str, str]
) -> None:
    for path in (LIST, "/admin/users/outboxevent/"):
        assert browser.get(path, **query).status_code in {200, 400}, path


def test_the_list_never_counts_all_users_nor_reads_hashes(browser: Browser, people: People) -> None:
    people.user("Ann")

    with CaptureQueriesContext(connection) as queries:
        browser.get(LIST, _facets="")

    statements = [query["sql"] for query in queries if '"users"' in query["sql"]]
    counts = [sql for sql in statements if "COUNT(" in sql]
    assert len(counts) == 1
    assert f"LIMIT {BoundedPaginator.bound}" in counts[0]
    [rows] = [sql for sql in statements if 'ORDER BY "users"."created_at"' in sql]
    assert "password_hash" not in rows


def test_the_list_leads_no_further_than_its_bound(
    browser: Browser, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Ann", "Bob", "Cid"):
        people.user(name)
    monkeypatch.setattr(BoundedPaginator, "bound", 2)
    monkeypatch.setattr(site.get_model_admin(UserRecord), "list_per_page", 1)
    monkeypatch.setattr(site.get_model_admin(UserRecord), "list_max_show_all", 1)

    assert listed(browser.get(LIST, p="2")) == ["Bob"]
    assert browser.get(LIST, p="3").redirect_chain[-1][0].endswith("?e=1")


# --- Looking at one -------------------------------------------------------------------------------


def test_the_detail_page_shows_the_user_and_his_history_newest_first(
    browser: Browser, people: People, service: Service
) -> None:
    ann = people.user("Ann")
    service.commands.rename(RenameUser(user_id=ann, name="Anna", by=COMMAND_LINE))
    browser.send(f"{LIST}block/?id={ann}", reason="Sends spam")

    shown = text(browser.get(page(ann)))

    assert "ann@example.com" in shown
    assert ann in shown
    assert "Sends spam" in shown
    history = shown[shown.index("Events, newest first") :]
    wanted = (
        r"3 \S+ \S+ UTC user\.blocked reason: Sends spam op@example\.com [\w-]{36} "
        r"2 \S+ \S+ UTC user\.renamed name: Anna cli \S+ "
        r"1 \S+ \S+ UTC user\.created name: Ann email: ann@example\.com – \S+ "
    )
    assert re.search(wanted, history), history


def test_no_page_shows_the_hash_or_a_way_to_a_password(browser: Browser, people: People) -> None:
    ann = people.user("Ann")

    for path in ("/admin/", LIST, page(ann), f"{LIST}{ann}/history/", f"{LIST}block/?id={ann}"):
        shown = browser.get(path).content.decode()
        assert "bcrypt" not in shown, path
        assert "password" not in shown.lower(), path


def test_what_a_user_calls_himself_is_text_and_nothing_else(
    browser: Browser, people: People, service: Service
) -> None:
    ann = people.user("Ann")
    name = "<script>alert(1)</script>"
    service.commands.rename(RenameUser(user_id=ann, name=name, by=COMMAND_LINE))
    browser.send(f"{LIST}block/?id={ann}", reason="<b>bold</b>")

    for path in (LIST, page(ann), f"{LIST}unblock/?id={ann}", f"{LIST}{ann}/history/"):
        shown = browser.get(path).content.decode()
        assert name not in shown, path
        assert "<b>bold" not in shown, path


def test_a_long_history_is_cut_and_leads_to_the_rest(
    browser: Browser, people: People, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = people.user("Ann")
    for number in range(3):
        service.commands.rename(RenameUser(user_id=ann, name=f"Ann {number}", by=COMMAND_LINE))
    recent = users.recent_events
    monkeypatch.setattr(users, "recent_events", lambda user_id: recent(user_id, limit=2))

    shown = browser.get(page(ann))

    events = text(shown)
    assert "user.created" not in events
    assert "All events of this user" in events
    rest = browser.get(shown.context["events"]["more"])
    assert [event.user_version for event in rest.context["cl"].result_list] == [4, 3, 2, 1]


def test_the_number_of_statements_of_a_detail_page_does_not_grow_with_the_history(
    browser: Browser, people: People
) -> None:
    ann = people.user("Ann")

    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(page(ann)).status_code == 200
        return len(queries)

    browser.send(f"{LIST}block/?id={ann}", reason="one")
    few = statements()
    for _ in range(3):
        browser.send(f"{LIST}unblock/?id={ann}")
        browser.send(f"{LIST}block/?id={ann}", reason="again")
    assert statements() == few


@pytest.mark.parametrize("name", ["nonsense", "00000000-0000-4000-8000-000000000000", "%00", "\ud7ff"])
def test_a_page_of_nobody_leads_back(browser: Browser, name: str) -> None:
    assert browser.get(page(name)).status_code in {200, 404}


def test_an_event_can_be_read_by_itself(browser: Browser, people: People) -> None:
    ann = people.user("Ann")
    [event] = events_of(ann)

    listing = text(browser.get("/admin/users/outboxevent/"))
    found = browser.get("/admin/users/outboxevent/", q=str(event.event_id))
    alone = text(browser.get(f"/admin/users/outboxevent/{event.pk}/change/"))

    assert f"user.created {ann} 1" in listing
    assert list(found.context["cl"].result_list) == [event]
    assert not browser.get("/admin/users/outboxevent/", q="ann").context["cl"].result_list
    assert str(event.event_id) in alone
    assert '"email": "ann@example.com"' in alone


# --- Acting ---------------------------------------------------------------------------------------


def test_block_asks_for_a_reason_and_says_whom_it_is_about(browser: Browser, people: People) -> None:
    ann, bob = people.user("Ann"), people.user("Bob")

    asked = browser.choose("block", ann, bob)

    assert "Block 2 users?" in text(asked)
    assert "ann@example.com" in text(asked)
    assert "bob@example.com" in text(asked)
    assert "UTC" in text(asked)
    assert record(ann).status == "active"


def test_several_are_blocked_at_once_in_the_operator_s_name(browser: Browser, people: People) -> None:
    ann, bob, cid = people.user("Ann"), people.user("Bob"), people.user("Cid")
    operator = str(UserRecord.objects.get(name="Op").pk)
    asked = browser.choose("block", ann, bob)
    address = asked.redirect_chain[-1][0]

    shown = browser.send(address, reason=" Sends\r\nspam ", until_0="2099-01-31", until_1="09:30:00")

    assert told(shown) == ["Blocked: bob@example.com, ann@example.com"]
    for user_id in (ann, bob):
        row = record(user_id)
        assert (row.status, row.block_reason, row.blocked_by) == ("blocked", "Sends\nspam", operator)
        assert row.blocked_until == datetime(2099, 1, 31, 9, 30, tzinfo=UTC)
        event = events_of(user_id)[-1]
        assert (event.event_type, event.actor_id) == ("user.blocked", operator)
        assert event.request_id
    assert record(cid).status == "active"


def test_a_block_from_these_pages_is_what_the_api_shows(browser: Browser, people: People) -> None:
    ann = people.user("Ann")
    reader = people.log_in("Op")
    assert reader("GET", f"/users/{ann}").json()["status"] == "active"

    browser.send(f"{LIST}block/?id={ann}", reason="spam")

    assert reader("GET", f"/users/{ann}").json()["blocked"]["reason"] == "spam"


def test_one_is_blocked_and_unblocked_from_his_own_page(browser: Browser, people: People) -> None:
    ann = people.user("Ann")
    assert f'href="{LIST}block/?id={ann}"' in browser.get(page(ann)).content.decode()

    blocked = browser.send(f"{LIST}block/?id={ann}", reason="spam")
    assert told(blocked) == ["Blocked: ann@example.com"]
    assert blocked.redirect_chain[-1][0] == page(ann)
    assert f'href="{LIST}unblock/?id={ann}"' in blocked.content.decode()

    unblocked = browser.send(f"{LIST}unblock/?id={ann}")
    assert told(unblocked) == ["Unblocked: ann@example.com"]
    assert record(ann).status == "active"
    assert [event.event_type for event in events_of(ann)] == [
        "user.created",
        "user.blocked",
        "user.unblocked",
    ]


def test_what_was_done_here_stands_in_django_s_log(browser: Browser, people: People) -> None:
    ann = people.user("Ann")

    browser.send(f"{LIST}block/?id={ann}", reason="spam", until_0="2099-01-31", until_1="09:30")
    browser.send(f"{LIST}unblock/?id={ann}")

    entries = LogEntry.objects.order_by("id")
    assert [(entry.object_id, entry.user.name, entry.get_change_message()) for entry in entries] == [
        (ann, "Op", "Blocked until 2099-01-31 09:30:00 UTC."),
        (ann, "Op", "Unblocked."),
    ]
    assert "Blocked until" in text(browser.get(f"{LIST}{ann}/history/"))


def test_django_s_log_keeps_nothing_that_would_outlive_an_erasure(browser: Browser, people: People) -> None:
    ann = people.user("Ann")

    browser.send(f"{LIST}block/?id={ann}", reason="spam")

    [entry] = LogEntry.objects.values("object_repr", "change_message")
    assert entry == {"object_repr": ann, "change_message": "Blocked."}


def test_the_log_line_of_a_page_says_who_looked(
    browser: Browser, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()

    browser.get(page(people.user("Ann")))

    [line] = [entry.msg for entry in caplog.records if entry.name == "users.request"]
    assert line["user_id"] == str(UserRecord.objects.get(name="Op").pk)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"reason": "   "}, "This field is required."),
        ({"reason": "x" * 501}, "A reason has at most 500 characters."),
        ({"reason": "bell\x07"}, "A reason has no control characters."),
        ({"reason": "nul\x00"}, "Null characters are not allowed."),
        ({"reason": "spam", "until_0": "2001-01-01", "until_1": "00:00"}, "lies in the future"),
        ({"reason": "spam", "until_0": "0001-01-01", "until_1": "00:00"}, "lies in the future"),
        ({"reason": "spam", "until_0": "tomorrow", "until_1": "09:30"}, "Enter a valid date."),
        ({"reason": "spam", "until_0": "2099-01-01"}, "Enter a valid time."),
    ],
)
def test_a_form_that_is_not_filled_in_well_is_shown_again(
    browser: Browser, people: People, fields: dict[str, str], complaint: str
) -> None:
    ann = people.user("Ann")

    shown = browser.send(f"{LIST}block/?id={ann}", **fields)

    assert complaint in text(shown)
    assert len(events_of(ann)) == 1


def test_each_refusal_is_told_and_stops_nobody_else_s_block(
    browser: Browser, people: People, service: Service
) -> None:
    admin, ann, bob = people.staff("admin", "Boss"), people.user("Ann"), people.user("Bob")
    myself = str(UserRecord.objects.get(name="Op").pk)
    service.commands.block(BlockUser(user_id=bob, reason="before", by=COMMAND_LINE))
    asked = browser.choose("block", admin, ann, bob, myself)

    shown = browser.send(asked.redirect_chain[-1][0], reason="spam")

    assert sorted(told(shown)) == [
        "Blocked: ann@example.com",
        "Not blocked: bob@example.com. The user is blocked already.",
        "Not blocked: boss@example.com. Only an admin may change an operator or an admin.",
        "Not blocked: op@example.com. Nobody blocks himself.",
    ]
    assert [record(each).status for each in (admin, ann, bob, myself)] == [
        "active",
        "blocked",
        "blocked",
        "active",
    ]
    assert record(bob).block_reason == "before"
    assert LogEntry.objects.count() == 1


def test_an_admin_may_block_an_operator_but_not_the_last_admin(boss: Browser, people: People) -> None:
    operator, admin = people.staff("operator", "Op"), str(UserRecord.objects.get(name="Boss").pk)

    assert told(boss.send(f"{LIST}block/?id={operator}", reason="left")) == ["Blocked: op@example.com"]
    assert told(boss.send(f"{LIST}block/?id={admin}", reason="left")) == [
        "Not blocked: boss@example.com. Nobody blocks himself."
    ]


def test_unblocking_who_is_not_blocked_is_told(browser: Browser, people: People) -> None:
    ann = people.user("Ann")

    assert told(browser.send(f"{LIST}unblock/?id={ann}")) == [
        "Not unblocked: ann@example.com. The user is not blocked."
    ]


@pytest.mark.parametrize("query", ["", "?id=nonsense", "?id=01a204ac-7212-774f-823f-1966cb49b3f2", "?id=%00"])
def test_a_confirmation_about_nobody_leads_back_to_the_list(browser: Browser, query: str) -> None:
    shown = browser.get(f"{LIST}block/{query}")

    assert told(shown) == ["There is nobody to block."]


def test_more_than_a_page_can_confirm_is_left_to_the_command_line(
    browser: Browser, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = people.user("Ann"), people.user("Bob")
    monkeypatch.setattr(users, "AT_ONCE", 1)

    shown = browser.choose("block", ann, bob)

    assert told(shown) == ["At most 1 users at once; for more there is manage.py block_user."]
    one = browser.send(f"{LIST}block/?id={ann}&id={bob}", reason="spam")
    assert len(told(one)) == 1
    assert UserRecord.objects.filter(status="blocked").count() == 1


@pytest.fixture
def redis_away(redis_server: Any, browser: Browser) -> Iterator[None]:
    """A Redis address where nobody listens, for as long as the test takes."""
    before = {alias: caches.settings[alias]["LOCATION"] for alias in caches.settings}
    for alias in before:
        caches.settings[alias]["LOCATION"] = "redis://127.0.0.1:1/0"
        caches[alias] = caches.create_connection(alias)
    yield
    for alias, address in before.items():
        caches.settings[alias]["LOCATION"] = address
        caches[alias] = caches.create_connection(alias)


def test_without_redis_everything_works(browser: Browser, people: People, redis_away: None) -> None:
    ann = people.user("Ann")

    assert told(browser.send(f"{LIST}block/?id={ann}", reason="spam")) == ["Blocked: ann@example.com"]
    assert record(ann).status == "blocked"
    assert "user.blocked" in text(browser.get(page(ann)))


# --- No other way to write ------------------------------------------------------------------------


def everything() -> list[tuple[Any, ...]]:
    return [
        *UserRecord.objects.order_by("id").values_list(),
        *OutboxEvent.objects.order_by("id").values_list(),
    ]


@pytest.mark.parametrize("who", ["browser", "boss"])
def test_crafted_requests_write_nothing(who: str, people: People, request: pytest.FixtureRequest) -> None:
    ann = people.user("Ann")
    caller: Browser = request.getfixturevalue(who)
    [event] = events_of(ann)
    row = {"email": "evil@example.com", "name": "Evil", "status": "blocked", "roles": "admin"}
    before = everything()
    forged = [
        (f"{LIST}add/", row, 403),
        (page(ann), row, 403),
        (page(ann), {**row, "_saveasnew": "1"}, 403),
        (f"{LIST}{ann}/delete/", {"post": "yes"}, 403),
        (LIST, {"action": "delete_selected", "_selected_action": ann, "post": "yes", "index": "0"}, 200),
        (LIST, {"form-0-id": ann, "form-0-name": "Evil", "_save": "Save"}, 200),
        (f"{LIST}{ann}/password/", {"password1": PASSWORD, "password2": PASSWORD}, 200),
        ("/admin/password_change/", {"new_password1": "x", "new_password2": "x"}, 404),
        (f"/admin/users/outboxevent/{event.pk}/delete/", {"post": "yes"}, 403),
        (f"/admin/users/outboxevent/{event.pk}/change/", {"event_type": "user.erased"}, 403),
        ("/admin/users/outboxevent/add/", {"event_type": "user.erased"}, 403),
    ]
    token = caller.client.cookies["csrftoken"].value

    for path, fields, status in forged:
        answer = caller.client.post(path, {"csrfmiddlewaretoken": token, **fields}, follow=True)
        assert answer.status_code in {status, 404}, (path, answer.status_code)

    assert everything() == before


def test_a_post_from_another_site_is_refused(browser: Browser, people: People) -> None:
    ann = people.user("Ann")

    answer = browser.client.post(f"{LIST}block/?id={ann}", {"reason": "spam"})

    assert answer.status_code == 403
    assert record(ann).status == "active"


def test_only_users_events_and_webhooks_have_pages() -> None:
    assert set(site._registry) == {UserRecord, OutboxEvent, WebhookEndpoint}
