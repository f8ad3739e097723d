"""Guessing passwords is slow, and being guessed at does not shut the owner out."""

import json
import logging

import pytest

from tests.together import together
from users.application.errors import RateLimited
from users.application.limits import Limits, Policy, noted_standings
from users.infrastructure import login_guard, metrics, rate_limits
from users.infrastructure.login_guard import RedisLoginGuard, canonical
from users.infrastructure.proven_networks import ProvenNetworks
from users.infrastructure.rate_limits import KeyNames, LocalMeter, RedisMeter
from users.infrastructure.redis_link import RedisLink

ANN, HER_ID = "ann@example.com", "0198c1a2-7c1e-7d60-9b61-52f0a3a1f0c4"
HOME, STRANGE = "192.0.2.7", "198.51.100.9"
POLICIES = {
    "login": Policy("login", 3, 900),
    "login_address": Policy("login_address", 5, 900),
    "login_account": Policy("login_account", 4, 3600),
}


class House:
    """A guard whose time, on the side of Redis, can be moved on."""

    def __init__(self, redis, **policies):
        self._redis = redis
        self.now = 1_800_000_000.0
        self.limited = []
        link, names = RedisLink("default"), KeyNames("a secret of the tests")
        meter = RedisMeter(link, names, alone=LocalMeter(clock=lambda: self.now))
        policies = POLICIES | policies
        limits = Limits(policies, meter, limited=self.limited.append)
        self.guard = RedisLoginGuard(link, names, meter, limits, policies)
        self.set_clock()

    def set_clock(self):
        self._redis.delete("test:now")
        self._redis.rpush("test:now", int(self.now), 0)

    def later(self, seconds):
        """For the scripts, and for what expires."""
        self.now += seconds
        for key in self._redis.keys("limit:*"):
            self._redis.pexpire(key, self._redis.pttl(key) - int(seconds * 1000))
        self.set_clock()

    def wait(self, email=ANN, address=STRANGE):
        """0 when an attempt is let through, else the seconds that it was told to wait."""
        try:
            self.guard.admit(email, address)
        except RateLimited as limited:
            return limited.retry_after
        return 0

    def fail(self, email=ANN, address=STRANGE, user_id=HER_ID):
        """Tries a wrong password. Answers as `wait`."""
        waits = self.wait(email, address)
        if not waits:
            self.guard.note_failure(email, user_id, address, reason="invalid_credentials")
        return waits

    def succeed(self, email=ANN, address=HOME):
        assert self.wait(email, address) == 0
        self.guard.note_success(email, HER_ID, address)

    def attack(self, attempts, email=ANN):
        """Each from another network. Answers what each was told to wait."""
        return [self.fail(email, f"203.0.{place}.1") for place in range(attempts)]


@pytest.fixture
def stopped(monkeypatch):
    """The scripts' time stands still, and is set by the test."""
    for module, name in [
        (login_guard, "ADMIT"),
        (login_guard, "FAILED"),
        (login_guard, "REMEMBER"),
        (rate_limits, "TAKE"),
        (rate_limits, "GIVE_BACK"),
    ]:
        text = getattr(module, name)
        assert "'TIME'" in text
        monkeypatch.setattr(module, name, text.replace("'TIME'", "'LRANGE', 'test:now', 0, -1"))


@pytest.fixture
def house(redis, stopped):
    redis.flushall()
    return House(redis)


# --- Account and address -----------------------------------------------------------------------------


def test_all_attempts_on_an_account_from_an_address_count_the_right_ones_too(house):
    house.succeed(address=HOME)
    house.fail(address=HOME)
    house.succeed(address=HOME)
    assert house.wait(address=HOME) == 300
    house.later(300)
    assert house.wait(address=HOME) == 0


def test_every_spelling_of_the_address_is_the_same_account(house):
    assert [house.wait(email) for email in (ANN, " ANN@Example.com ", "Ann@EXAMPLE.COM")] == [0, 0, 0]
    assert house.wait("aNn@example.com") == 300


def test_a_64_of_ipv6_is_one_address(house):
    assert [house.wait(address=f"2001:db8:1:2::{place:x}") for place in range(4)] == [0, 0, 0, 300]
    assert house.wait(address="2001:db8:1:3::1") == 0


def test_accounts_that_do_not_exist_are_held_alike(house):
    def told(email, user_id, block):
        """Five times from one address, then each from another."""
        addresses = [f"{block}.0.1"] * 5 + [f"{block}.{place}.1" for place in range(1, 8)]
        return [house.fail(email, address, user_id) for address in addresses]

    known = told(ANN, HER_ID, "198.18")
    assert known == [0, 0, 0, 300, 300, 0, 0, 1, 1, 1, 1, 1]
    assert told("nobody@example.com", None, "198.19") == known
    assert told("no address at all", None, "198.20") == known


# --- Address -----------------------------------------------------------------------------------------


