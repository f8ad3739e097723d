"""GET /users: filters, pages, cursors."""

import base64
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.e2e.answers import assert_user, faults, problem, results
from tests.fixtures import PASSWORD, Api, People
from users.models import UserRecord


def names(answer: Any) -> list[str]:
    return [found["name"] for found in results(answer)]


def walk(api: Api, address: str) -> list[list[str]]:
    """The names on each page, from the first to the last."""
    pages: list[list[str]] = []
    following: str | None = address
    while following:
        answer = api("GET", following)
        pages.append(names(answer))
        following = answer.json()["next"]
        assert len(pages) < 100
    return pages


@pytest.fixture
def crowd(people: People, admin: Api) -> dict[str, str]:
    """Ids by name; Ann is the oldest, Eve the newest, and Admin older than all."""
    return {name: people.user(name) for name in ("Ann", "Bob", "Cid", "Dan", "Eve")}


def test_users_are_listed_newest_first_each_as_he_is_read_alone(admin: Api, crowd: dict[str, str]) -> None:
    answer = admin("GET", "/users")
    assert names(answer) == ["Eve", "Dan", "Cid", "Bob", "Ann", "Admin"]
    assert answer.json()["next"] is None
    assert "count" not in answer.json()
    assert answer["Cache-Control"] == "private, no-cache"
    for found in results(answer):
        assert_user(found)
        assert found == admin("GET", f"/users/{found['id']}").json()


def test_pages_cover_everything_once(admin: Api, crowd: dict[str, str]) -> None:
    assert walk(admin, "/users?limit=2") == [["Eve", "Dan"], ["Cid", "Bob"], ["Ann", "Admin"]]
    assert walk(admin, "/users?limit=4") == [["Eve", "Dan", "Cid", "Bob"], ["Ann", "Admin"]]
    assert walk(admin, "/users?limit=6") == [["Eve", "Dan", "Cid", "Bob", "Ann", "Admin"]]


def test_users_born_at_the_same_instant_are_neither_skipped_nor_repeated(
    admin: Api, crowd: dict[str, str]
) -> None:
    UserRecord.objects.update(created_at="2026-01-01T00:00:00Z")
    found = [name for page in walk(admin, "/users?limit=1") for name in page]
    assert sorted(found) == ["Admin", "Ann", "Bob", "Cid", "Dan", "Eve"]


def test_pages_stay_whole_while_others_register(people: People, admin: Api, crowd: dict[str, str]) -> None:
    seen, address, number = [], "/users?limit=2", 0
    while address:
        page = admin("GET", address)
        seen += names(page)
        address = page.json()["next"]
        people.user(f"Late{number}")
        number += 1
    assert seen == ["Eve", "Dan", "Cid", "Bob", "Ann", "Admin"]


def test_the_default_is_50_a_page_and_100_the_most(people: People, admin: Api) -> None:
    template = UserRecord.objects.get()
    for number in range(120):
        template.pk = f"01890000-0000-7000-8000-{number:012x}"
        template.email, template.roles = f"u{number}@example.com", []
        template.save(force_insert=True)
    assert len(results(admin("GET", "/users"))) == 50
    assert len(results(admin("GET", "/users?limit=100"))) == 100
    assert [len(page) for page in walk(admin, "/users?limit=100")] == [100, 21]


def test_next_keeps_the_filters_and_the_limit(admin: Api, crowd: dict[str, str]) -> None:
    following = admin("GET", f"/users?status=active&q={quote('EXAMPLE.com')}&limit=2").json()["next"]
    assert following.startswith("/users?")
    query = parse_qs(urlsplit(following).query)
    assert (query["status"], query["q"], query["limit"]) == (["active"], ["EXAMPLE.com"], ["2"])
    assert set(query) == {"status", "q", "limit", "cursor"}


# --- Filters -------------------------------------------------------------------------------------------


def test_by_status(admin: Api, crowd: dict[str, str]) -> None:
    admin("POST", f"/users/{crowd['Bob']}/block", {"reason": "spam"})
    assert names(admin("GET", "/users?status=blocked")) == ["Bob"]
    assert names(admin("GET", "/users?status=active")) == ["Eve", "Dan", "Cid", "Ann", "Admin"]
    assert names(admin("GET", "/users?status=erased")) == []


def test_by_role(people: People, admin: Api, crowd: dict[str, str]) -> None:
    people.staff("service", "Robot")
    assert names(admin("GET", "/users?role=service")) == ["Robot"]
    assert names(admin("GET", "/users?role=admin")) == ["Admin"]
    assert names(admin("GET", "/users?role=operator")) == []


