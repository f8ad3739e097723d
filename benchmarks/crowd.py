"""Users by the million, and their history: as they are met, some names common, most of them rare.

Filled past the application, by statements that PostgreSQL runs alone: without indexes at first, in portions,
so that a run which was cut short can be gone on with. How far it came stands in the table `crowd` beside."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

PORTION = 250_000
YEARS = 5


def words(text: str) -> list[str]:
    return text.split()


FIRST = words(
    """
    Anna Maria Ali Peter Sofia Jan Mohammed Laura Thomas Elena Ivan Lucas Emma Daniel Yuki Priya Chen
    Olga Martin Julia Ahmed Sarah Paul Nina Omar Eva Marek Ingrid Carlos Fatima Hans Greta José Zoë
    Björn Aisha Viktor Chloé Dmitri Amara Kwame Noor Stefan Hana Luca Mei Tariq Ursula Xavier Yara
    Zdeněk Quentin Oskar Bianca Cyril Delphine Ewa Farid Gunnar Hedwig Igor Jasmin Karin Leopold
    Mireille Niels Otto Petra Rahul Svetlana Tobias Ulrich Valeria Wolfgang Ximena Yannick Zara
    """
)
BEGIN = words(
    """
    Schmi Mül Kowal Ander Novak Gar Fern Rossi Tanak Sato Kim Ngu Pat Khan Ivan Petr Lind Berg Haas Wag
    Beck Hof Kra Zim Vog Schul Roth Weis Kel Lang Fuchs Mar Dub Leroy Mor Sil San Oliv Cost Per Alm
    Brown Clark Wright Hugh Mac Don Fitz Bel Quis Jab Xan Dvor Czer Wis Zielin Haug Lars Niel Joh
    """
)
END = words(
    """
    dt ler ski son a cia andez ni ka o en yen el ov ova gren strom mann ner ert feld brandt ich tz er
    meister stein bauer horn wald inger ard ois eau eira ira os ez ton worth es ald ley quist ber vich
    dottir ides u
    """
)
DOMAINS = words("gmail.com outlook.com yahoo.com icloud.com web.de proton.me qq.com orange.fr")

# `portion`: who is born in one go. A word's place in its list, to the third power of chance: the first of a
# hundred names is had by a fifth of all people, the last by a few in a thousand; family names are rarer yet.
# Newer users are nearer to each other in time, as in a service that grows.
FILL = """
WITH portion AS MATERIALIZED (
    SELECT n, (%(first)s::text[])[1 + floor(random() ^ 3 * cardinality(%(first)s::text[]))::int] AS first,
        (%(begin)s::text[])[1 + floor(random() ^ 2 * cardinality(%(begin)s::text[]))::int]
            || (%(end)s::text[])[1 + floor(random() ^ 2 * cardinality(%(end)s::text[]))::int] AS last,
        CASE WHEN random() < 0.7 THEN
            (%(domains)s::text[])[1 + floor(random() ^ 2 * cardinality(%(domains)s::text[]))::int]
        ELSE lower((%(begin)s::text[])[1 + floor(random() * cardinality(%(begin)s::text[]))::int])
            || floor(random() * 1000)::int || '.example' END AS domain,
        now() - interval '1 year' * %(years)s * (1 - sqrt((n - random()) / %(users)s)) AS created_at,
        CASE WHEN random() < 0.02 THEN 'blocked' WHEN random() < 0.01 THEN 'erased' ELSE 'active' END
            AS status,
        CASE WHEN n %% 5000 > 0 THEN '{}' WHEN n %% 50000 = 0 THEN '{admin}'
            WHEN n %% 50000 = 5000 THEN '{service}' ELSE '{operator}' END::varchar[] AS roles,
        1 + (n %% 2 = 0)::int + (n %% 20 = 0)::int AS version,
        (n - 1) + (n - 1) / 2 + (n - 1) / 20 AS before
    FROM generate_series(%(from)s::bigint, %(to)s::bigint) AS n
    WHERE (n %% 10 = 3) = %(moved)s
), people AS MATERIALIZED (
    SELECT *, uuidv7(created_at - clock_timestamp()) AS id, first || ' ' || last AS name,
        lower(translate(first || '.' || last, 'éëöüěØ', 'eeoueo')) || n * 7919 %% 999983 || '-' || n / 999983
            || '@' || domain AS email
    FROM portion
), born AS (
    INSERT INTO users (id, email, name, status, roles, password_hash, email_verified, locale, block_reason,
        blocked_at, token_version, created_at, updated_at, version)
    SELECT id, CASE WHEN status <> 'erased' THEN email END, CASE WHEN status <> 'erased' THEN name END,
        status, roles, CASE WHEN status <> 'erased' THEN repeat('x', 60) ELSE '' END, n %% 3 > 0,
        CASE WHEN status <> 'erased' THEN 'en' END, CASE WHEN status = 'blocked' THEN 'spam' END,
        CASE WHEN status = 'blocked' THEN created_at END, 1, created_at, created_at, version
    FROM people
)
INSERT INTO outbox (event_id, event_type, user_id, user_version, occurred_at, actor_id, request_id, data,
    sequence)
