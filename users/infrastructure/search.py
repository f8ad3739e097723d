"""Users by a part of the address or name, or by the beginning of an address, newest first.

To walk back from the newest finds common words at once, and rare ones after everybody; the index of words
finds rare ones at once, and of common ones half the table. So a search walks some rows, and from there on
asks the index of one stretch of time after the other, each as long as promises some times the rows that are
missing, judging by what was found so far."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from users.application.ports import Position, UserCriteria
from users.infrastructure import criteria as conditions
from users.infrastructure.criteria import Clause, every
from users.infrastructure.periods import EPOCH, HOUR, Stretch, stretch

Row = tuple[Any, ...]

STEPS = 500
"""So many rows are walked before the index is asked."""
ASKED = 12
"""So often the index is asked, more or less; whoever wants more asks for the next page."""
MANY = 2000
"""So many rows of a stretch are looked at; one that has more is cut."""
AIM = 3
"""Times the missing rows, that a stretch should have."""
LONGEST = 256
"""Times the time that has been looked through already, that a stretch may be long."""
FAR = 20 * STEPS
"""So many are walked instead where the index is of no help."""
MOST = 4
"""Times as much must be asked for as is left out."""
LONG_WALK = 8 * STEPS
"""Where even an hour has too many."""

FOREVER = datetime.max.replace(tzinfo=UTC)


def run(statement: str, *values: Any) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _before(moment: datetime) -> Position:
    """The first place that is older."""
    return Position(moment - timedelta(microseconds=1), str(UUID(int=2**128 - 1)))


class Search:
    """One search: `_found` is what it has found from `_newest` on; nobody is older than `_oldest`. What is
    known of how many there are to look at: too many from each moment of `_crowded` on, the last the nearest;
    not too many, perhaps, within `_bearable`."""

    def __init__(self, columns: Sequence[str], criteria: UserCriteria, limit: int) -> None:
        self._columns = ", ".join(columns)
        self._moment, self._id = columns.index("created_at"), columns.index("id")
        self._criteria, self._limit = criteria, limit
        self._look, self._words = every(conditions.looks(criteria)), conditions.words(criteria)
        self._found: list[Row] = []
        self._newest = self._oldest = FOREVER
        self._crowded: list[datetime] = []
        self._bearable = FOREVER - EPOCH
        self._asked = 0

    def rows(self, after: Position | None) -> tuple[list[Row], Position | None]:
        """Those found behind `after`; and how far the search came, where it stopped short of the limit and of
        the end."""
        edge = self._walk(after, STEPS)
        if not self._words:
            return self._found, self._walk(edge, FAR) if edge else None
        while edge and self._missing and self._asked < ASKED:
            edge = self._look_behind(edge, self._promising(edge))
        return self._found, edge if self._missing else None

    @property
    def _missing(self) -> int:
        return self._limit - len(self._found)

    def _promising(self, edge: Position) -> timedelta:
        """How long a stretch is likely to have what is missing."""
        passed = max(self._newest - edge.created_at, HOUR / 60)
        return passed * min(LONGEST, max(2, AIM * self._missing / (len(self._found) + 0.5)))

    def _look_behind(self, edge: Position, width: timedelta) -> Position | None:
        """Looks through so much time, or less when too many are in it. Answers how far it came, None at the
        end."""
        until = edge.created_at
        width = min(width, until - self._oldest, self._bearable)
        while self._crowded and self._crowded[-1] >= until:
            self._crowded.pop()
        if self._crowded:
            width = min(width, (until - self._crowded[-1]) / 2)
        while (many := self._ask_index(asked := stretch(until - width, until), edge)) == MANY:
            if asked.shortest:
                return self._walk(edge, LONG_WALK)
            self._crowded.append(asked.since)
            width /= 2
        self._bearable = (until - asked.since) * (MANY / 2 / max(many, 1))
        return _before(asked.since) if asked.since > self._oldest else None

    def _walk(self, after: Position | None, steps: int) -> Position | None:
        """Looks at so many rows behind `after`. Answers how far it came, None at the end."""
        walked = conditions.newest(self._columns, self._criteria, after, steps)
        statement = f"""
            WITH walked AS MATERIALIZED ({walked.sql})
            (SELECT *, NULL::timestamptz, NULL::timestamptz FROM walked WHERE {self._look.sql})
            UNION ALL
            (SELECT *, (SELECT created_at FROM walked LIMIT 1), (SELECT min(created_at) FROM users)
            FROM walked OFFSET {steps - 1})
            LIMIT %s"""  # noqa: S608 - of constants
        rows = run(statement, *walked.values, *self._look.values, self._missing)
        last = rows.pop() if rows and rows[-1][-1] else None
        self._found += [row[:-2] for row in rows]
        if last is None:
            return None
        *_, newest, oldest = last
        self._newest = min(self._newest, newest)
        self._oldest = max(oldest, self._criteria.created_after or oldest)
        return Position(last[self._moment], str(last[self._id]))

    def _within(self, asked: Stretch, until: datetime) -> list[Clause]:
        """Nothing where most of all users are meant: to look for their times too would take longer."""
        if asked.since <= self._oldest and timezone.now() - until < (until - self._oldest) / MOST:
            return []
        return [Clause(f"{conditions.PERIODS} && %s::bigint[]", (asked.keys,))]

    def _ask_index(self, asked: Stretch, edge: Position) -> int:
        """Finds what is behind the edge in this stretch, unless there are MANY to look at; answers how many
        there are."""
        self._asked += 1
        place = every(conditions.places(self._criteria, edge))
        words = every([*self._within(asked, edge.created_at), *self._words])
        statement = f"""
            WITH named AS MATERIALIZED (
                SELECT {self._columns} FROM users WHERE {words.sql}
            ), looked AS MATERIALIZED (SELECT * FROM named LIMIT {MANY})
            SELECT page.*, counted.* FROM (SELECT count(*) FROM looked) AS counted LEFT JOIN (
                SELECT * FROM looked WHERE {place.sql} AND {self._look.sql}
                ORDER BY created_at DESC, id DESC LIMIT %s
            ) AS page ON true"""  # noqa: S608 - of constants
        rows = run(statement, *words.values, *place.values, *self._look.values, self._missing)
        many = int(rows[0][-1])
        if many < MANY:
            self._found += [row[:-1] for row in rows if row[self._moment]]
        return many
