"""Limits: how they are written, what is let through and when, and what nobody may use up for another."""

import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import pytest

from users.application.addresses import network_of, prefix_of
from users.application.errors import RateLimited
from users.application.limits import Claim, Limits, Policy, noted_standings
from users.infrastructure.rate_limits import KeyNames, LocalMeter

TEN = Policy("login", 10, 900)
TWO = Policy("reset", 2, 60)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class House:
    def __init__(self, *policies, most=100):
        self.clock = Clock()
        self.limited = []
        self.meter = LocalMeter(most=most, clock=self.clock)
        named = {policy.name: policy for policy in policies} | {"silent": None}
        self.limits = Limits(named, self.meter, limited=self.limited.append)

    def passes(self, **keys):
        try:
            self.limits.hold(**keys)
        except RateLimited:
            return False
        return True

    def count(self, **keys):
        """How many in a row."""
        passed = 0
        while self.passes(**keys):
            passed += 1
        return passed


# --- How a limit is written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "quota", "seconds"),
    [
        ("10/15m", 10, 900),
        ("5/30s", 5, 30),
        ("100/1h", 100, 3600),
        ("60/m", 60, 60),
        ("1/30d", 1, 2_592_000),
        (" 1000000/1s ", 1_000_000, 1),
    ],
)
def test_a_limit_is_a_number_and_a_time(rule, quota, seconds):
    assert Policy.parse("login", rule) == Policy("login", quota, seconds)


def test_a_limit_can_be_off():
    assert Policy.parse("login", "off") is Policy.parse("login", " OFF ") is None


@pytest.mark.parametrize(
    "rule",
    ["", "10", "10/", "/15m", "10/15", "ten/15m", "10/15 minutes", "-1/15m", "0/15m", "10/0m", "1.5/1m",
     "10/15m/1h", "1000001/1s", "1/31d", "١٠/15m", "on", "10/15w", "99999999999999999999/1s"],
)  # fmt: skip
def test_what_is_no_limit_is_refused_with_an_example(rule):
    with pytest.raises(ValueError, match="10/15m") as refusal:
        Policy.parse("login", rule)
    assert repr(rule) in str(refusal.value)


# --- What is let through -------------------------------------------------------------------------


def test_as_many_as_the_limit_says_are_let_through_at_once_and_not_one_more():
    assert House(TEN).count(login="ann") == 10


def test_then_one_comes_back_at_a_time_and_the_refusal_says_when():
    house = House(TEN)
    house.count(login="ann")
    with pytest.raises(RateLimited) as refusal:
        house.limits.hold(login="ann")
    assert refusal.value.retry_after == 90

    house.clock.now += 89.9
    assert not house.passes(login="ann")
    house.clock.now += 0.1
    assert house.count(login="ann") == 1
    house.clock.now += 180
    assert house.count(login="ann") == 2
    house.clock.now += 5000
    assert house.count(login="ann") == 10


def test_a_refusal_asks_for_a_whole_second_at_least():
    house = House(Policy("caller", 1000, 1))
    house.count(caller="ann")
    with pytest.raises(RateLimited) as refusal:
        house.limits.hold(caller="ann")
    assert refusal.value.retry_after == 1


def test_whoever_is_refused_and_tries_on_waits_no_longer_for_it():
    house = House(TEN)
    house.count(login="ann")
    for _ in range(50):
        house.passes(login="ann")
    house.clock.now += 90
    assert house.passes(login="ann")


def test_one_uses_nothing_of_another_up():
    house = House(TEN, TWO)
    house.count(login="ann")
    assert house.count(login="bob") == 10
    assert house.count(reset="ann") == 2


def test_what_one_limit_refuses_uses_nothing_of_the_others_up():
    house = House(TEN, TWO)
    assert house.count(login="ann", reset="ann") == 2
    for _ in range(20):
        assert not house.passes(login="ann", reset="ann")
    assert house.count(login="ann") == 8


def test_a_question_uses_nothing_up_and_is_refused_like_a_claim():
    house = House(TWO)
    questions = [Claim(TWO, "ann", cost=0)]
    for _ in range(5):
        assert house.meter.take(questions).refused is None
    assert house.count(reset="ann") == 2
    assert house.meter.take(questions).refused


def test_a_limit_that_is_off_counts_nothing():
    house = House(TWO)
    assert all(house.passes(silent="ann") for _ in range(100))
    assert house.limits.claims({"silent": "ann"}) == []


def test_of_several_refusals_the_longest_wait_is_told():
    house = House(TEN, TWO)
    house.count(login="ann")
    house.count(reset="ann")
    with pytest.raises(RateLimited) as refusal:
        house.limits.hold(reset="ann", login="ann")
    assert (refusal.value.retry_after, refusal.value.policy) == (90, "login")


