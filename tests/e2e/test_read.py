"""GET /users/{id}, /users/me, /users/{id}/events, and what everybody may read."""

import pytest

from tests.e2e.answers import ENVELOPE_FIELDS, TIME, UUID7, faults, problem, results, user
from tests.fixtures import PASSWORD, Api, People

NOBODY = "01890000-0000-7000-8000-000000000000"


def test_me_is_the_caller(people: People) -> None:
    ann = people.user("Ann")
    body = user(people.log_in("Ann")("GET", "/users/me"))
    assert (body["id"], body["email"], body["name"]) == (ann, "ann@example.com", "Ann")


def test_one_representation_for_every_reader(people: People, admin: Api, operator: Api) -> None:
    ann = people.user("Ann")
    people.staff("service")
    callers = [people.log_in("Ann"), admin, operator, people.log_in("Service")]
    bodies = {caller("GET", f"/users/{ann}").content for caller in callers for _ in range(2)}
    assert len(bodies) == 1


def test_a_blocked_user_shows_why_when_until_when_and_by_whom(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    me = admin("GET", "/users/me").json()["id"]
    admin("POST", f"/users/{ann}/block", {"reason": "spam", "until": "2199-01-31T10:30:00+01:00"})
    body = user(admin("GET", f"/users/{ann}"))
    assert body["status"] == "blocked"
    assert body["blocked"] == {
        "reason": "spam",
        "at": body["updated_at"],
        "until": "2199-01-31T09:30:00.000000Z",
        "by": me,
    }


@pytest.mark.parametrize("form", [str.upper, str.lower, str.title])
def test_an_id_is_the_same_in_any_case_for_its_owner_too(people: People, admin: Api, form: object) -> None:
    ann = people.user("Ann")
    own = people.log_in("Ann")
    for caller in (own, admin):
        assert user(caller("GET", f"/users/{form(ann)}"))["id"] == ann
    assert user(own("PATCH", f"/users/{form(ann)}", {"name": "Anne"}))["version"] == 2


NAMES_OF_NOBODY = [
    NOBODY,
    "1",
    "nobody",
    "Me",
    "me ",
    "%6de%00",
    "ann@example.com",
    "00000000-0000-0000-0000-000000000000",
    "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "{01890000-0000-7000-8000-000000000000}",
    "urn:uuid:01890000-0000-7000-8000-000000000000",
    "0189000000007000800000000000000",
    "01890000000070008000000000000000",
    "%00",
    "%ff",
    "%0a",
    "%F0%9F%98%80",
    "..",
    "me;x=1",
    "x" * 5000,
    "٠١٨٩0000-0000-7000-8000-000000000000",
]


def test_what_names_nobody_is_not_found(admin: Api) -> None:
    for named in NAMES_OF_NOBODY:
        problem(admin("GET", f"/users/{named}"), "user_not_found")
        problem(admin("GET", f"/users/{named}/events"), "user_not_found")
        problem(admin("POST", f"/users/{named}/block", {"reason": "spam"}), "user_not_found")


def test_a_head_is_a_get_without_body(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    for path in (f"/users/{ann}", "/users", "/health/live", "/.well-known/jwks.json"):
        head, get = admin("HEAD", path), admin("GET", path)
        assert head.status_code == 200
        assert head.content == b""
        for name in ("ETag", "Content-Type", "Cache-Control", "Content-Length"):
            assert head.get(name) == get.get(name), (path, name)


# --- History and feed ----------------------------------------------------------------------------------


def test_the_history_tells_each_change_with_its_actor_request_and_version(people: People, admin: Api) -> None:
    boss = admin("GET", "/users/me").json()["id"]
    body = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}
    ann = Api()("POST", "/users", body, x_request_id="register-1").json()["id"]
    own = people.log_in("Ann")
    own("PATCH", f"/users/{ann}", {"name": "Anne"}, x_request_id="rename-1")
    admin("POST", f"/users/{ann}/block", {"reason": "spam"}, x_request_id="block-1")
    admin("POST", f"/users/{ann}/unblock", x_request_id="unblock-1")
    told = results(admin("GET", f"/users/{ann}/events"))
    assert [(e["event_type"], e["user_version"], e["actor_id"], e["request_id"]) for e in told] == [
        ("user.created", 1, None, "register-1"),
        ("user.renamed", 2, ann, "rename-1"),
        ("user.blocked", 3, boss, "block-1"),
        ("user.unblocked", 4, boss, "unblock-1"),
    ]
    for event in told:
        assert set(event) == ENVELOPE_FIELDS
        assert UUID7.fullmatch(event["event_id"])
        assert TIME.fullmatch(event["timestamp"])
        assert event["user_id"] == event["data"]["user_id"] == ann
    sequences = [event["sequence"] for event in told]
    assert sequences == sorted(set(sequences))


def test_events_carry_what_the_contract_says(people: People, admin: Api) -> None:
    ann = people.user("Ann")
    admin("POST", f"/users/{ann}/block", {"reason": "spam"})
    created, blocked = results(admin("GET", f"/users/{ann}/events"))
    assert created["data"] == {
        "user_id": ann,
        "email": "ann@example.com",
        "name": "Ann",
        "created_at": created["timestamp"],
    }
    assert blocked["data"] == {"user_id": ann, "reason": "spam", "blocked_at": blocked["timestamp"]}


def test_one_reads_his_own_history_under_both_names(people: People) -> None:
    ann = people.user("Ann")
    own = people.log_in("Ann")
    assert results(own("GET", "/users/me/events")) == results(own("GET", f"/users/{ann}/events")) != []


def test_a_history_is_paged_oldest_first_to_its_end(people: People, admin: Api) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    for number in range(6):
        own("PATCH", "/users/me", {"name": f"Ann {number}"})
    page, versions = own("GET", "/users/me/events?limit=3").json(), []
    while True:
        versions.append([event["user_version"] for event in page["results"]])
        if page["next"] is None:
            break
        page = own("GET", page["next"]).json()
    assert versions == [[1, 2, 3], [4, 5, 6], [7]]


def test_a_page_that_is_full_at_the_end_has_no_next(people: People) -> None:
    people.user("Ann")
    own = people.log_in("Ann")
    own("PATCH", "/users/me", {"name": "Anne"})
    assert own("GET", "/users/me/events?limit=2").json()["next"] is None
    assert own("GET", "/users/me/events?limit=1").json()["next"] is not None


def test_the_feed_tells_all_events_by_sequence(people: People, admin: Api) -> None:
    people.staff("service")
    for name in ("Ann", "Bob", "Cid"):
        people.user(name)
    told = results(admin("GET", "/events"))
    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
    assert [e["data"]["name"] for e in told if e["event_type"] == "user.created"][-3:] == [
        "Ann",
        "Bob",
        "Cid",
    ]
    assert all(set(event) == ENVELOPE_FIELDS for event in told)
    assert results(people.log_in("Service")("GET", "/events")) == told


def test_the_feed_goes_on_behind_after(people: People, admin: Api) -> None:
    for number in range(5):
        people.user(f"User{number}")
    last = results(admin("GET", "/events"))[-1]["sequence"]
    assert [event["sequence"] for event in results(admin("GET", f"/events?after={last - 2}"))] == [
        last - 1,
        last,
    ]
    for end in (last, last + 1, 2**63 - 1):
        assert admin("GET", f"/events?after={end}").json() == {"results": [], "next": None}


def test_the_feed_is_paged_without_gap_or_overlap(people: People, admin: Api) -> None:
    for number in range(5):
        people.user(f"User{number}")
    everything = [event["sequence"] for event in results(admin("GET", "/events"))]
    collected, address = [], "/events?limit=2"
    while address:
        page = admin("GET", address)
        assert len(results(page)) <= 2
        collected += [event["sequence"] for event in results(page)]
        address = page.json()["next"]
    assert collected == everything


NONSENSE = [
    "after=-1",
    "after=x",
    "after=",
    "after=1&after=2",
    "after=9223372036854775808",
    "limit=0",
    "limit=101",
    "limit=x",
    "limit=1e2",
    "cursor=x",
    "before=1",
    f"after={'9' * 2000}",
    "after=%00",
]


def test_a_feed_query_that_makes_no_sense_is_refused_in_detail(admin: Api) -> None:
    for query in NONSENSE:
        (fault,) = faults(admin("GET", f"/events?{query}"))
        assert fault[0] == query.partition("=")[0]


# --- For everybody -------------------------------------------------------------------------------------


def test_the_public_keys_are_public_and_nothing_but_public(anyone: Api) -> None:
    answer = anyone("GET", "/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer["Cache-Control"].startswith("public")
    (key,) = answer.json()["keys"]
    assert {"kty", "kid", "alg", "use"} <= set(key)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)


def test_what_a_problem_means_is_told_where_its_type_leads(anyone: Api) -> None:
    refused = anyone("GET", "/users/me").json()
    told = anyone("GET", refused["type"])
    assert told.status_code == 200
    assert (told.json()["error"], told.json()["status"]) == (refused["error"], refused["status"])
    problem(anyone("GET", "/problems/nonsense"), "not_found")


def test_the_schema_is_served(anyone: Api) -> None:
    answer = anyone("GET", "/schema")
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.1")


def test_documentation_is_served_in_development(anyone: Api) -> None:
    for path in ("/docs", "/redoc"):
        answer = anyone("GET", path)
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/html")
