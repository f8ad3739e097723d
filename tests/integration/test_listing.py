"""Pages of users from a table of some size: what is on them, by which index it was found, and how much of the
table was read for it. Time is not measured here, but in benchmarks/scale.py."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from users.application.ports import Position, UserCriteria
from users.infrastructure import criteria as conditions
from users.infrastructure import search
from users.infrastructure.listing import FEW
from users.infrastructure.periods import EPOCH, HOUR, LENGTHS
from users.infrastructure.reads import DatabaseReads
from users_domain.value_objects import Role

PAGE = 51
CROWD = """
INSERT INTO users (id, email, name, status, roles, password_hash, email_verified, locale, block_reason,
                   blocked_at, token_version, created_at, updated_at, version)
SELECT md5(n::text)::uuid,
       CASE WHEN n % 40 > 0 THEN lower(first || '.' || last) || n || '@' || domain END,
       CASE WHEN n % 40 > 0 THEN first || ' ' || last END,
       CASE WHEN n % 40 = 0 THEN 'erased' WHEN n % 25 = 7 THEN 'blocked' ELSE 'active' END,
       CASE n % 200 WHEN 1 THEN '{operator}' WHEN 2 THEN '{admin,operator}' ELSE '{}' END::varchar[],
       CASE WHEN n % 40 > 0 THEN 'x' ELSE '' END, false, CASE WHEN n % 40 > 0 THEN 'en' END,
       CASE WHEN n % 40 > 0 AND n % 25 = 7 THEN 'spam' END,
       CASE WHEN n % 40 > 0 AND n % 25 = 7 THEN now() END, 1, created_at, created_at, 1
FROM (
    SELECT n, ('{Anna,Ali,Zoë,Jan,Maria,José,Xin,Иван,王小明}'::text[])[1 + (n * n / 7 % 19) % 9] AS first,
        (ARRAY['Schmidt', 'O''Neil', 'Kim', 'Van Dyk', 'Smith-Jones', 'Петров'])[1 + (n / 3 % 31) % 6]
            || CASE WHEN n % 301 = 0 THEN ' the Rare' ELSE '' END AS last,
        -- An import: 700 in one instant, and many in the hour before.
        CASE WHEN n BETWEEN 6000 AND 8999 THEN 'imported' ELSE 'mail' || n % 7 END || '.example' AS domain,
        CASE WHEN n BETWEEN 6000 AND 6699 THEN timestamptz '2024-05-05 05:30Z'
            WHEN n BETWEEN 6700 AND 8999 THEN timestamptz '2024-05-05 05:30Z' - n % 1500 * interval '1 second'
            ELSE timestamptz '2026-07-01Z' - n * interval '97 minutes' END AS created_at
    FROM generate_series(1, 12000) AS n
) AS people
"""


@dataclass(frozen=True)
class Person:
    id: str
    email: str
    name: str
    status: str
    roles: list[str]
    created_at: datetime

    @property
    def place(self) -> tuple[datetime, UUID]:
        return self.created_at, UUID(self.id)

    def meets(self, criteria: UserCriteria) -> bool:
        text = (criteria.text or "").upper()
        return all(
            [
                criteria.status in {None, self.status},
                criteria.role is None or criteria.role in self.roles,
                criteria.email in {None, self.email},
                self.email.startswith(criteria.email_prefix or ""),
                criteria.email_prefix is None or self.email,
                criteria.text is None or text in self.email.upper() or text in self.name.upper(),
                criteria.ids is None or self.id in criteria.ids,
                criteria.created_after is None or self.created_at > criteria.created_after,
                criteria.created_before is None or self.created_at < criteria.created_before,
            ]
        )


@pytest.fixture(scope="module")
def crowd(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[Person]]:
    """All users, newest first; for all tests of this module, which only read."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # all those trigrams take a while
        cursor.execute(CROWD)
        cursor.execute("RESET statement_timeout")
        cursor.execute("VACUUM ANALYZE users")
        cursor.execute("VACUUM ANALYZE user_standings")
        cursor.execute(
            "SELECT id::text, coalesce(email, ''), coalesce(name, ''), status, roles, created_at FROM users"
        )
        people = [Person(*row) for row in cursor.fetchall()]
        yield sorted(people, key=lambda person: person.place, reverse=True)
        cursor.execute("DELETE FROM users")
        cursor.execute("VACUUM ANALYZE users")
        cursor.execute("VACUUM ANALYZE user_standings")


