"""Logging in, staying logged in, logging out: who may, what is said to whom, and one hash whatever the
outcome."""

import contextlib
from datetime import timedelta

import pytest

from tests.builders import NOW, a_blocked_user, a_user, an_actor, later
from tests.fakes import (
    InMemoryPasswordHashes,
    InMemorySessions,
    InMemoryUnitOfWork,
    InMemoryUserRepository,
    PlainHasher,
    ReadableRefreshTokens,
    ReadableTokens,
    StoppedClock,
    Stopwatch,
    WritingGuard,
)
from users.application.credentials import Credentials, LogIn
from users.application.errors import InvalidCredentials, InvalidToken, RateLimited, SessionNotFound
from users.application.reruns import Reruns
from users.application.sessions import Lifetimes, Sessions
from users_domain.errors import UserBlocked, UserNotFound, VersionMismatch
from users_domain.events import UserSessionsEnded
from users_domain.user import MOST_ENDED_SESSIONS
from users_domain.value_objects import SYSTEM, BlockReason, Email, UserName

ANN = LogIn(email="ann@example.com", password="right", address="192.0.2.7", user_agent="Toaster/1.0")
LIFETIMES = Lifetimes(
    access=timedelta(minutes=5),
    idle=timedelta(days=14),
    absolute=timedelta(days=30),
    grace=timedelta(seconds=10),
    most=3,
)


class House:
    def __init__(self, *users) -> None:
        self.users = InMemoryUserRepository(*users)
        self.unit_of_work = InMemoryUnitOfWork(self.users)
        self.hasher = PlainHasher(self.unit_of_work)
        self.clock = StoppedClock()
        self.stopwatch = Stopwatch()
        self.store = InMemorySessions()
        self.refresh_tokens = ReadableRefreshTokens()
        self.guard = WritingGuard()
        self.hashes = InMemoryPasswordHashes(self.users)
        self.reused = []
        self.sessions = Sessions(
            credentials=Credentials(
                users=self.users,
                hasher=self.hasher,
                hashes=self.hashes,
                guard=self.guard,
                clock=self.clock,
            ),
            users=self.users,
            unit_of_work=self.unit_of_work,
            store=self.store,
            access_tokens=ReadableTokens(),
            refresh_tokens=self.refresh_tokens,
            limits=self.guard,
            lifetimes=LIFETIMES,
            clock=self.clock,
            measure=self.stopwatch,
            reused=lambda user_id, session_id: self.reused.append((user_id, session_id)),
            reruns=Reruns(pause=lambda seconds: None),
        )

    @property
    def ended(self):
        return [event for event in self.unit_of_work.events if isinstance(event, UserSessionsEnded)]


def ann(make=a_user, **more):
    return make(email=Email("ann@example.com"), password_hash="hash of right", **more)


def test_the_right_password_gets_a_token_of_the_user_as_he_is_now():
    house = House(ann(token_version=7))

    tokens = house.sessions.log_in(ANN)

    [session] = house.store.sessions.values()
    assert tokens.access == f"token of ann@example.com at 7 in {session.id}"
    assert house.refresh_tokens.issued[tokens.refresh].session_id == session.id
    assert house.stopwatch.measured == [("log_in", True)]


def test_the_address_is_taken_in_any_form_that_means_it():
    assert House(ann()).sessions.log_in(LogIn(email="  ANN@EXAMPLE.com ", password="right"))


def test_an_unknown_address_and_a_wrong_password_are_refused_alike():
    house = House(ann())
    said = set()
    for email, password in [
        ("ann@example.com", "wrong"),
        ("nobody@example.com", "right"),
        ("no address", "right"),
        ("ann@example.com", ""),
        ("", ""),
    ]:
        with pytest.raises(InvalidCredentials) as refusal:
            house.sessions.log_in(LogIn(email=email, password=password))
        said.add((refusal.value.code, str(refusal.value)))
    assert len(said) == 1


def test_a_blocked_user_hears_so_only_with_the_right_password():
    house = House(ann(a_blocked_user))
    with pytest.raises(UserBlocked):
        house.sessions.log_in(ANN)
    with pytest.raises(InvalidCredentials):
        house.sessions.log_in(LogIn(email="ann@example.com", password="wrong"))


def test_from_the_end_of_a_block_on_its_user_may_log_in_though_nobody_lifted_it_yet():
    house = House(ann(a_blocked_user, until=later(hours=1)))
    house.clock.advance(hours=1, microseconds=-1)
    with pytest.raises(UserBlocked):
        house.sessions.log_in(ANN)

    house.clock.advance(microseconds=1)
    assert "ann@example.com at 2" in house.sessions.log_in(ANN).access


