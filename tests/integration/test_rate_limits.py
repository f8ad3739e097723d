"""Counting in Redis: one atomic script, by Redis' clock; and in the process while Redis is away."""

import random
import subprocess
import sys
import time

import pytest
from django.core.cache import caches

from config.embedded import PROJECT
from tests.redis_trips import noted_trips
from tests.servers import clean_environment
from tests.together import PATIENCE, together
from users.application.errors import RateLimited
from users.application.limits import Claim, Limits, Policy
from users.infrastructure import rate_limits
from users.infrastructure.cache import EPOCH, RedisUserCache
from users.infrastructure.rate_limits import CallerLimit, KeyNames, LocalMeter, RedisMeter
from users.infrastructure.redis_link import RedisLink

TEN = Policy("login", 10, 900)
TWO = Policy("reset", 2, 60)
SEVEN = Policy("odd", 7, 900)
NAMES = KeyNames("a secret of the tests")


@pytest.fixture
def link(redis):
    redis.flushall()
    return RedisLink("default")


@pytest.fixture
def meter(link):
    return RedisMeter(link, NAMES)


def count(meter, *claims):
    """How many in a row are let through."""
    passed = 0
    while not meter.take(claims).refused:
        passed += 1
    return passed


@pytest.fixture
def clock(monkeypatch, redis):
    """Sets the time that the script sees, in seconds."""
    monkeypatch.setattr(
        rate_limits, "TAKE", rate_limits.TAKE.replace("'TIME'", "'LRANGE', 'test:now', 0, -1")
    )

    def at(seconds):
        redis.delete("test:now")
        redis.rpush("test:now", int(seconds), round(seconds % 1 * 1_000_000))

    return at


@pytest.mark.parametrize("policy", [TEN, TWO, SEVEN, Policy("fast", 300, 60)], ids=lambda one: one.name)
def test_as_many_as_the_limit_says_are_let_through_at_once_and_not_one_more(meter, clock, policy):
    clock(1_800_000_000)
    assert count(meter, Claim(policy, "ann")) == policy.quota


def test_redis_and_the_process_count_by_the_same_rule(meter, clock):
    """The same three hundred claims, at the same times, get the same answers."""
    chance, now = random.Random(4), 1_800_000_000.0
    alone = LocalMeter(clock=lambda: now)
    refusals = 0
    for _ in range(300):
        now += chance.choice([0, 0, 0.25, 1, 10, 45])
        clock(now)
        policies = chance.sample([TEN, TWO, SEVEN], chance.randint(1, 3))
        claims = [
            Claim(policy, chance.choice(["ann", "bob"]), chance.choice([0, 1, 1, 1])) for policy in policies
        ]
        here, there = alone.take(claims), meter.take(claims)
        assert [one.remaining for one in here.standings] == [one.remaining for one in there.standings]
        assert [one.reset for one in here.standings] == pytest.approx(
            [one.reset for one in there.standings], abs=0.001
        )
        assert (here.refused and here.refused.policy) == (there.refused and there.refused.policy)
        refusals += bool(here.refused)
    assert 50 < refusals < 250


def test_what_one_limit_refuses_uses_nothing_of_the_others_up(meter):
    both = Claim(TEN, "ann"), Claim(TWO, "ann")
    assert count(meter, *both) == 2
    for _ in range(20):
        assert meter.take(both).refused.policy == TWO
    assert count(meter, Claim(TEN, "ann")) == 8


def test_time_is_that_of_redis(meter, monkeypatch):
    """No process with a wrong clock gets more, or takes it from others."""
    assert count(meter, Claim(TWO, "ann")) == 2
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert meter.take([Claim(TWO, "ann")]).refused


def test_a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_the_limit_says(meter, clock):
    clock(1_800_000_000)
    count(meter, Claim(TWO, "ann"))
    clock(1_700_000_000)
    assert meter.take([Claim(TWO, "ann")]).refused.reset == pytest.approx(30)


def test_one_claim_is_one_round_trip_whatever_the_number_of_limits(meter, monkeypatch):
    meter.take([Claim(TEN, "ann")])  # from now on Redis knows the script
    sent = noted_trips(monkeypatch)
    meter.take([Claim(TEN, "ann"), Claim(TWO, "ann"), Claim(SEVEN, "ann")])
    meter.take([])
    assert len(sent) == 1


def test_no_key_says_whom_it_is_about_and_each_expires_when_it_says_nothing_any_more(meter, redis):
    meter.take([Claim(TEN, "ann@example.com\n192.0.2.7"), Claim(TWO, "ann@example.com")])
    keys = sorted(key.decode() for key in redis.keys("*"))
    assert [key.rpartition(":")[0] for key in keys] == ["limit:login", "limit:reset"]
    for key, seconds in zip(keys, (90, 30), strict=True):
        assert not any(part in key for part in ("ann", "example", "192", "@"))
        assert seconds - 25 < redis.pttl(key) / 1000 <= seconds
        assert b"ann" not in redis.get(key)


def test_an_emptied_redis_begins_anew(meter, redis):
    assert count(meter, Claim(TWO, "ann")) == 2
    redis.flushall()
    redis.script_flush()
    assert count(meter, Claim(TWO, "ann")) == 2


def test_rubbish_in_a_key_counts_as_nothing(meter, redis):
    redis.set(NAMES.name("reset", "ann"), "rubbish")
    assert count(meter, Claim(TWO, "ann")) == 2