SELECT uuidv7(created_at - clock_timestamp()),
    CASE WHEN v = 1 THEN 'user.created' WHEN v = 2 THEN 'user.renamed' WHEN n %% 200 = 0 THEN 'user.unblocked'
        ELSE 'user.email_verified' END,
    id, v, created_at, id::text, id::text,
    CASE WHEN v = 1 THEN
        jsonb_build_object('user_id', id, 'email', email, 'name', name, 'created_at', created_at)
    ELSE jsonb_build_object('user_id', id, 'name', name) END,
    before + v
FROM people CROSS JOIN generate_series(1, version) AS v
"""


class Crowd:
    """The users of one database, whose tables are there already."""

    def __init__(self, url: str, users: int) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._users = users
        for setting in ("maintenance_work_mem = '1GB'", "work_mem = '64MB'", "synchronous_commit = off"):
            self._run(f"SET {setting}")
        self._run("CREATE TABLE IF NOT EXISTS crowd (done text PRIMARY KEY, undo text)")

    def fill(self) -> Iterator[str]:
        """Does what is missing, a step each time it is asked for the next; answers what it did."""
        if self._done("all of it"):
            return
        if not self._done("indexes dropped"):
            yield self._drop_indexes()
        for moved in (False, True):  # one in ten was written anew since, and lies behind all others
            for start in range(1, self._users + 1, PORTION):
                if not self._done(name := f"users from {start}{', moved' if moved else ''}"):
                    yield self._step(name, FILL, self._portion(start, moved))
        for name, definition in self._all(
            "SELECT done, undo FROM crowd WHERE undo IS NOT NULL ORDER BY undo"
        ):
            if not self._done(built := f"built: {name}"):
                yield self._step(built, definition)
        self._run("VACUUM (FREEZE, ANALYZE) users, user_standings")
        yield "users vacuumed"
        self._run("VACUUM (FREEZE, ANALYZE) outbox")
        yield self._step(
            "all of it",
            "INSERT INTO relay_position (id, sequenced, published) SELECT 1, max(sequence), max(sequence) "
            "FROM outbox ON CONFLICT (id) DO UPDATE SET sequenced = excluded.sequenced, "
            "published = excluded.published",
        )

    def close(self) -> None:
        self._connection.close()

    def _portion(self, start: int, moved: bool) -> dict[str, Any]:
        end = min(start + PORTION - 1, self._users)
        words = {"first": FIRST, "begin": BEGIN, "end": END, "domains": DOMAINS}
        return {**words, "from": start, "to": end, "users": self._users, "years": YEARS, "moved": moved}

    def _drop_indexes(self) -> str:
        """Row by row they would take most of the time."""
        found = self._all(
            """
            SELECT index.indexrelid::regclass::text, index.indrelid::regclass::text, con.conname,
                CASE WHEN con.oid IS NULL THEN pg_get_indexdef(index.indexrelid)
                ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', con.conrelid::regclass, con.conname,
                    pg_get_constraintdef(con.oid)) END
            FROM pg_index AS index
            LEFT JOIN pg_constraint AS con ON con.conindid = index.indexrelid AND con.contype = 'u'
            WHERE index.indrelid IN ('users'::regclass, 'user_standings'::regclass, 'outbox'::regclass)
                AND NOT index.indisprimary
            """
        )
        with self._connection.transaction():
            for name, table, constraint, definition in found:
                drop = (
                    f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"
                    if constraint
                    else f"DROP INDEX {name}"
                )
                self._run(drop)
                self._run("INSERT INTO crowd VALUES (%s, %s)", [name, definition])
            self._run("INSERT INTO crowd VALUES ('indexes dropped')")
        return "indexes dropped"

    def _step(self, name: str, statement: str, values: Any = None) -> str:
        with self._connection.transaction():
            self._run(statement, values)
            self._run("INSERT INTO crowd VALUES (%s)", [name])
        return name

    def _done(self, name: str) -> bool:
        return bool(self._all("SELECT FROM crowd WHERE done = %s", [name]))

    def _all(self, query: str, values: Any = None) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def _run(self, statement: str, values: Any = None) -> None:
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(statement, values)  # type: ignore[arg-type]