@pytest.mark.parametrize(
    ("house", "email", "password"),
    [
        (House(ann()), "ann@example.com", "right"),
        (House(ann()), "ann@example.com", "wrong"),
        (House(ann()), "nobody@example.com", "right"),
        (House(ann()), "no address at all", "right"),
        (House(ann()), "a" * 300 + "@example.com", "right"),
        (House(ann(a_blocked_user)), "ann@example.com", "right"),
        (House(ann(a_blocked_user)), "ann@example.com", "wrong"),
    ],
)
def test_every_path_costs_exactly_one_hash(house, email, password):
    with contextlib.suppress(InvalidCredentials, UserBlocked):
        house.sessions.log_in(LogIn(email=email, password=password))

    assert house.hasher.calls == 1


def test_no_password_is_shown():
    assert "right" not in repr(ANN)


def test_no_token_is_shown():
    tokens = House(ann()).sessions.log_in(ANN)
    assert tokens.access not in repr(tokens)
    assert tokens.refresh not in repr(tokens)


def test_an_attempt_beyond_the_limit_costs_no_hash():
    house = House(ann())
    house.guard.limited = True
    with pytest.raises(RateLimited):
        house.sessions.log_in(ANN)
    assert house.hasher.calls == 0


def test_the_guard_hears_of_every_outcome():
    user = ann()
    house = House(user)
    house.sessions.log_in(ANN)
    for email in ("ann@example.com", "nobody@example.com"):
        with pytest.raises(InvalidCredentials):
            house.sessions.log_in(LogIn(email=email, password="wrong", address="192.0.2.7"))
    house.users.change(user.id, blocked)
    with pytest.raises(UserBlocked):
        house.sessions.log_in(ANN)

    outcomes = [note for note in house.guard.noted if note[0] != "admit"]
    assert outcomes == [
        ("success", "ann@example.com", str(user.id), "192.0.2.7"),
        ("failure", "ann@example.com", str(user.id), "192.0.2.7", "invalid_credentials"),
        ("failure", "nobody@example.com", "nobody", "192.0.2.7", "invalid_credentials"),
        ("failure", "ann@example.com", str(user.id), "192.0.2.7", "user_blocked"),
    ]


def test_an_outdated_hash_of_the_right_password_is_renewed_and_the_user_is_the_same():
    user = a_user(email=Email("ann@example.com"), password_hash="old hash of right")
    house = House(user)

    house.sessions.log_in(ANN)

    stored = house.users.get(user.id)
    assert stored.password_hash == "hash of right"
    assert (stored.version, house.unit_of_work.events) == (1, [])


def test_a_hash_that_cannot_be_stored_keeps_nobody_out():
    house = House(a_user(email=Email("ann@example.com"), password_hash="old hash of right"))
    house.hashes.away = True
    assert house.sessions.log_in(ANN)


def blocked(user):
    user.block(BlockReason("spam"), last_admin=False, by=SYSTEM, now=NOW)


# --- Sessions --------------------------------------------------------------------------------------------


def test_a_session_says_where_from_without_naming_the_machine():
    user = ann()
    house = House(user)
    house.sessions.log_in(ANN)

    [session] = house.sessions.of(str(user.id))
    assert (session.user_agent, session.address) == ("Toaster/1.0", "192.0.2.0/24")
    assert (session.created_at, session.last_used_at) == (NOW, NOW)
    assert session.expires_at == later(days=30)


def test_beyond_the_most_sessions_the_oldest_makes_room():
    user = ann()
    house = House(user)
    first, *_ = [log_in_later(house) for _ in range(4)]

    assert len(house.sessions.of(str(user.id))) == 3
    with pytest.raises(InvalidToken):
        house.sessions.refresh(first.refresh)
    [event] = house.ended
    assert (event.cause, event.actor_id) == ("replaced", "system")
    assert [str(ended.id) for ended in house.users.get(user.id).ended_sessions] == [event.session_id]


def test_sessions_that_have_ended_make_no_room_and_need_none():
    house = House(ann())
    first = house.sessions.log_in(ANN)
    for _ in range(5):
        house.sessions.log_out(log_in_later(house).refresh)
    assert house.sessions.refresh(first.refresh)


def test_with_one_end_too_many_to_remember_all_sessions_end():
    user = ann()
    house = House(user)
    first = house.sessions.log_in(ANN)
    for _ in range(MOST_ENDED_SESSIONS + 1):
        house.sessions.log_out(house.sessions.log_in(ANN).refresh)
    assert house.ended[-1].session_id is None
    assert house.sessions.of(str(user.id)) == []
    with pytest.raises(InvalidToken):
        house.sessions.refresh(first.refresh)


