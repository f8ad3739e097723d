"""The read side over fakes: when it asks the cache, when the primary, and what its pages lead to."""

import pytest

from tests.builders import a_user, later
from tests.fakes import (
    InMemoryReads,
    InMemoryUserCache,
    InMemoryUserRepository,
    PlainCursors,
    StagedFeedWatch,
    Stopwatch,
)
from users.application.errors import EventsGone, InvalidQuery
from users.application.ports import CacheAnswer, UserCriteria
from users.application.queries import FeedPage, UserQueries
from users.application.representation import view_of
from users_domain.errors import UserNotFound, VersionMismatch
from users_domain.value_objects import UserStatus


class House:
    def __init__(self, reads=InMemoryReads, **of_reads) -> None:
        self.ann = a_user(version=5, token_version=2)
        self.users = InMemoryUserRepository(self.ann)
        self.cache = InMemoryUserCache()
        self.reads = reads(self.users, **of_reads)
        self.stopwatch = Stopwatch()
        self.watch = StagedFeedWatch()
        self.noted: list[str] = []
        self.queries = UserQueries(
            reads=self.reads,
            cache=self.cache,
            cursors=PlainCursors(),
            feed_watch=self.watch,
            measure=self.stopwatch,
            note_cache=self.noted.append,
        )

    def get(self, **more):
        return self.queries.get(str(self.ann.id), **more)


@pytest.fixture
def house() -> House:
    return House()


def test_a_miss_reads_the_primary_and_fills_the_cache(house):
    assert house.get() == view_of(house.ann)
    assert house.get() == view_of(house.ann)

    assert house.noted == ["miss", "hit"]
    assert house.reads.asked == 1
    assert house.stopwatch.measured == [("get", True), ("get", True)]


def test_without_a_lease_nothing_is_filled(house):
    house.cache.get(str(house.ann.id))  # somebody else has it

    assert house.get() == view_of(house.ann)
    assert house.cache.entries == {}
    assert house.noted == ["miss"]


def test_with_the_cache_away_every_read_asks_the_primary(house):
    house.cache.away = True

    assert [house.get(), house.get()] == [view_of(house.ann)] * 2
    assert house.noted == ["bypass", "bypass"]
    assert house.reads.asked == 2


def test_what_the_caller_has_seen_already_is_not_read_again_and_counts_as_it_was_found(house):
    seen = view_of(a_user(id=house.ann.id, version=4))

    assert house.get(seen=CacheAnswer("hit", view=seen)) == seen
    assert house.get(seen=CacheAnswer("miss", view=seen)) == seen
    assert house.noted == ["hit", "miss"]
    assert house.reads.asked == 0


@pytest.mark.parametrize("seen", [True, False])
def test_min_version_is_never_answered_by_an_older_entry(house, seen):
    old = view_of(a_user(id=house.ann.id, version=4))
    house.cache.entries[old.id] = old

    assert house.get(min_version=5, seen=CacheAnswer("hit", view=old) if seen else None) == view_of(house.ann)
    assert house.get(min_version=4) == old
    assert house.noted == ["miss", "hit"]


def test_min_version_beyond_the_primary_is_refused(house):
    for _ in range(2):  # from the primary, then from the cache and the primary
        with pytest.raises(VersionMismatch):
            house.get(min_version=6)
    assert house.get(min_version=5).version == 5


@pytest.mark.parametrize(
    "named", ["17", "", "me", "01900000-0000-7000-8000-000000000000", "00000000-0000-4000-8000-000000000000"]
)
def test_whoever_is_not_there_is_not_found(house, named):
    for ask in (house.queries.get, lambda who: house.queries.history(who, limit=5, cursor=None)):
        with pytest.raises(UserNotFound):
            ask(named)


def test_an_id_is_found_in_any_case(house):
    house.get()

    assert house.queries.get(str(house.ann.id).upper()) == view_of(house.ann)
    assert house.noted == ["miss", "hit"]


def test_the_token_version_comes_from_what_was_seen_else_the_cache_else_the_primary(house):
    key = str(house.ann.id)
    seen = CacheAnswer("hit", view=view_of(a_user(token_version=9)))
    assert house.queries.account(key, seen=seen) == (seen.view, seen)
    assert house.reads.asked == 0
    read, stands = house.queries.account(key)
    assert (read.token_version, stands) == (2, CacheAnswer("miss", view=read))
    assert house.queries.account(key)[1].result == "hit"
    assert house.reads.asked == 1
    house.cache.away = True
    assert house.queries.account(key)[1].result == "bypass"
    with pytest.raises(UserNotFound):
        house.queries.account(str(a_user().id))