@pytest.mark.parametrize("email", ["bob@example.com", "BOB@Example.COM", "%20bob@example.com%20"])
def test_by_exact_address_in_any_case(admin: Api, crowd: dict[str, str], email: str) -> None:
    assert names(admin("GET", f"/users?email={email}")) == ["Bob"]


def test_an_exact_address_is_not_a_part_of_one(admin: Api, crowd: dict[str, str]) -> None:
    assert names(admin("GET", "/users?email=ob@example.com")) == []


@pytest.mark.parametrize(
    ("prefix", "found"), [("bo", ["Bob"]), ("BO", ["Bob"]), ("ob", []), ("a", ["Ann", "Admin"])]
)
def test_by_the_beginning_of_the_address(
    admin: Api, crowd: dict[str, str], prefix: str, found: list[str]
) -> None:
    assert names(admin("GET", f"/users?email_prefix={prefix}")) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bob", ["Bob"]),
        ("OB", ["Bob"]),
        ("ob@ex", ["Bob"]),
        ("nn", ["Ann"]),
        ("zzz", []),
        ("d", ["Dan", "Cid", "Admin"]),
    ],
)
def test_by_a_part_of_address_or_name(admin: Api, crowd: dict[str, str], text: str, found: list[str]) -> None:
    assert names(admin("GET", f"/users?q={quote(text)}")) == found


PATTERNS = ["%", "_", "\\", "%%", "a%", "a_n", "\\%", "'", '"', ";--", "(", "[a-z]", ".*", "$1", "{}"]


@pytest.mark.parametrize("parameter", ["q", "email_prefix"])
def test_what_looks_like_a_pattern_is_taken_literally(
    admin: Api, crowd: dict[str, str], parameter: str
) -> None:
    for text in PATTERNS:
        assert names(admin("GET", f"/users?{parameter}={quote(text)}")) == []


def test_a_pattern_character_finds_itself(anyone: Api, admin: Api, crowd: dict[str, str]) -> None:
    for email, name in [("a_n@example.com", "50 % off"), ("back@example.com", "C:\\temp")]:
        assert (
            anyone("POST", "/users", {"email": email, "name": name, "password": PASSWORD}).status_code == 201
        )
    assert names(admin("GET", "/users?email_prefix=a_n")) == ["50 % off"]
    assert names(admin("GET", "/users?q=" + quote("0 % o"))) == ["50 % off"]
    assert names(admin("GET", "/users?q=" + quote(":\\t"))) == ["C:\\temp"]


def test_by_ids_in_any_case_unknown_ones_are_left_out(admin: Api, crowd: dict[str, str]) -> None:
    ids = [crowd["Bob"].upper(), crowd["Eve"], "01890000-0000-7000-8000-000000000000", crowd["Eve"]]
    assert names(admin("GET", f"/users?ids={','.join(ids)}")) == ["Eve", "Bob"]


def test_at_most_100_ids(admin: Api, crowd: dict[str, str]) -> None:
    hundred = [f"01890000-0000-7000-8000-{number:012x}" for number in range(99)] + [crowd["Bob"]]
    assert names(admin("GET", f"/users?ids={','.join(hundred)}")) == ["Bob"]
    answer = admin("GET", f"/users?ids={','.join([*hundred, crowd['Eve']])}")
    assert {field for field, _ in faults(answer)} == {"ids"}


def test_by_time_of_birth_without_the_limits_themselves(admin: Api, crowd: dict[str, str]) -> None:
    born = {name: admin("GET", f"/users/{user_id}").json()["created_at"] for name, user_id in crowd.items()}
    assert names(admin("GET", f"/users?created_after={born['Cid']}")) == ["Eve", "Dan"]
    assert names(admin("GET", f"/users?created_before={born['Bob']}")) == ["Ann", "Admin"]
    between = f"created_after={born['Ann']}&created_before={born['Dan']}"
    assert names(admin("GET", f"/users?{between}")) == ["Cid", "Bob"]
    assert names(admin("GET", "/users?created_after=2999-01-01T00:00:00%2B14:00")) == []


def test_filters_add_up(admin: Api, crowd: dict[str, str]) -> None:
    admin("POST", f"/users/{crowd['Ann']}/block", {"reason": "spam"})
    assert names(admin("GET", "/users?email_prefix=a&status=active")) == ["Admin"]
    assert names(admin("GET", f"/users?q=ann&ids={crowd['Bob']}")) == []