def test_failures_from_an_address_count_whatever_the_account(house):
    assert [house.fail(f"user{number}@example.com") for number in range(7)] == [0, 0, 0, 0, 0, 180, 180]
    assert house.limited == ["login_address", "login_address"]


def test_successes_use_nothing_of_it_up(house):
    for number in range(20):
        house.succeed(f"user{number}@example.com", STRANGE)
    assert house.fail("nobody@example.com") == 0


def test_an_attempt_under_way_counts_until_it_has_succeeded(house):
    assert [house.wait(f"user{number}@example.com") for number in range(6)] == [0, 0, 0, 0, 0, 180]
    house.guard.note_success("user0@example.com", HER_ID, STRANGE)
    assert [house.wait(f"user{number}@example.com") for number in range(6, 8)] == [0, 180]


def test_of_40_at_once_on_40_accounts_as_many_are_let_through_as_the_address_has(house):
    answers = together([lambda n=n: house.wait(f"user{n}@example.com") for n in range(40)])
    assert answers.count(0) == 5


def test_a_link_in_a_mail_was_no_attempt_and_gives_nothing_back(house):
    for number in range(5):
        house.fail(f"user{number}@example.com")
    house.guard.note_success(ANN, HER_ID, STRANGE, by_link=True)
    assert house.wait("user5@example.com") == 180


def test_where_his_address_stands_nobody_is_told(house):
    with noted_standings() as standings:
        house.fail()
        house.succeed(address=STRANGE)
    assert set(standings) == {"login"}


def test_whoever_is_refused_for_his_address_uses_nothing_of_the_account_up(house):
    for number in range(5):
        house.fail(f"user{number}@example.com")
    for _ in range(10):
        assert house.wait(ANN) == 180
    house.later(3 * 180)
    assert [house.wait(ANN), house.wait(ANN), house.wait(ANN)] == [0, 0, 0]


# --- Account -----------------------------------------------------------------------------------------


def test_strangers_wait_longer_and_longer_for_one_attempt_at_a_time(house):
    assert house.attack(5) == [0] * 5
    waits = []
    for place in range(14):
        waits.append(house.wait(address=f"203.0.113.{place}"))
        house.later(waits[-1])
        assert house.fail(address=f"198.18.{place}.1") == 0  # whoever is first
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]


def test_whom_the_account_knows_is_never_delayed_by_strangers(house):
    house.succeed(address=HOME)
    assert house.attack(30)[-1] > 0
    assert house.fail(address="192.0.2.200") == 0  # of the same network
    house.succeed(address=HOME)


def test_failures_of_whom_the_account_knows_do_not_count_as_those_of_strangers(house):
    house.succeed(address=HOME)
    for place in range(20):
        assert house.fail(address=f"192.0.2.{place}") == 0
    assert house.attack(4) == [0] * 4


def test_no_lock_is_for_good(house):
    house.attack(50)
    house.later(3600 + 900)
    assert house.attack(4) == [0] * 4


def test_whoever_proves_that_the_mailbox_is_his_is_known_from_then_on(house):
    house.attack(50)
    assert house.wait(address=HOME) > 0
    house.guard.note_success(ANN, HER_ID, HOME, by_link=True)
    house.succeed(address=HOME)


def test_a_network_is_known_for_30_days(house):
    house.succeed(address=HOME)
    house.attack(5)
    house.later(30 * 24 * 3600 + 1)
    house.attack(6)
    assert house.wait(address=HOME) > 0


def test_that_another_network_is_known_for_longer_changes_nothing(house):
    house.succeed(address=HOME)
    house.later(20 * 24 * 3600)
    house.succeed(address="10.0.0.1")
    house.later(10 * 24 * 3600 + 1)
    house.attack(6)
    assert house.wait(address=HOME) > 0
    assert house.wait(address="10.0.0.1") == 0


def test_an_account_knows_the_last_20_networks(house):
    for place in range(21):
        house.succeed(address=f"10.0.{place}.1")
        house.later(1)
    house.attack(20)
    assert house.wait(address="10.0.0.1") > 0
    assert house.wait(address="10.0.1.1") == 0


def test_one_attacked_account_delays_nobody_elsewhere(house):
    house.attack(30)
    assert house.wait("bob@example.com", "203.0.0.1") == 0


# --- What stands in Redis, in the log, and in the metrics ----------------------------------------------


def test_redis_holds_no_address_of_anybody_and_forgets_by_itself(house, redis):
    house.succeed()
    house.attack(8)
    keys = [key.decode() for key in redis.keys("*") if key != b"test:now"]
    kinds = {key.split(":")[1] for key in keys}
    assert kinds == {"login", "login_address", "login_account", "login_known", "login_delay"}
    for key in keys:
        kind = redis.type(key)
        held = {b"string": redis.get, b"hash": redis.hgetall, b"zset": lambda key: redis.zrange(key, 0, -1)}
        for text in (key, str(held[kind](key))):
            assert not any(part in text for part in ("ann", "example", "192.0", "203.0", "@"))
        assert 0 < redis.ttl(key) <= 30 * 24 * 3600


