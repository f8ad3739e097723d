"""What is asked of lists, histories and the feed: kinds of questions, each time about somebody else."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

PAGE = 50
DEEP = 1000
"""The page that is compared with the first; of few users the last but one."""
Ask = Callable[[], Any]


@dataclass(frozen=True)
class Person:
    id: str
    email: str
    name: str
    created_at: datetime


class Questions:
    """About the users of the database that Django is connected to."""

    def __init__(self, queries: Any, chance: random.Random) -> None:
        self._queries, self._chance = queries, chance
        self._people = _some_people()
        self._deep = _place(users_in_all() // PAGE, DEEP)
        self._events = _last_sequence()

    def kinds(self) -> dict[str, Callable[[], Ask]]:
        """Each makes a question, which is then asked, and timed, by itself."""
        return {
            "first page": self._list,
            f"page {DEEP:,}": lambda: self._list(after=self._deep),
            "a page anywhere": lambda: self._list(after=self._anybody()),
            "`status=active`": lambda: self._list(after=self._anybody(), status="active"),
            "`status=blocked`": lambda: self._list(after=self._anybody(), status="blocked"),
            "`role`": lambda: self._list(role=self._chance.choice(["admin", "operator", "service"])),
            "`email`": lambda: self._list(email=self._anybody().email),
            "100 `ids`": lambda: self._list(ids=[who.id for who in self._chance.sample(self._people, 100)]),
            "`created_after`, `created_before`": lambda: self._list(**self._month()),
            "`email_prefix`, 1 letter": lambda: self._list(email_prefix=self._anybody().email[0]),
            "`email_prefix`, 2 or 3 letters": lambda: self._list(email_prefix=self._start(2, 3)),
            "`email_prefix`, 4 to 8 letters": lambda: self._list(email_prefix=self._start(4, 8)),
            "`email_prefix`, up to the @": lambda: self._list(
                email_prefix=self._anybody().email.partition("@")[0]
            ),
            "`email_prefix`, nobody's": lambda: self._list(email_prefix=self._nobody()),
            "`q`, a first name": lambda: self._list(text=self._anybody().name.split()[0]),
            "`q`, a family name": lambda: self._list(text=self._anybody().name.split()[-1]),
            "`q`, a whole name": lambda: self._list(text=self._anybody().name),
            "`q`, a whole address": lambda: self._list(text=self._anybody().email),
            "`q`, a domain": lambda: self._list(text=self._anybody().email.partition("@")[2]),
            "`q`, 1 letter": lambda: self._list(text=self._part(1)),
            "`q`, 2 letters": lambda: self._list(text=self._part(2)),
            "`q`, 3 letters": lambda: self._list(text=self._part(3)),
            "`q`, 5 letters": lambda: self._list(text=self._part(5)),
            "`q`, a page anywhere": lambda: self._list(
                after=self._anybody(), text=self._anybody().name.split()[-1]
            ),
            "`q`, nobody's": lambda: self._list(text=self._nobody()),
            "`q`, 2 letters, nobody's": lambda: self._list(text=self._chance.choice(NOBODY_HAS)),
            "`q` and `status=blocked`": lambda: self._list(
                text=self._anybody().name.split()[-1], status="blocked"
            ),
            "`q` and a month": lambda: self._list(text=self._anybody().name.split()[-1], **self._month()),
            "`q` and `role`": lambda: self._list(text=self._anybody().name.split()[0], role="operator"),
            "`email_prefix` and `status=blocked`": lambda: self._list(
                email_prefix=self._start(2, 8), status="blocked"
            ),
            "a history": self._history,
            "the feed, anywhere": lambda: self._feed(after=self._chance.randrange(self._events)),
            "the feed, its end": lambda: self._feed(after=self._events - self._chance.randrange(PAGE)),
            "the feed of a rare type": lambda: self._feed(
                after=self._chance.randrange(self._events), types=["user.unblocked"]
            ),
        }

    def _list(self, after: Person | None = None, **criteria: Any) -> Ask:
        from users.application.ports import UserCriteria
        from users.infrastructure.cursors import SignedCursors

        cursor = after and SignedCursors().write("users", [after.created_at.isoformat(), after.id])
        return lambda: self._queries.list(UserCriteria(**criteria), limit=PAGE, cursor=cursor)

    def _history(self) -> Ask:
        who = self._anybody().id
        return lambda: self._queries.history(who, limit=PAGE, cursor=None)

    def _feed(self, **asked: Any) -> Ask:
        return lambda: self._queries.feed(limit=PAGE, **asked)

    def _anybody(self) -> Person:
        return self._chance.choice(self._people)

    def _start(self, least: int, most: int) -> str:
        return self._anybody().email[: self._chance.randint(least, most)]

    def _part(self, length: int) -> str:
        """Letters that follow each other in somebody's address or name."""
        text = self._chance.choice([self._anybody().email, self._anybody().name])
        start = self._chance.randrange(len(text) - length + 1)
        return text[start : start + length].strip() or "a"

    def _nobody(self) -> str:
        return "".join(self._chance.choices("abcdefghijklmnopqrstuvwxyz", k=8))

    def _month(self) -> dict[str, datetime]:
        since = self._anybody().created_at
        return {"created_after": since, "created_before": since + timedelta(days=30)}


NOBODY_HAS = ["zq", "qx", "jj", "!!", "xk", "vv", "%", "_x", "wq", "ß", "qz", "'"]


def users_in_all() -> int:
    from users.models import UserRecord

    return UserRecord.objects.count()


def _some_people() -> list[Person]:
    """From all over the table, at random."""
    from django.db import connection

    share = min(100.0, 100 * 8000 / users_in_all())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text, email, name, created_at FROM users TABLESAMPLE SYSTEM (%s) "
            "WHERE status = 'active' ORDER BY random() LIMIT 4000",
            [share],
        )
        return [Person(*row) for row in cursor.fetchall()]


def _place(pages: int, deep: int) -> Person:
    """The last user of the page before."""
    from users.models import UserRecord

    at = PAGE * (min(pages - 1, deep) - 1) - 1
    rows = UserRecord.objects.order_by("-created_at", "-id").values_list("id", "email", "name", "created_at")
    user_id, email, name, created_at = rows[at]
    return Person(str(user_id), email or "", name or "", created_at)


def _last_sequence() -> int:
    from users.models import RelayPosition

    return RelayPosition.objects.get().sequenced
