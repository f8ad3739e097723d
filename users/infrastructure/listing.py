"""Pages of users, newest first, at a cost that depends on the page and not on how many users there are.

Where an index has the order of the page, or names a few users alone, one statement reads it. What is left are
searches, see `search`."""

from collections.abc import Sequence

from users.application.ports import Position, UserCriteria
from users.infrastructure import criteria as conditions
from users.infrastructure.criteria import Clause, every
from users.infrastructure.search import Row, Search, run
from users_domain.value_objects import UserStatus

FEW = 100
"""So many users are read one by one, in whatever order they are found."""


class Listing:
    def __init__(self, columns: Sequence[str]) -> None:
        """`columns` are what is read of each user; `created_at` and `id` are among them."""
        self._columns = columns

    def page(
        self, criteria: UserCriteria, after: Position | None, limit: int
    ) -> tuple[list[Row], Position | None]:
        """The first `limit` rows behind `after` that meet the criteria, newest first; fewer where a search
        came no further than to the place that is answered beside."""
        looks = conditions.looks(criteria)
        named = conditions.names(criteria) or _who_begin(criteria.email_prefix)
        if looks and criteria.status == UserStatus.ERASED:
            return [], None  # of him no word is left
        if looks and not named:
            return Search(self._columns, criteria, limit).rows(after)
        if not named:
            page = conditions.newest(", ".join(self._columns), criteria, after, limit)
            return run(page.sql, *page.values), None
        places = conditions.places(criteria, after)
        return self._read(every([named[0], *places]), [*named[1:], *looks], limit), None

    def _read(self, rows: Clause, looks: list[Clause], limit: int) -> list[Row]:
        """By an index that has few of them, or those of the role in order; then the rest is looked for row by
        row."""
        ordered = (
            f"SELECT {', '.join(self._columns)} FROM users WHERE {rows.sql} "  # noqa: S608 - of constants
            "ORDER BY created_at DESC, id DESC"
        )
        if not looks:
            return run(f"{ordered} LIMIT %s", *rows.values, limit)
        look = every(looks)
        # By itself, lest the planner finds the index of another condition to be the better one.
        statement = (
            f"WITH few AS MATERIALIZED ({ordered}) "  # noqa: S608 - of constants
            f"SELECT * FROM few WHERE {look.sql} LIMIT %s"
        )
        return run(statement, *rows.values, *look.values, limit)


def _who_begin(prefix: str | None) -> list[Clause]:
    """Those whose addresses begin so, by their ids; nothing when they are many."""
    if prefix is None:
        return []
    begins = conditions.begins(prefix)
    # In the order of the index, so that no other is chosen.
    statement = (
        f"SELECT id FROM users WHERE {begins.sql} "  # noqa: S608 - of constants
        "ORDER BY email USING ~<~ LIMIT %s"
    )
    found = [str(user_id) for (user_id,) in run(statement, *begins.values, FEW + 1)]
    return [Clause("id = ANY(%s::uuid[])", (found,))] if len(found) <= FEW else []