def test_the_log_tells_the_account_by_id_and_the_address_by_prefix(house, caplog):
    caplog.set_level(logging.INFO)
    house.succeed()
    house.attack(6)
    house.later(1)
    house.succeed(address="192.0.99.1")
    for _ in range(4):
        house.wait(address=HOME)
    said = [record.msg for record in caplog.records if record.name == "users.security"]
    names = [line["event"] for line in said]
    assert names.count("login_refused") == 5
    assert names.count("account_under_attack") == 1
    assert names.count("login_limited") >= 2
    assert names.count("login_from_new_network") == 1
    assert names.count("login_succeeded") == 2
    by_name = {line["event"]: line for line in said}
    assert by_name["login_succeeded"]["user_id"] == HER_ID
    assert by_name["login_succeeded"]["address"] == "192.0.99.0/24"
    assert by_name["login_refused"]["reason"] == "invalid_credentials"
    assert by_name["login_refused"]["account"] == by_name["account_under_attack"]["account"]
    assert by_name["account_under_attack"]["user_id"] == HER_ID
    assert "@" not in json.dumps(said)
    assert HOME not in json.dumps(said)


def test_events_are_counted(house):
    def counted(event):
        return metrics.SECURITY_EVENTS.labels(event)._value.get()

    before = {event: counted(event) for event in metrics.SECURITY_EVENT_NAMES}
    house.succeed()
    house.attack(6)
    house.guard.note_success(ANN, HER_ID, HOME, by_link=True)
    grown = {event: counted(event) - before[event] for event in before}
    assert grown["login_succeeded"] == grown["login_limited"] == grown["account_under_attack"] == 1
    assert grown["login_refused"] == 5
    assert grown["mailbox_proven"] == 1


# --- Switched off, and without Redis -------------------------------------------------------------------


def test_without_a_limit_on_accounts_nothing_is_remembered(redis, stopped):
    redis.flushall()
    house = House(redis, login_account=None)
    house.succeed()
    assert house.attack(50) == [0] * 50
    assert not redis.keys("limit:login_known:*") + redis.keys("limit:login_delay:*")


def test_switched_off_nothing_is_asked_of_redis(redis, stopped, monkeypatch):
    house = House(redis, login=None, login_address=None, login_account=None)
    monkeypatch.setattr(RedisLink, "client", lambda link: pytest.fail("Redis was asked"))
    assert house.attack(50) == [0] * 50
    house.succeed()


def test_while_redis_is_away_account_with_address_and_address_are_held(fragile_redis, stopped, redis_client):
    house = House(redis_client)
    fragile_redis.kill()
    assert [house.fail() for _ in range(4)] == [0, 0, 0, 300]
    assert [house.fail(f"user{number}@example.com") for number in range(3)] == [0, 0, 180]
    house.guard.note_success(ANN, HER_ID, HOME)
    assert house.wait(address=HOME) == 0


def test_while_redis_is_away_strangers_are_refused_beyond_the_limit_of_the_account(
    fragile_redis, stopped, redis_client
):
    house = House(redis_client)
    house.succeed(address=HOME)
    fragile_redis.kill()
    waits = house.attack(8)
    assert waits[:4] == [0] * 4
    assert all(wait > 0 for wait in waits[4:])
    assert house.wait(address="192.0.2.200") == 0  # of the network that she has proven to this process
    assert house.wait("bob@example.com", "203.0.0.9") == 0


def test_while_redis_is_away_a_link_in_a_mail_opens_the_way(fragile_redis, stopped, redis_client):
    house = House(redis_client)
    fragile_redis.kill()
    house.attack(8)
    assert house.wait(address=HOME) > 0
    house.guard.note_success(ANN, HER_ID, HOME, by_link=True)
    assert house.wait(address=HOME) == 0


def test_while_redis_is_away_successes_use_nothing_of_the_address_up(fragile_redis, stopped, redis_client):
    house = House(redis_client)
    fragile_redis.kill()
    for number in range(20):
        house.succeed(f"user{number}@example.com", STRANGE)
    assert house.wait("nobody@example.com") == 0


def test_a_process_remembers_the_networks_proven_last():
    proven = ProvenNetworks(most=2)
    for address in ("10.0.1.1", "10.0.2.1", "10.0.1.2", "10.0.3.1"):
        proven.add(ANN, address)
    assert [proven.has(ANN, f"10.0.{place}.9") for place in (1, 2, 3)] == [True, False, True]
    assert not proven.has("bob@example.com", "10.0.1.1")


def test_what_is_no_address_is_cut_where_an_address_would_end():
    assert canonical(" " + "X" * 60_000) == "x" * 254
    assert len(canonical("\ud800" * 60_000)) == 254
