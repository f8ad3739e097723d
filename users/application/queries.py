"""The read side: from the cache as ready JSON, or by one SQL statement; never through the aggregate."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from users.application.envelope import Envelope
from users.application.errors import EventsGone, InvalidQuery
from users.application.ports import (
    CacheAnswer,
    Cursors,
    FeedWatch,
    Listed,
    Measure,
    Position,
    UserCache,
    UserCriteria,
    UserReads,
)
from users.application.representation import UserView, canonical
from users_domain.errors import InvalidUserId, UserNotFound, VersionMismatch

MAX_PAGE = 100
MAX_WAIT = 30
"""Seconds: below what gateways and clients cut off."""


@dataclass(frozen=True, slots=True)
class Page:
    """`results` as JSON-ready values or bytes; `cursor` leads to the next page, None at the end."""

    results: list[Any]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Envelopes; `next` is the sequence to go on from, None at the end. `early`: answered at once, or before
    its time, to a reader who would have waited."""

    results: Sequence[Envelope]
    next: int | None
    early: bool = False


def is_empty(page: FeedPage) -> bool:
    return not page.results


class UserQueries:
    def __init__(
        self,
        *,
        reads: UserReads,
        cache: UserCache,
        cursors: Cursors,
        feed_watch: FeedWatch,
        measure: Measure,
        note_cache: Callable[[str], None],
    ) -> None:
        """`note_cache` is told of each read of one user: hit, miss or bypass."""
        self._note_cache = note_cache
        self._reads = reads
        self._cache = cache
        self._cursors = cursors
        self._feed_watch = feed_watch
        self._measure = measure

    def get(self, user_id: str, *, min_version: int = 0, seen: CacheAnswer | None = None) -> UserView:
        """The user, at least as new as `min_version`. `seen`: what the cache has just answered on other
        business. Raises UserNotFound; VersionMismatch when even the primary is older."""
        with self._measure("get"):
            view = self._get(_known_form(user_id), min_version, seen)
            if view.version < min_version:
                raise VersionMismatch("The user has not reached the version that you named.")
            return view

    def account(self, user_id: str, *, seen: CacheAnswer | None = None) -> tuple[UserView, CacheAnswer]:
        """The user, to judge his access tokens by; not counted as a read. With what stands for him as `seen`
        from now on. Raises UserNotFound."""
        answer = seen or self._cache.get(user_id)
        view = self._read(user_id, answer)
        return view, CacheAnswer(answer.result, view=view)

    def _get(self, user_id: str, min_version: int, seen: CacheAnswer | None) -> UserView:
        answer = seen or self._cache.get(user_id)
        if answer.view and answer.view.version < min_version:
            answer = CacheAnswer("miss")
        self._note_cache(answer.result)
        return self._read(user_id, answer)

    def _read(self, user_id: str, answer: CacheAnswer) -> UserView:
        if answer.view:
            return answer.view
        view = self._reads.view(user_id)
        if view is None:
            raise UserNotFound
        if answer.lease:
            self._cache.fill(answer.lease, view)
        return view

    def list(self, criteria: UserCriteria, *, limit: int, cursor: str | None) -> Page:
        """A page of users, newest first; with fewer than `limit`, and a cursor all the same, where the search
        for more would take long. Raises InvalidQuery."""
        with self._measure("list"):
            after = self._position(cursor) if cursor else None
            found = self._reads.users(criteria, after, limit + 1)
            return Page([one.json for one in found[:limit] if one.json], self._cursor_behind(found, limit))

    def history(self, user_id: str, *, limit: int, cursor: str | None) -> Page:
        """The user's events, oldest first. Raises UserNotFound, InvalidQuery."""
        with self._measure("history"):
            key = _known_form(user_id)
            after = self._number("history", cursor) if cursor else 0
            found = self._reads.history(key, after, limit + 1)
            if not found and self._reads.view(key) is None:
                raise UserNotFound
            more = len(found) > limit
            return Page(
                found[:limit],
                self._cursors.write("history", [found[limit - 1]["user_version"]]) if more else None,
            )

    def feed(
        self,
        *,
        after: int,
        limit: int,
        types: Collection[str] = (),
        wait: float = 0,
        unchanged: Callable[[FeedPage], bool] = is_empty,
    ) -> FeedPage:
        """The events behind the sequence `after`, of `types` alone if any are named. While the page is
        `unchanged` to this reader, it is held back, for `wait` seconds at most. Raises EventsGone."""
        page = self._feed(after, limit, types)
        if not wait or not unchanged(page):
            return page
        with self._feed_watch.place(wait) as place:
            if place is None:
                return replace(page, early=True)
            # Nothing is beyond `after` that has not come since; of other types there may be something.
            reached: int | None = after
            while reached is not None and unchanged(page):
                reached = place.beyond(reached)
                page = self._feed(after, limit, types)
            return replace(page, early=place.cut_short and unchanged(page))

    def _feed(self, after: int, limit: int, types: Collection[str]) -> FeedPage:
        with self._measure("feed"):  # each reading by itself: waiting is no work
            found = self._whole(after, limit + 1, types)
            return FeedPage(found[:limit], found[limit - 1]["sequence"] if len(found) > limit else None)

    def _whole(self, after: int, limit: int, types: Collection[str]) -> Sequence[Envelope]:
        """Raises EventsGone rather than leave out what was deleted, before the reading or during it."""
        found = self._reads.feed(after, limit, types)
        if not _may_lack_some(found, after, types):
            return found
        # Asked behind the reading, so that what is deleted meanwhile is noticed.
        pruned = self._reads.pruned()
        if 0 < after < pruned:
            raise EventsGone(pruned + 1)
        if not after and found[0]["sequence"] <= pruned:
            return self._whole(pruned, limit, types)  # the oldest that is kept is another one by now
        return found

    def _cursor_behind(self, found: Sequence[Listed], limit: int) -> str | None:
        whole = len(found) <= limit
        if whole and (not found or found[-1].json):
            return None
        last = found[-1 if whole else limit - 1].position
        return self._cursors.write("users", [last.created_at.isoformat(), last.id])

    def _position(self, cursor: str) -> Position:
        created_at, user_id = self._cursors.read("users", cursor)
        return Position(datetime.fromisoformat(str(created_at)), str(user_id))

    def _number(self, kind: str, cursor: str) -> int:
        (number,) = self._cursors.read(kind, cursor)
        if not isinstance(number, int):
            raise InvalidQuery("cursor", "This cursor is not one of ours.")
        return number


def _may_lack_some(found: Sequence[Mapping[str, Any]], after: int, types: Collection[str]) -> bool:
    """Whether there may be a hole: before the first of them, or inside, as rows are read one by one where
    poison is among them. To those who begin at 0 only what is inside matters."""
    if not found:
        return after > 0
    before = after or found[0]["sequence"] - 1
    return bool(types) or found[-1]["sequence"] != before + len(found)


def _known_form(user_id: str) -> str:
    """The id as it is kept; what is not an id names nobody."""
    try:
        return canonical(user_id)
    except InvalidUserId:
        raise UserNotFound from None