def test_what_is_given_back_may_be_used_again_and_no_more_than_that(meter, redis):
    meter.give_back([])
    meter.give_back([Claim(TEN, "ann")])
    assert count(meter, Claim(TEN, "ann"), Claim(SEVEN, "ann")) == 7
    meter.give_back([Claim(TEN, "ann"), Claim(SEVEN, "ann")])
    assert count(meter, Claim(SEVEN, "ann")) == 1
    assert count(meter, Claim(TEN, "ann")) == 4
    assert all(0 < redis.pttl(key) <= 900_000 for key in redis.keys("limit:*"))


# --- Many at once ----------------------------------------------------------------------------------


def test_of_40_at_once_exactly_10_are_let_through(meter):
    verdicts = together([lambda: meter.take([Claim(TEN, "ann")])] * 40)
    assert sum(not verdict.refused for verdict in verdicts) == 10


COUNTING = """
import sys
from redis import Redis
from users.application.limits import Claim, Policy
from users.infrastructure.rate_limits import KeyNames, RedisMeter
from contextlib import contextmanager
from concurrent.futures import ThreadPoolExecutor

class Link:
    redis = Redis.from_url(sys.argv[1])
    @contextmanager
    def client(self):
        yield self.redis

meter = RedisMeter(Link(), KeyNames("a secret of the tests"))
Link.redis.ping()
print("ready", flush=True)
sys.stdin.readline()
claims = [Claim(Policy("login", 10, 900), "ann")]
with ThreadPoolExecutor(20) as threads:
    print(sum(not verdict.refused for verdict in threads.map(lambda _: meter.take(claims), range(20))))
"""


def test_two_processes_count_together(link):
    """20 threads in each: of 40 exactly 10 are let through."""
    address = caches.settings["default"]["LOCATION"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTING, address],
            cwd=PROJECT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate(timeout=PATIENCE)[0]) for process in processes) == 10


# --- Without Redis ---------------------------------------------------------------------------------


def test_while_redis_is_away_each_process_counts_for_itself_by_the_same_limits(fragile_redis):
    meter = RedisMeter(RedisLink("default"), NAMES)
    assert count(meter, Claim(TEN, "bob")) == 10
    fragile_redis.kill()
    assert count(meter, Claim(TEN, "ann")) == 10
    assert meter.take([Claim(TEN, "ann")]).refused.reset == pytest.approx(60, abs=30)


def test_when_redis_is_back_it_counts_there_again(fragile_redis, redis_client):
    meter = RedisMeter(RedisLink("default", open_seconds=0), NAMES)
    fragile_redis.kill()
    assert count(meter, Claim(TWO, "ann")) == 2
    fragile_redis.start()
    assert count(meter, Claim(TWO, "ann")) == 2  # an empty one, which remembers nothing
    assert redis_client.exists(NAMES.name("reset", "ann"))


# --- Every caller ----------------------------------------------------------------------------------


@pytest.fixture
def callers(link, meter):
    limits = Limits({"caller": Policy("caller", 3, 3600)}, meter, limited=lambda policy: None)
    return CallerLimit(limits, meter, NAMES)


def calls(callers, cache, times):
    """How many of so many calls are let through."""
    passed = 0
    for _ in range(times):
        turn = callers.turn("ann")
        cache.peek(["0198c1a2-7c1e-7d60-9b61-52f0a3a1f0c4"], along=turn)
        try:
            turn.enforce()
        except RateLimited:
            continue
        passed += 1
    return passed


@pytest.fixture
def cache(link):
    return RedisUserCache(link, ttl_seconds=60)


def test_the_limit_of_a_caller_travels_with_the_cache_in_one_round_trip(callers, cache, monkeypatch):
    calls(callers, cache, 1)
    sent = noted_trips(monkeypatch)
    assert calls(callers, cache, 5) == 2
    assert len(sent) == 5


def test_a_redis_that_lost_the_script_is_told_it_again(callers, cache, redis):
    redis.script_flush()
    assert calls(callers, cache, 5) == 3


def test_a_cache_that_trusts_nothing_takes_nothing_along_and_the_caller_is_held_all_the_same(callers, cache):
    cache._trusted.clear()
    assert calls(callers, cache, 5) == 3


def test_a_caller_is_held_without_redis_as_well(fragile_redis):
    link = RedisLink("default")
    meter = RedisMeter(link, NAMES)
    limits = Limits({"caller": Policy("caller", 3, 3600)}, meter, limited=lambda policy: None)
    fragile_redis.kill()
    assert calls(CallerLimit(limits, meter, NAMES), RedisUserCache(link, ttl_seconds=60), 6) == 3


def test_a_full_redis_is_still_read_and_the_process_counts(fragile_redis, redis_client):
    user_id = "0198c1a2-7c1e-7d60-9b61-52f0a3a1f0c4"
    redis_client.mset({EPOCH: "e", f"user:{{{user_id}}}": 'e 1 1\n{"id":"ann"}'})
    redis_client.config_set("maxmemory", 1)
    link = RedisLink("default")
    meter = RedisMeter(link, NAMES)
    cache = RedisUserCache(link, ttl_seconds=60)
    limits = Limits({"caller": Policy("caller", 3, 3600)}, meter, limited=lambda policy: None)
    try:
        callers = CallerLimit(limits, meter, NAMES)
        assert calls(callers, cache, 8) == 3
        assert cache.peek([user_id], along=callers.turn("bob"))
    finally:
        redis_client.config_set("maxmemory", 0)


def test_a_limit_of_callers_that_is_off_costs_nothing(meter):
    limits = Limits({"caller": None}, meter, limited=lambda policy: None)
    assert CallerLimit(limits, meter, NAMES).turn("ann") is None
