"""Logging in: who may, what is said to whom, and one hash whatever the outcome."""

import contextlib

import pytest

from tests.builders import a_blocked_user, a_user, later
from tests.fakes import InMemoryUserRepository, PlainHasher, ReadableTokens, StoppedClock, Stopwatch
from users.application.errors import InvalidCredentials
from users.application.sessions import LogIn, Sessions
from users_domain.errors import UserBlocked
from users_domain.value_objects import Email

ANN = LogIn(email="ann@example.com", password="right")


class House:
    def __init__(self, *users) -> None:
        self.hasher = PlainHasher()
        self.clock = StoppedClock()
        self.stopwatch = Stopwatch()
        self.sessions = Sessions(
            users=InMemoryUserRepository(*users),
            hasher=self.hasher,
            tokens=ReadableTokens(),
            clock=self.clock,
            measure=self.stopwatch,
        )


def ann(make=a_user, **more):
    return make(email=Email("ann@example.com"), password_hash="hash of right", **more)


def test_the_right_password_gets_a_token_of_the_user_as_he_is_now():
    house = House(ann(token_version=7))

    assert house.sessions.log_in(ANN) == "token of ann@example.com at 7"
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
    assert house.sessions.log_in(ANN) == "token of ann@example.com at 2"


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