def test_every_refusal_is_counted_by_its_limit():
    house = House(TEN, TWO)
    house.count(reset="ann")
    assert house.limited == ["reset"]


class Slow(OrderedDict):
    """Gives others a chance between looking and counting."""

    def get(self, *arguments):
        value = super().get(*arguments)
        time.sleep(0.001)
        return value


def test_of_40_at_once_exactly_10_are_let_through():
    house = House(TEN)
    house.meter._tats = Slow()
    with ThreadPoolExecutor(40) as threads:
        assert sum(threads.map(lambda _: house.passes(login="ann"), range(40))) == 10


def test_memory_is_bounded_and_what_was_not_used_for_longest_goes_first():
    house = House(TWO, most=3)
    for name in ("ann", "bob", "cyd"):
        assert house.count(reset=name) == 2
    house.clock.now += 31
    assert house.passes(reset="ann")  # used last now
    assert house.passes(reset="dan")
    assert not house.passes(reset="ann")
    assert house.count(reset="bob") == 2


def test_a_long_key_takes_no_more_memory_than_a_short_one():
    house = House(TWO)
    assert house.count(reset="x" * 60_000) == 2
    assert house.count(reset="x" * 60_001) == 2
    assert house.count(reset="\ud800") == 2
    assert all(len(key) <= 16 for place in house.meter._tats for key in place)


def test_what_is_given_back_may_be_used_again_and_no_more_than_that():
    house = House(TEN)
    house.meter.give_back([Claim(TEN, "ann")])
    assert house.count(login="ann") == 10
    house.meter.give_back([Claim(TEN, "ann"), Claim(TEN, "ann")])
    assert house.count(login="ann") == 2
    assert house.count(login="bob") == 10


# --- What the caller is told ---------------------------------------------------------------------


def told(house, **keys):
    with noted_standings() as standings:
        house.passes(**keys)
    return {name: (one.remaining, one.reset) for name, one in standings.items()}


def test_the_caller_is_told_what_remains_and_when_there_is_one_more():
    house = House(TEN, TWO)
    assert told(house, login="ann") == {"login": (9, 90)}
    house.clock.now += 60
    assert told(house, login="ann", reset="ann") == {"login": (8, 30), "reset": (1, 30)}


def test_whoever_is_refused_is_told_so():
    house = House(TEN, TWO)
    house.count(reset="ann")
    assert told(house, login="ann", reset="ann") == {"reset": (0, 30)}


def test_what_was_only_asked_is_not_told():
    house = House(TEN, TWO)
    with noted_standings() as standings:
        house.limits.enforce([Claim(TEN, "ann"), Claim(TWO, "ann", cost=0)])
    assert set(standings) == {"login"}


def test_what_is_not_for_the_caller_is_counted_and_not_told():
    house = House(TEN, TWO)
    with noted_standings() as standings:
        house.limits.enforce([Claim(TEN, "ann"), Claim(TWO, "ann", told=False)])
    assert set(standings) == {"login"}
    assert house.count(reset="ann") == 1


def test_what_comes_after_is_not_told():
    house = House(TEN)
    with noted_standings() as standings:
        pass
    house.passes(login="ann")
    assert standings == {}


def test_nobody_is_told_where_others_stand():
    house = House(TEN)
    heard = []

    def other():
        with noted_standings() as standings:
            heard.append(dict(standings))

    with noted_standings() as standings:
        house.passes(login="ann")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert heard == [{}]
    assert set(standings) == {"login"}
    assert told(house) == {}


# --- Whom keys are about -------------------------------------------------------------------------


def test_a_key_says_nothing_of_whom_it_is_about():
    names = KeyNames("a secret")
    name = names.name("login", "ann@example.com\n192.0.2.7")
    assert name.startswith("limit:login:")
    assert not {"ann", "example", "192"} & set(name.replace("@", ":").replace(".", ":").split(":"))
    assert names.name("login", "ann@example.com\n192.0.2.7") == name
    assert names.name("login", "ann@example.com\n192.0.2.8") != name
    assert KeyNames("another secret").name("login", "ann@example.com\n192.0.2.7") != name


def test_any_text_makes_a_key():
    assert KeyNames("a secret").name("login", "\ud800\x00" * 1000).startswith("limit:login:")


@pytest.mark.parametrize(
    ("address", "network", "prefix"),
    [
        ("192.0.2.7", "192.0.2.7/32", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32", "192.0.2.0/24"),
        ("64:ff9b::c000:207", "192.0.2.7/32", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:DB8:1:2:ffff::1", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("", "", ""),
        ("unknown", "", ""),
        ("192.0.2.007", "", ""),
    ],
)
def test_an_address_counts_by_its_network_and_is_shown_by_its_prefix(address, network, prefix):
    assert (network_of(address), prefix_of(address)) == (network, prefix)