def test_a_session_that_ended_is_remembered_while_tokens_of_a_longer_life_may_be_about():
    user = ann()
    house = House(user)
    house.sessions.log_out(house.sessions.log_in(ANN).refresh)
    house.clock.advance(minutes=59)
    house.sessions.log_out(house.sessions.log_in(ANN).refresh)
    assert len(house.users.get(user.id).ended_sessions) == 2
    house.clock.advance(minutes=2)
    house.sessions.log_out(house.sessions.log_in(ANN).refresh)
    assert len(house.users.get(user.id).ended_sessions) == 2


def log_in_later(house):
    house.clock.advance(minutes=1)
    return house.sessions.log_in(ANN)


def test_a_refresh_token_leads_to_its_successor_in_the_same_session():
    user = ann()
    house = House(user)
    first = house.sessions.log_in(ANN)
    house.clock.advance(hours=1)
    second = house.sessions.refresh(first.refresh)

    assert second.refresh != first.refresh
    assert second.access == first.access  # as readable tokens say: the same user in the same session
    [session] = house.sessions.of(str(user.id))
    assert session.last_used_at == later(hours=1)
    assert house.sessions.refresh(second.refresh)
    assert ("refresh", str(session.id)) in house.guard.noted


def test_within_the_grace_a_used_token_leads_to_the_same_successor():
    house = House(ann())
    first = house.sessions.log_in(ANN)
    second = house.sessions.refresh(first.refresh)
    house.clock.advance(seconds=10)

    assert house.sessions.refresh(first.refresh).refresh == second.refresh
    assert not house.reused


def test_a_used_token_that_turns_up_later_ends_its_session_and_no_other():
    user = ann()
    house = House(user)
    first = house.sessions.log_in(ANN)
    elsewhere = house.sessions.log_in(ANN)
    second = house.sessions.refresh(first.refresh)
    house.clock.advance(seconds=10, microseconds=1)

    with pytest.raises(InvalidToken):
        house.sessions.refresh(first.refresh)

    session_id = house.refresh_tokens.issued[first.refresh].session_id
    assert house.reused == [(str(user.id), session_id)]
    [event] = house.ended
    assert (event.session_id, event.cause, event.actor_id) == (str(session_id), "token_reused", "system")
    assert house.users.get(user.id).ended_sessions[0].id == session_id
    for dead in (first, second):
        with pytest.raises(InvalidToken):
            house.sessions.refresh(dead.refresh)
    assert len(house.ended) == 1, "ended once"
    assert house.sessions.refresh(elsewhere.refresh)


def test_a_token_that_was_used_too_long_ago_to_be_remembered_counts_as_used():
    house = House(ann())
    first = house.sessions.log_in(ANN)
    house.sessions.refresh(first.refresh)
    house.store.tracks.clear()

    with pytest.raises(InvalidToken):
        house.sessions.refresh(first.refresh)
    assert house.reused


def test_a_session_ends_at_its_last_day_however_often_it_is_used():
    house = House(ann())
    tokens = house.sessions.log_in(ANN)
    for _ in range(29):
        house.clock.advance(days=1)
        tokens = house.sessions.refresh(tokens.refresh)
    assert house.refresh_tokens.issued[tokens.refresh].expires_at == later(days=30)
    house.clock.advance(days=1)
    with pytest.raises(InvalidToken):
        house.sessions.refresh(tokens.refresh)


def test_a_token_waits_for_its_use_as_long_as_a_session_may_idle():
    house = House(ann())
    tokens = house.sessions.log_in(ANN)
    assert house.refresh_tokens.issued[tokens.refresh].expires_at == later(days=14)


@pytest.mark.parametrize(
    "change",
    [
        blocked,
        lambda user: user.change_password("new", by=SYSTEM, now=NOW),
        lambda user: user.change_roles(frozenset({"service"}), last_admin=False, by=SYSTEM, now=NOW),
        lambda user: user.end_all_sessions(by=SYSTEM, now=NOW),
    ],
    ids=["block", "password", "roles", "log out everywhere"],
)
def test_whatever_kills_access_tokens_kills_refresh_tokens(change):
    user = ann()
    house = House(user)
    tokens = house.sessions.log_in(ANN)
    house.users.change(user.id, change)

    with pytest.raises(InvalidToken):
        house.sessions.refresh(tokens.refresh)
    assert house.sessions.of(str(user.id)) == []
    assert not house.reused