@pytest.fixture
def ascii_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a database whose ctype is C."""
    monkeypatch.setattr(conditions, "KNOWN", defaultdict(bool))
    monkeypatch.setattr(conditions, "_ask_about", lambda _: None)


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that every turn that a search may take is taken."""
    for name, value in {"STEPS": 20, "LONG_WALK": 30, "MANY": 40, "LONGEST": 8, "FAR": 900}.items():
        monkeypatch.setattr(search, name, value)


def page(after: Position | None = None, limit: int = PAGE, **criteria: Any) -> list[Position]:
    found = DatabaseReads().users(UserCriteria(**criteria), after, limit)
    if found and found[-1].json is None:  # gone on with, as by a reader who follows `next`
        more = page(found[-1].position, limit - len(found) + 1, **criteria)
        return [listed.position for listed in found[:-1]] + more
    return [listed.position for listed in found]


def positions(people: list[Person]) -> list[Position]:
    return [Position(person.created_at, person.id) for person in people]


# --- What is found --------------------------------------------------------------------------------------


def any_criteria(chance: random.Random, people: list[Person]) -> dict[str, Any]:
    """Mostly such as somebody meets."""
    one, another = chance.choice(people), chance.choice(people)
    start = chance.randrange(12)
    possible = {
        "text": (0.6, (one.email, one.name)[chance.randrange(2)][start : start + chance.randint(1, 9)]),
        "email_prefix": (0.4, one.email[: chance.randint(1, 9)]),
        "status": (0.3, one.status),
        "role": (0.1, chance.choice(["admin", "operator", "service"])),
        "email": (0.05, one.email),
        "ids": (0.1, [one.id, another.id]),
        "created_after": (0.2, min(one.created_at, another.created_at)),
        "created_before": (0.2, max(one.created_at, another.created_at)),
    }
    return {name: value for name, (share, value) in possible.items() if value and chance.random() < share}


def compare(people: list[Person], seed: int, questions: int) -> None:
    chance = random.Random(seed)
    for _ in range(questions):
        criteria = any_criteria(chance, people)
        after = chance.choice([None, chance.choice(people)])
        limit = chance.choice([1, 3, PAGE])
        met = [one for one in people if one.meets(UserCriteria(**criteria))]
        behind = [one for one in met if after is None or one.place < after.place]

        found = page(after and Position(after.created_at, after.id), limit, **criteria)

        assert found == positions(behind[:limit]), (criteria, after, limit)


def test_a_page_has_what_a_plain_reading_of_all_users_finds(crowd):
    compare(crowd, seed=1, questions=80)


def test_whatever_turns_a_search_takes(crowd, short_steps):
    compare(crowd, seed=2, questions=80)


def test_where_pg_trgm_knows_no_letter_beyond_ascii(crowd, short_steps, ascii_alone):
    compare(crowd, seed=3, questions=40)


LISTS: dict[str, dict[str, Any]] = {
    "everybody": {},
    "a status": {"status": "blocked"},
    "a role": {"role": "operator"},
    "a common word": {"text": "schmidt"},
    "a rare word": {"text": "the rare"},
    "a Cyrillic word": {"text": "иван"},
    "a word of three characters": {"text": "王小明"},
    "a Cyrillic word of the blocked": {"text": "ПЕТРОВ", "status": "blocked"},
    "an old word": {"text": "@imported"},
    "one letter": {"text": "ë"},
    "two letters": {"text": "'n"},
    "a common beginning": {"email_prefix": "j"},
    "a beginning": {"email_prefix": "anna.s"},
    "a word of some": {"text": "van dyk", "status": "erased"},
    "a word of the blocked": {"text": "kim", "status": "blocked"},
    "a word and a beginning": {"text": "imported", "email_prefix": "maria."},
    "a time": {"created_after": datetime(2024, 5, 5, 5, tzinfo=UTC), "text": "ali"},
}