NONSENSE = [
    "limit=0",
    "limit=-1",
    "limit=101",
    "limit=1000000000000",
    "limit=x",
    "limit=",
    "limit=1.5",
    "limit=NaN",
    f"limit={'9' * 5000}",
    "limit=1&limit=2",
    "limit=%00",
    "status=gone",
    "status=Active",
    "status=",
    "status=active&status=blocked",
    "role=user",
    "role=",
    "email=",
    "email=nonsense",
    "email=a%00@example.com",
    f"email={'a' * 5000}@example.com",
    "email_prefix=",
    "email_prefix=a%00",
    f"email_prefix={'a' * 300}",
    "q=",
    "q=%00",
    f"q={'a' * 101}",
    "ids=",
    "ids=,",
    "ids=1",
    "ids=01890000-0000-7000-8000-000000000000,",
    "ids=01890000-0000-7000-8000-000000000000%00",
    "ids=me",
    "created_after=yesterday",
    "created_after=",
    "created_after=2026-01-01",
    "created_after=2026-01-01T00:00:00",
    "created_after=2026-02-30T00:00:00Z",
    "created_after=2026-01-01T24:00:01Z",
    "created_after=0000-01-01T00:00:00Z",
    "created_after=0001-01-01T00:00:00%2B14:00",
    "created_after=10000-01-01T00:00:00Z",
    "created_before=9999-12-31T23:59:59-14:00",
    "created_before=1e400",
    "created_before=٢٠٢٦-01-01T00:00:00Z",
    "page=2",
    "offset=10",
    "Status=active",
    "=x",
    "%00=1",
]


def test_a_query_that_makes_no_sense_is_refused_in_detail(admin: Api) -> None:
    for query in NONSENSE:
        problem(admin("GET", f"/users?{query}"), "invalid_request")
        if query[0] not in "=%":
            named = {field for field, _ in faults(admin("GET", f"/users?{query}"))}
            assert named == {query.partition("=")[0]}, query


# --- Cursors -------------------------------------------------------------------------------------------


def cursor_of(api: Api, address: str) -> str:
    return parse_qs(urlsplit(api("GET", address).json()["next"]).query)["cursor"][0]


def forged(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def test_a_tampered_cursor_is_refused(admin: Api, crowd: dict[str, str]) -> None:
    good = cursor_of(admin, "/users?limit=1")
    value, _, signature = good.rpartition(":")
    bad = [
        good[:-1],
        good[1:],
        good + "a",
        good.swapcase(),
        good[::-1],
        value,
        value + ":",
        ":" + signature,
        signature,
        ":",
        "::",
        "a",
        "null",
        "[]",
        "0",
        "-1",
        "\x00",
        "\n",
        "é",
        "😀",
        "%",
        "." + good,
        "a" * 500,
        "a" * 5000,
        forged('["2026-01-01T00:00:00+00:00", "x"]') + ":" + signature,
        forged("[1]") + ":" + signature,
        forged("[" * 300) + ":" + signature,
        good.replace(":", ";"),
        good + ":" + signature,
    ]
    bad += [
        good[:place] + ("A" if good[place] != "A" else "B") + good[place + 1 :]
        for place in range(0, len(good) - 1, 7)
    ]
    for cursor in bad:
        answer = admin("GET", f"/users?limit=1&cursor={quote(cursor)}")
        assert {field for field, _ in faults(answer)} == {"cursor"}, cursor
    assert len(names(admin("GET", f"/users?limit=1&cursor={quote(good)}"))) == 1


def test_a_cursor_of_one_list_is_none_of_another(admin: Api, people: People, crowd: dict[str, str]) -> None:
    ann = crowd["Ann"]
    admin("PATCH", f"/users/{ann}", {"name": "Anne"})
    of_users = cursor_of(admin, "/users?limit=1")
    of_history = cursor_of(admin, f"/users/{ann}/events?limit=1")
    assert faults(admin("GET", f"/users?cursor={quote(of_history)}"))
    assert faults(admin("GET", f"/users/{ann}/events?cursor={quote(of_users)}"))


def test_a_cursor_says_nothing_to_who_may_not_list(people: People, admin: Api, crowd: dict[str, str]) -> None:
    address = admin("GET", "/users?limit=1").json()["next"]
    problem(people.log_in("Ann")("GET", address), "forbidden")
    problem(Api()("GET", address), "missing_token")