def test_another_name_leaves_sessions_alone():
    user = ann()
    house = House(user)
    tokens = house.sessions.log_in(ANN)
    house.users.change(user.id, lambda stored: stored.rename(UserName("Anna"), by=SYSTEM, now=NOW))
    assert house.sessions.refresh(tokens.refresh)


def test_an_erased_user_refreshes_nothing():
    user = ann()
    house = House(user)
    tokens = house.sessions.log_in(ANN)
    del house.users.stored[user.id]
    with pytest.raises(InvalidToken):
        house.sessions.refresh(tokens.refresh)
    house.sessions.log_out(tokens.refresh)


def test_who_logs_out_ends_his_session_and_a_second_time_changes_nothing():
    user = ann()
    house = House(user)
    tokens, elsewhere = house.sessions.log_in(ANN), house.sessions.log_in(ANN)
    house.sessions.log_out(tokens.refresh)
    house.sessions.log_out(tokens.refresh)

    [event] = house.ended
    assert (event.cause, event.actor_id) == ("log_out", str(user.id))
    with pytest.raises(InvalidToken):
        house.sessions.refresh(tokens.refresh)
    assert house.sessions.refresh(elsewhere.refresh)


def test_a_used_token_is_good_enough_to_log_out():
    house = House(ann())
    tokens = house.sessions.log_in(ANN)
    house.sessions.refresh(tokens.refresh)
    house.clock.advance(days=1)
    house.sessions.log_out(tokens.refresh)
    assert [event.cause for event in house.ended] == ["log_out"]


def test_what_is_no_token_of_ours_logs_nobody_out():
    with pytest.raises(InvalidToken):
        House(ann()).sessions.log_out("nonsense")


def test_a_session_is_ended_by_its_id_by_whoever_may():
    user = ann()
    house = House(user)
    tokens = house.sessions.log_in(ANN)
    [session] = house.sessions.of(str(user.id))

    house.sessions.end(str(user.id), str(session.id), by=an_actor(user))

    assert [event.cause for event in house.ended] == ["revoked"]
    with pytest.raises(InvalidToken):
        house.sessions.refresh(tokens.refresh)
    with pytest.raises(SessionNotFound):
        house.sessions.end(str(user.id), str(session.id), by=an_actor(user))


def test_nobody_ends_the_session_of_another_user_in_his_own_name():
    user, other = ann(), a_user()
    house = House(user, other)
    house.sessions.log_in(ANN)
    [session] = house.sessions.of(str(user.id))
    with pytest.raises(SessionNotFound):
        house.sessions.end(str(other.id), str(session.id), by=an_actor(other))
    assert house.sessions.of(str(user.id)) == [session]


def test_who_logs_out_everywhere_has_no_session_left():
    user = ann()
    house = House(user)
    for _ in range(2):
        house.sessions.log_in(ANN)
    house.sessions.log_out_everywhere(str(user.id), by=an_actor(user))

    assert house.sessions.of(str(user.id)) == []
    assert house.users.get(user.id).token_version == 2
    [event] = house.ended
    assert (event.session_id, event.cause) == (None, "log_out_everywhere")


def test_nobody_keeps_a_session_alive_by_changing_the_user_all_the_time():
    user = ann()
    house = House(user)
    tokens = house.sessions.log_in(ANN)
    rename = lambda: house.users.change(  # noqa: E731
        user.id, lambda stored: stored.rename(UserName(f"Ann {stored.version}"), by=SYSTEM, now=NOW)
    )
    house.users.rivals.extend([rename] * 20)
    house.sessions.log_out(tokens.refresh)
    house.sessions.log_out_everywhere(str(user.id), by=an_actor(user))
    assert len(house.ended) == 2
    assert house.unit_of_work.opened == 2


@pytest.mark.parametrize("act", ["end", "log_out_everywhere"])
def test_a_session_ends_only_at_the_version_that_was_named(act):
    user = ann()
    house = House(user)
    house.sessions.log_in(ANN)
    [session] = house.sessions.of(str(user.id))
    about = (str(user.id), str(session.id)) if act == "end" else (str(user.id),)
    with pytest.raises(VersionMismatch):
        getattr(house.sessions, act)(*about, by=an_actor(user), expected=frozenset({7}))
    assert house.sessions.of(str(user.id)) == [session]
    getattr(house.sessions, act)(*about, by=an_actor(user), expected=frozenset({1}))
    assert house.sessions.of(str(user.id)) == []


def test_nobody_has_no_sessions():
    with pytest.raises(UserNotFound):
        House().sessions.of(str(a_user().id))