@pytest.mark.parametrize("asked", LISTS)
def test_its_pages_have_everybody_once_and_in_order(crowd, short_steps, asked):
    seen: list[Position] = []
    while more := page(seen[-1] if seen else None, 333, **LISTS[asked]):
        seen += more

    assert seen == positions([one for one in crowd if one.meets(UserCriteria(**LISTS[asked]))])


# --- How it is found ------------------------------------------------------------------------------------


def statements(ask: Callable[[], Any]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        ask()
    return [query["sql"] for query in captured.captured_queries]


def nodes(statement: str) -> Iterator[dict[str, Any]]:
    """The plan's, after it was carried out."""

    def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for child in node.get("Plans", []):
            yield from walk(child)

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {statement}")
        [[found]] = cursor.fetchall()
    return walk((json.loads(found) if isinstance(found, str) else found)[0]["Plan"])


def of_users(ask: Callable[[], Any]) -> list[dict[str, Any]]:
    """All that touches the table, the order of its statuses, or one of their indexes."""
    every = [node for statement in statements(ask) for node in nodes(statement)]
    return [
        node
        for node in every
        if node.get("Relation Name") in {"users", "user_standings"}
        or node.get("Index Name", "").startswith("user")
    ]


def rows_read(ask: Callable[[], Any], table: str = "users") -> int:
    tables = [node for node in of_users(ask) if node.get("Relation Name") == table]
    return sum(
        int(node["Actual Rows"] * node["Actual Loops"])
        + node.get("Rows Removed by Filter", 0)
        + node.get("Rows Removed by Index Recheck", 0)
        for node in tables
    )


def buffers(ask: Callable[[], Any]) -> int:
    tops = [next(nodes(statement)) for statement in statements(ask)]
    return sum(top["Shared Hit Blocks"] + top["Shared Read Blocks"] for top in tops)


def place(people: list[Person], number: int) -> Position:
    return positions(people)[number]


BY_STATUS = {"user_standings_order_idx", "users_pkey"}
INDEXES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "everybody": ({}, {"users_created_idx"}),
    "a time": ({"created_before": datetime(2025, 5, 5, tzinfo=UTC)}, {"users_created_idx"}),
    "a status": ({"status": "blocked"}, BY_STATUS),
    "ids": ({"ids": [str(UUID(int=7))]}, {"users_pkey"}),
    "a beginning that few have": (
        {"email_prefix": "anna.schmidt77"},
        {"users_email_prefix_idx", "users_pkey"},
    ),
    "a common word": ({"text": "schmidt"}, {"users_created_idx"}),
    "a rare word": ({"text": "the rare"}, {"users_created_idx", "users_search_idx"}),
    "nobody's word": ({"text": "zzyzx"}, {"users_created_idx", "users_search_idx"}),
    "nobody's word in Cyrillic": ({"text": "щщющ"}, {"users_created_idx"}),
    "nobody's word in Chinese": ({"text": "你好世界"}, {"users_created_idx"}),
    "two letters of nobody's": ({"text": "q%"}, {"users_created_idx"}),
    "a Cyrillic word among a status": ({"text": "щщющ", "status": "blocked"}, BY_STATUS),
    "a word among a status": ({"text": "zzyzx", "status": "blocked"}, BY_STATUS),
    **{
        f"the role {role.value}": ({"role": role.value, "text": "anna"}, {f"users_{role.value}_idx"})
        for role in Role
    },
}


@pytest.mark.parametrize("asked", INDEXES)
def test_it_is_found_by_its_indexes(crowd, asked):
    criteria, indexes = INDEXES[asked]

    found = of_users(lambda: page(**criteria))

    used = {node["Index Name"] for node in found if "Index Name" in node}
    assert not [node["Node Type"] for node in found if node["Node Type"] == "Seq Scan"]
    assert used >= indexes, used