def everybody(house, limit, criteria=None):
    """All pages of the list, following the cursor."""
    pages, cursor = [], None
    while True:
        page = house.queries.list(criteria or UserCriteria(), limit=limit, cursor=cursor)
        pages.append(page.results)
        if page.cursor is None:
            return pages
        cursor = page.cursor


def test_pages_hold_everybody_once_newest_first_and_end(house):
    born = [a_user(created_at=later(seconds=n // 2)) for n in range(6)]  # pairs of the same instant
    house.users.stored = {user.id: user for user in born}

    pages = everybody(house, 2)

    newest_first = sorted(born, key=lambda user: (user.created_at, str(user.id)), reverse=True)
    assert [each for page in pages for each in page] == [view_of(user).json for user in newest_first]
    assert [len(page) for page in pages] == [2, 2, 2]  # no empty page at the end


def test_filters_reach_the_reads(house):
    blocked = a_user(status=UserStatus.BLOCKED)
    house.users.stored[blocked.id] = blocked

    assert everybody(house, 5, UserCriteria(status="blocked")) == [[view_of(blocked).json]]


def test_the_cursor_of_another_list_is_refused(house):
    house.reads.envelopes = [
        {"user_id": str(house.ann.id), "user_version": n, "sequence": n} for n in (1, 2, 3)
    ]
    other = house.queries.history(str(house.ann.id), limit=1, cursor=None).cursor

    with pytest.raises(InvalidQuery):
        house.queries.list(UserCriteria(), limit=1, cursor=other)


def test_the_history_leads_through_all_events_oldest_first(house):
    key = str(house.ann.id)
    house.reads.envelopes = [
        {"user_id": who, "user_version": n, "sequence": n} for n in (1, 2, 3, 4, 5) for who in (key, "other")
    ]
    versions, cursor = [], None
    for _ in range(3):
        page = house.queries.history(key, limit=2, cursor=cursor)
        versions.append([event["user_version"] for event in page.results])
        cursor = page.cursor

    assert versions == [[1, 2], [3, 4], [5]]
    assert cursor is None


def test_a_user_without_events_has_an_empty_history(house):
    assert house.queries.history(str(house.ann.id), limit=2, cursor=None).results == []


def events(*numbers, event_type="user.renamed"):
    return [{"sequence": number, "event_type": event_type} for number in numbers]


def test_the_feed_goes_on_from_its_last_sequence(house):
    house.reads.envelopes = events(1, 2, 3, 4)

    assert house.queries.feed(after=0, limit=3) == FeedPage(events(1, 2, 3), next=3)
    assert house.queries.feed(after=3, limit=3) == FeedPage(events(4), next=None)
    assert house.queries.feed(after=4, limit=3) == FeedPage([], next=None)


def test_the_feed_of_some_types_goes_on_from_the_last_one_that_was_seen(house):
    house.reads.envelopes = events(1) + events(2, event_type="user.blocked") + events(3, 4)

    page = house.queries.feed(after=0, limit=2, types=["user.renamed"])

    assert page == FeedPage(events(1, 3), next=3)
    assert house.queries.feed(after=3, limit=2, types=["user.blocked"]) == FeedPage([], next=None)


@pytest.mark.parametrize("types", [(), ("user.renamed",)])
def test_the_feed_says_when_events_behind_a_position_are_gone(house, types):
    house.reads.envelopes, house.reads.pruned_to = events(8, 9), 7

    with pytest.raises(EventsGone) as gone:
        house.queries.feed(after=6, limit=5, types=types)

    assert gone.value.oldest == 8
    assert house.queries.feed(after=7, limit=5, types=types).results == events(8, 9)
    assert house.queries.feed(after=0, limit=5, types=types).results == events(8, 9)  # from the oldest kept
    assert house.queries.feed(after=9, limit=5, types=types).results == []
    house.reads.envelopes, house.reads.pruned_to = [], 9  # all that there was
    assert house.queries.feed(after=9, limit=5, types=types).results == []


def test_the_feed_asks_what_is_gone_only_where_something_may_be_missing(house):
    house.reads.envelopes = events(1, 2, 3)

    house.queries.feed(after=0, limit=5)
    house.queries.feed(after=1, limit=5)

    assert house.reads.asked == 2


class Shrinking(InMemoryReads):
    """Retention deletes while a page is read row by row: the first reading lacks `lost`, and `pruned_to`
    rises to `until` with it."""

    def __init__(self, users, *, lost, until):
        super().__init__(users)
        self.lost, self.until = lost, until

    def feed(self, after_sequence, limit, types=()):
        found = super().feed(after_sequence, limit, types)
        self.envelopes = [each for each in self.envelopes if each["sequence"] > self.until]
        self.pruned_to = self.until
        lost, self.lost = self.lost, ()
        return [each for each in found if each["sequence"] not in lost]


@pytest.mark.parametrize("types", [(), ("user.renamed",)])
def test_a_hole_torn_into_a_page_while_it_is_read_is_noticed(types):
    house = House(Shrinking, lost=(4, 5), until=5)
    house.reads.envelopes = events(1, 2, 3, 4, 5, 6, 7)

    with pytest.raises(EventsGone) as gone:
        house.queries.feed(after=2, limit=5, types=types)

    assert gone.value.oldest == 6


@pytest.mark.parametrize("types", [(), ("user.renamed",)])
def test_from_the_beginning_such_a_page_is_read_anew(types):
    house = House(Shrinking, lost=(2, 3), until=3)
    house.reads.envelopes = events(1, 2, 3, 4, 5)

    assert house.queries.feed(after=0, limit=5, types=types).results == events(4, 5)


def test_what_should_be_deleted_and_is_not_is_passed_over(house):
    house.reads.envelopes, house.reads.pruned_to = events(1, 2, 3, 4), 3

    assert house.queries.feed(after=0, limit=5, types=["user.renamed"]).results == events(4)


@pytest.mark.parametrize("after", [0, 1])
def test_a_hole_that_no_deletion_made_stops_nobody(house, after):
    house.reads.envelopes = events(1, 2, 9)  # numbers that were stepped over

    assert house.queries.feed(after=after, limit=5).results[-1:] == events(9)
    assert house.queries.feed(after=2, limit=5).results == events(9)


# --- Waiting for the feed -------------------------------------------------------------------------------


def arrives(house, *numbers, **more):
    """That these events are there from the next wait on."""

    def happen():
        house.reads.envelopes += events(*numbers, **more)
        return numbers[-1]

    house.watch.happens.append(happen)


def test_nobody_waits_who_did_not_ask_for_it(house):
    assert house.queries.feed(after=0, limit=5) == FeedPage([], next=None)
    assert house.watch.waited == []


def test_nobody_waits_when_there_is_something(house):
    house.reads.envelopes = events(1)

    assert house.queries.feed(after=0, limit=5, wait=9).results == events(1)
    assert house.watch.waited == []


def test_an_empty_page_is_held_back_until_something_comes(house):
    house.reads.envelopes = events(1)
    arrives(house, 2)

    assert house.queries.feed(after=1, limit=5, wait=9) == FeedPage(events(2), next=None)
    assert house.watch.waited == [9, 1]


def test_events_of_other_types_let_the_wait_go_on_from_where_they_are(house):
    arrives(house, 3)
    arrives(house, 4, event_type="user.blocked")

    page = house.queries.feed(after=1, limit=5, types=["user.blocked"], wait=9)

    assert [event["sequence"] for event in page.results] == [4]
    assert house.watch.waited == [9, 1, 3]


def test_a_page_that_the_reader_has_is_held_back_until_it_is_another_one(house):
    house.reads.envelopes = events(1)
    arrives(house, 2)

    page = house.queries.feed(after=0, limit=5, wait=9, unchanged=lambda page: len(page.results) == 1)

    assert page == FeedPage(events(1, 2), next=None)


def test_when_the_time_is_up_the_page_is_read_a_last_time(house):
    asked = house.reads.asked

    assert house.queries.feed(after=0, limit=5, wait=9) == FeedPage([], next=None, early=False)
    assert house.watch.waited == [9, 0]
    assert house.reads.asked == asked + 2


def test_without_a_place_the_answer_comes_at_once_and_says_that_it_is_early(house):
    house.watch.full = True

    assert house.queries.feed(after=0, limit=5, wait=9) == FeedPage([], next=None, early=True)


def test_a_process_that_stops_answers_early(house):
    house.watch.stops_at_the_end = True

    assert house.queries.feed(after=0, limit=5, wait=9) == FeedPage([], next=None, early=True)


def test_an_answer_with_something_new_is_never_early(house):
    house.watch.stops_at_the_end = True
    arrives(house, 1)

    assert not house.queries.feed(after=0, limit=5, wait=9).early


def test_what_fails_during_the_wait_fails_the_reader(house):
    house.reads.pruned_to = 7

    def all_is_gone():
        house.reads.pruned_to = 9
        return 9

    house.watch.happens.append(all_is_gone)
    with pytest.raises(EventsGone):
        house.queries.feed(after=8, limit=5, wait=9)


def test_each_reading_is_measured_and_the_waiting_is_not(house):
    arrives(house, 1)

    house.queries.feed(after=0, limit=5, wait=9)

    assert house.stopwatch.measured == [("feed", True)] * 2
