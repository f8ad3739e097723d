"""UserCriteria as SQL: what must hold of a row, and by which words an index finds such rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from users.application.ports import Position, UserCriteria

START = "zq"
"""Stands before the address: letters, so that there is a trigram of them and its first one."""
PIECES = 4
COMMONEST_FIRST = "aenirosltmhduckgb1023456789ypvfjzwxq"
"""Letters in names and addresses, more or less."""
KNOWN: dict[str, bool] = {}
"""Of letters beyond ASCII: whether this database's pg_trgm takes them for such, as far as it was asked. With
the ctype C it takes none, and a pattern of those reads the whole table."""
TEXT = f"upper('{START}' || email || chr(10) || name)"
PERIODS = "users_periods(created_at)"


@dataclass(frozen=True, slots=True)
class Clause:
    sql: str
    values: tuple[Any, ...] = ()


def every(clauses: Iterable[Clause]) -> Clause:
    """All of them; true when there are none."""
    given = list(clauses)
    sql = " AND ".join(clause.sql for clause in given) or "true"
    return Clause(sql, tuple(value for clause in given for value in clause.values))


def places(criteria: UserCriteria, after: Position | None) -> list[Clause]:
    """What the indexes in the order of the list know."""
    asked = {
        "status = %s": criteria.status,
        "created_at > %s": criteria.created_after,
        "created_at < %s": criteria.created_before,
    }
    found = [Clause(sql, (value,)) for sql, value in asked.items() if value is not None]
    return found + ([behind(after)] if after else [])


def newest(columns: str, criteria: UserCriteria, after: Position | None, limit: int) -> Clause:
    """The first `limit` users of these places, by the index that has their order: of one status that of
    `user_standings`, whose rows are then fetched one by one."""
    place = every(places(criteria, after))
    in_order = f"WHERE {place.sql} ORDER BY created_at DESC, id DESC LIMIT %s"
    values = (*place.values, limit)
    if criteria.status is None:
        return Clause(f"SELECT {columns} FROM users {in_order}", values)  # noqa: S608 - of constants
    return Clause(
        f"""
        SELECT standing.* FROM (SELECT id, created_at FROM user_standings {in_order}) AS place
        CROSS JOIN LATERAL (SELECT {columns} FROM users WHERE id = place.id LIMIT 1) AS standing
        ORDER BY place.created_at DESC, place.id DESC""",  # noqa: S608 - of constants
        values,
    )


def behind(place: Position) -> Clause:
    return Clause("(created_at, id) < (%s, %s::uuid)", (place.created_at, place.id))


def names(criteria: UserCriteria) -> list[Clause]:
    """What leaves few users, each by an index of its own; the narrowest first. Roles are for staff."""
    asked = {
        "email = %s": criteria.email,
        "id = ANY(%s::uuid[])": None if criteria.ids is None else list(criteria.ids),
        "roles @> ARRAY[%s]::varchar(16)[]": criteria.role,
    }
    return [Clause(sql, (value,)) for sql, value in asked.items() if value is not None]


def looks(criteria: UserCriteria) -> list[Clause]:
    """What must be looked for in the texts."""
    found = []
    if criteria.email_prefix is not None:
        found.append(begins(criteria.email_prefix))
    if criteria.text is not None:
        part = f"%{_literal(criteria.text)}%"
        found.append(Clause("(upper(email) LIKE upper(%s) OR upper(name) LIKE upper(%s))", (part, part)))
    return found


def begins(prefix: str) -> Clause:
    return Clause("email LIKE %s", (f"{_literal(prefix)}%",))


def words(criteria: UserCriteria) -> list[Clause]:
    """What `users_search_idx` finds: all that `looks` asks for, and sometimes more. Nothing when it is of no
    help, as with two letters from the middle of a word."""
    found = pieces(criteria.text or "")
    if criteria.email_prefix is not None:
        found += pieces(START + criteria.email_prefix)
    return [Clause(f"{TEXT} LIKE upper(%s)", (f"%{piece}%",)) for piece in found]


def pieces(text: str) -> list[str]:
    """Some trigrams of the text, likely to be rare, and not overlapping as long as there are such. To go
    through what has all of them takes a tenth of the time that it takes with all trigrams of a long text, and
    finds hardly more. Each is exact, so that hardly a row is looked at in vain."""
    _ask_about(text)
    places = _trigrams(text.partition("@")[0]) or _trigrams(text)
    places.sort(key=lambda place: -sum(map(_rarity, text[place : place + 3].lower())))
    chosen: list[int] = []
    for least in (3, 1):
        for place in places:
            if len(chosen) < PIECES and all(abs(place - other) >= least for other in chosen):
                chosen.append(place)
    return [text[place : place + 3] for place in chosen]


def _trigrams(text: str) -> list[int]:
    """Where there are three letters or digits together."""
    return [place for place in range(len(text) - 2) if all(map(_in_words, text[place : place + 3]))]


def _in_words(letter: str) -> bool:
    return letter.isalnum() if letter.isascii() else KNOWN.get(letter, False)


def _ask_about(text: str) -> None:
    """Each letter once in the life of this process."""
    new = [
        letter for letter in set(text) if letter.isalpha() and not letter.isascii() and letter not in KNOWN
    ]
    if not new:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT letter, show_trgm(upper(letter)) <> '{}' FROM unnest(%s::text[]) AS letter", (new,)
        )
        KNOWN.update(cursor.fetchall())


def _rarity(letter: str) -> int:
    return COMMONEST_FIRST.index(letter) if letter in COMMONEST_FIRST else len(COMMONEST_FIRST)


def _literal(text: str) -> str:
    return str(connection.ops.prep_for_like_query(text))