def test_the_thousandth_page_costs_what_the_first_costs(crowd):
    first, last = buffers(page), buffers(lambda: page(place(crowd, len(crowd) - 60)))

    assert len(page(place(crowd, len(crowd) - 60))) == PAGE
    assert last <= first * 1.5
    assert rows_read(page) == rows_read(lambda: page(place(crowd, len(crowd) - 60))) == PAGE


def test_among_those_born_in_one_instant_too(crowd):
    amid = place(crowd, next(n for n, one in enumerate(crowd) if one.created_at.year == 2024) + 600)

    assert rows_read(lambda: page(amid)) == PAGE


@pytest.mark.parametrize("number", [None, 3000, 11_000])
def test_of_a_status_as_many_rows_are_read_as_are_listed(crowd, number):
    after = number and place(crowd, number)

    listed = page(after, status="blocked")

    for table in ("users", "user_standings"):
        assert rows_read(lambda: page(after, status="blocked"), table) == len(listed) > 0


@pytest.mark.parametrize("text", ["zzyzx", "the rare the rare", "anna.schmidt99999@"])
def test_of_a_word_that_nobody_has_few_rows_are_read(crowd, text):
    assert page(text=text) == []
    assert rows_read(lambda: page(text=text)) <= search.STEPS + 50
    assert len(statements(lambda: page(text=text))) <= 3


@pytest.mark.parametrize("asked", [asked for asked in LISTS if "text" in LISTS[asked]])
def test_of_a_word_that_some_have_no_more_rows_are_read_than_its_limits_say(crowd, asked):
    read = rows_read(lambda: page(**LISTS[asked]))

    # An hour in which two thousand were born is looked for by halves.
    halves = 12 if asked == "an old word" else 1
    assert read <= search.STEPS + halves * search.MANY


def test_of_letters_that_no_index_knows_not_all_are_read_at_once(crowd, monkeypatch):
    monkeypatch.setattr(search, "FAR", 4000)

    found = DatabaseReads().users(UserCriteria(text="q%"), None, PAGE)

    assert [one.json for one in found] == [None]
    assert found[0].position == place(crowd, search.STEPS + 4000 - 1)
    assert (
        rows_read(lambda: DatabaseReads().users(UserCriteria(text="q%"), None, PAGE))
        < 4000 + 2 * search.STEPS
    )


def test_of_words_that_pg_trgm_does_not_know_neither(crowd, monkeypatch, ascii_alone):
    monkeypatch.setattr(search, "FAR", 4000)

    assert conditions.words(UserCriteria(text="щщющ")) == []
    assert (
        rows_read(lambda: DatabaseReads().users(UserCriteria(text="щщющ"), None, PAGE))
        < 4000 + 2 * search.STEPS
    )


def test_of_a_beginning_that_many_have_only_a_few_are_read_in_vain(crowd):
    assert rows_read(lambda: page(email_prefix="j")) <= FEW + 1 + search.STEPS


# --- What the index knows -------------------------------------------------------------------------------


def asked_of_database(query: str, *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        [[answer]] = cursor.fetchall()
    return answer


@pytest.mark.parametrize("letter", ["я", "Щ", "ß", "é", "王", "अ", "١", "🙂"])
def test_letters_are_those_that_its_trigrams_know(database, letter):
    known = asked_of_database("SELECT show_trgm(%s) <> '{}'", letter)

    assert conditions.pieces(letter * 3) == ([letter * 3] if known and letter.isalpha() else [])


def test_what_was_written_lately_is_in_the_index_at_once(database):
    assert asked_of_database(
        "SELECT 'fastupdate=off' = ANY(reloptions) FROM pg_class WHERE relname = 'users_search_idx'"
    )


def test_the_database_counts_periods_as_we_do(database):
    chance = random.Random(3)
    edges = [EPOCH, EPOCH - timedelta(microseconds=1), EPOCH + 7 * HOUR - timedelta(microseconds=1)]
    for moment in edges + [EPOCH + timedelta(seconds=chance.uniform(-1e9, 4e9)) for _ in range(50)]:
        hour = (moment - EPOCH) // HOUR
        assert asked_of_database("SELECT users_periods(%s)", moment) == [
            *(hour // 8**length * 8 + length for length in LENGTHS),
        ]
