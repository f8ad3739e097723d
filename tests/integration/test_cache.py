"""The cache's promise, step by step: no completed write is ever followed by an older read."""

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.builders import a_user, an_actor, an_admin
from tests.fixtures import Api
from tests.redis_trips import noted_trips
from tests.together import eventually
from users import wiring
from users.application.commands import RenameUser
from users.application.ports import CacheAnswer
from users.application.representation import view_of
from users.infrastructure import cache as cache_module
from users.infrastructure.cache import EPOCH, RedisUserCache
from users.infrastructure.redis_link import RedisAway, RedisLink
from users_domain.value_objects import SYSTEM, UserName

ADMIN = an_actor(an_admin())
MISS = CacheAnswer("miss")
BYPASS = CacheAnswer("bypass")


class Partition:
    """A link whose Redis can be out of reach for this one process."""

    def __init__(self):
        self._link = RedisLink("default")
        self.cut = False

    @contextmanager
    def client(self):
        if self.cut:
            raise RedisAway
        with self._link.client() as redis:
            yield redis

    probe = client

    @property
    def own(self):
        if self.cut:
            raise RedisAway
        return self._link.own


@pytest.fixture
def cache(database):
    return RedisUserCache(RedisLink("default"), ttl_seconds=3600)


@pytest.fixture
def partition():
    return Partition()


@pytest.fixture
def cut_off(database, partition):
    """The cache of a process that can be cut off from Redis, while others are not."""
    return RedisUserCache(partition, ttl_seconds=3600, repair_pause_seconds=0.01)


ANN = a_user(version=1)


def at(version, name="Ann", token_version=1):
    """Ann's view at that version."""
    ann = a_user(id=ANN.id, email=ANN.email, name=UserName(name), version=version)
    ann.token_version = token_version
    return view_of(ann)


KEY = f"user:{{{ANN.id}}}"
LEASE = f"{KEY}:lease"


def get(cache):
    return cache.get(str(ANN.id))


def filled(cache, version):
    cache.fill(get(cache).lease, at(version))
    assert get(cache).view == at(version)


# --- Readers -----------------------------------------------------------------------------------------


def test_the_first_who_misses_may_fill_and_then_all_hit(cache, redis):
    first, second = get(cache), get(cache)
    assert first.result == second.result == "miss"
    assert first.lease
    assert second.lease is None

    cache.fill(first.lease, at(3, token_version=2))

    assert get(cache) == CacheAnswer("hit", view=at(3, token_version=2))
    assert cache.peek([str(ANN.id)]) == {str(ANN.id): at(3, token_version=2)}
    assert redis.exists(LEASE) == 0


def wanted(cache, *others):
    return cache.peek_and_get(others, str(ANN.id))


def test_whoever_is_wanted_is_got_in_the_same_round_trip_lease_and_all(cache, redis, monkeypatch):
    another = a_user(version=7)
    cache.fill(cache.get(str(another.id)).lease, view_of(another))
    assert get(cache).lease
    redis.delete(LEASE)
    sent = noted_trips(monkeypatch)

    peeked, answer = wanted(cache, str(another.id))
    assert len(sent) == 1
    assert peeked == {str(another.id): view_of(another)}
    assert answer.result == "miss"
    assert wanted(cache) == ({}, CacheAnswer("miss"))  # the place is taken
    cache.fill(answer.lease, at(3))
    assert wanted(cache) == ({}, CacheAnswer("hit", view=at(3)))


def test_whoever_is_wanted_is_got_by_a_redis_that_has_lost_its_scripts(cache, redis):
    filled(cache, 3)
    redis.script_flush()
    assert wanted(cache) == ({}, CacheAnswer("hit", view=at(3)))


def test_nobody_is_got_past_an_epoch_that_is_not_trusted(cache, partition, cut_off):
    filled(cache, 3)
    partition.cut = True
    assert wanted(cut_off) == ({}, CacheAnswer("bypass"))
    cut_off.put([at(4)])
    partition.cut = False
    cut_off._trusted.clear()
    assert wanted(cut_off) == ({}, CacheAnswer("bypass"))


@pytest.mark.parametrize("redis_is", ["full", "read only"])
def test_whoever_is_wanted_of_a_redis_that_may_only_be_read_is_no_failure(
    cache, fragile_redis, redis_client, redis_is
):
    filled(cache, 3)
    another = str(a_user().id)
    if redis_is == "full":
        redis_client.config_set("maxmemory", 1)
    else:
        redis_client.replicaof("127.0.0.1", 1)
    try:
        for _ in range(10):
            assert cache.peek_and_get([str(ANN.id)], another) == ({str(ANN.id): at(3)}, CacheAnswer("bypass"))
    finally:
        redis_client.config_set("maxmemory", 0)
        redis_client.replicaof("NO", "ONE")


def test_a_lease_is_given_back_by_whom_it_belongs_to(cache, redis):
    filled(cache, 1)
    redis.delete(KEY)
    lease = get(cache).lease
    cache.release(str(ANN.id), "another")
    assert get(cache).lease is None
    cache.release(str(ANN.id), lease)
    assert get(cache).lease


def test_nobody_waits_for_a_fill_and_it_is_there_for_the_next_question(cache, redis):
    filled(cache, 1)
    for version in range(2, 6):
        redis.delete(KEY)
        cache.fill(get(cache).lease, at(version))
        assert get(cache).view == at(version)


def test_a_redis_that_has_lost_its_scripts_is_taught_to_fill_again(cache, redis):
    filled(cache, 1)
    redis.script_flush()
    redis.delete(KEY)
    cache.fill(get(cache).lease, at(2))  # refused, which is heard of later
    assert get(cache).result == "miss"
    redis.delete(LEASE)
    cache.fill(get(cache).lease, at(2))
    assert get(cache).view == at(2)


def test_an_entry_is_text_with_the_json_that_goes_out_and_lives_an_hour(cache, redis):
    filled(cache, 3)

    header, _, body = redis.get(KEY).decode().partition("\n")
    assert header.split() == [redis.get(EPOCH).decode(), "3", "1"]
    assert json.loads(body)["version"] == 3
    assert body.encode() == at(3).json
    assert 3590 < redis.ttl(KEY) <= 3600
    assert redis.ttl(EPOCH) == -1


def test_the_sessions_that_have_ended_stand_with_the_token_version(cache, redis):
    ended = frozenset({str(UUID(int=9)), str(UUID(int=7))})
    view = replace(at(3), ended_sessions=ended)
    cache.fill(get(cache).lease, view)
    assert get(cache).view == cache.peek([str(ANN.id)])[str(ANN.id)] == view
    cache.put([replace(at(4), ended_sessions=frozenset())])
    assert get(cache).view == at(4)


def test_what_the_release_before_this_one_writes_is_not_believed(cache, redis):
    """It knows of no ended sessions. While both are running, each has an epoch of its own."""
    filled(cache, 3)
    redis.set("users:cache:epoch", "old")
    redis.set(KEY, b"old 3 1\n" + at(3).json)
    assert cache.peek([str(ANN.id)]) == {}
    assert get(cache).result == "miss"


def test_a_lease_ends_by_itself(cache, redis):
    lease = get(cache).lease
    assert 0 < redis.pttl(LEASE) <= cache_module.LEASE_MILLISECONDS
    redis.pexpire(LEASE, 1)
    eventually(lambda: not redis.exists(LEASE))

    cache.fill(lease, at(1))
    assert redis.exists(KEY) == 0
    assert get(cache).lease


def test_nobody_fills_with_the_lease_of_another(cache, redis):
    old = get(cache).lease
    redis.delete(LEASE)
    new = get(cache).lease

    cache.fill(old, at(1))
    assert redis.exists(KEY) == 0
    cache.fill(new, at(2))
    assert get(cache).view == at(2)


def test_peeking_takes_no_lease(cache, redis):
    get(cache)
    redis.delete(LEASE)

    assert cache.peek([str(ANN.id), "another"]) == {}
    assert redis.exists(LEASE) == 0


# --- Writers -----------------------------------------------------------------------------------------


def test_a_writer_never_makes_an_entry(cache, redis):
    cache.put([at(2)])

    assert redis.exists(KEY) == 0


def test_a_writer_renews_an_older_entry_and_its_hour(cache, redis):
    filled(cache, 1)
    redis.expire(KEY, 10)

    cache.put([at(2, "Anna")])

    assert get(cache).view == at(2, "Anna")
    assert redis.ttl(KEY) > 3590


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_late_writer_takes_nothing_back(cache, version):
    filled(cache, 3)

    cache.put([at(version, "Late")])

    assert get(cache).view == at(3)


def test_versions_are_compared_as_numbers(cache):
    filled(cache, 9)
    cache.put([at(10)])
    assert get(cache).view == at(10)
    cache.put([at(9)])
    assert get(cache).view == at(10)


def test_whoever_read_before_a_write_cannot_fill_after_it(cache, redis):
    """The race that set-on-write and delete-on-write lose."""
    lease, read_before = get(cache).lease, at(1)
    cache.put([at(2)])

    cache.fill(lease, read_before)

    assert redis.exists(KEY) == 0


def test_a_fill_before_the_writers_put_is_overwritten_by_it(cache):
    lease = get(cache).lease
    cache.fill(lease, at(1))
    cache.put([at(2)])

    assert get(cache).view == at(2)


def test_many_are_renewed_together(cache, redis):
    users = [a_user() for _ in range(50)]
    for user in users:
        cache.fill(cache.get(str(user.id)).lease, view_of(user))
    newer = [view_of(a_user(id=user.id, version=2)) for user in users]
    redis.config_resetstat()

    cache.put(newer)

    assert cache.peek([view.id for view in newer]) == {view.id: view for view in newer}
    assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


def test_scripts_that_redis_forgot_are_taught_again(cache, redis):
    filled(cache, 1)
    redis.script_flush()
    cache.put([at(2), view_of(a_user())])
    redis.script_flush()

    assert get(cache).view == at(2)


# --- The epoch ---------------------------------------------------------------------------------------


def test_a_new_epoch_makes_every_entry_and_every_lease_worthless(cache, redis):
    filled(cache, 1)
    other = a_user()
    lease = cache.get(str(other.id)).lease

    cache.distrust()

    assert cache.peek([str(ANN.id)]) == {}
    assert get(cache).result == "miss"
    cache.fill(lease, view_of(other))
    assert redis.exists(f"user:{{{other.id}}}") == 0


def test_a_write_after_a_new_epoch_removes_the_old_entry(cache, redis):
    filled(cache, 5)
    redis.set(EPOCH, "new")

    cache.put([at(6)])

    assert redis.exists(KEY) == 0


def test_a_lost_epoch_makes_every_entry_worthless(cache, redis):
    filled(cache, 1)
    redis.delete(EPOCH)

    assert cache.peek([str(ANN.id)]) == {}
    assert get(cache).result == "miss"


def test_who_could_not_tell_redis_of_a_write_trusts_nothing_until_he_has_replaced_the_epoch(
    cut_off, partition, cache, redis
):
    filled(cut_off, 1)
    epoch = redis.get(EPOCH)
    partition.cut = True
    cut_off.put([at(2)])
    partition.cut = False  # reads would work again, and would be stale

    assert get(cut_off).view != at(1)
    assert cut_off.peek([str(ANN.id)]) in ({}, {str(ANN.id): at(2)})
    eventually(lambda: redis.get(EPOCH) != epoch)
    eventually(lambda: get(cut_off).result == "miss")
    assert get(cache).view is None  # and so it is for the other processes


def test_while_cut_off_nothing_is_read_or_filled(cut_off, partition, redis):
    filled(cut_off, 1)
    lease = cut_off.get("another").lease
    partition.cut = True
    cut_off.put([at(2)])

    assert get(cut_off) == BYPASS
    assert cut_off.peek([str(ANN.id)]) == {}
    cut_off.fill(lease, view_of(a_user()))
    partition.cut = False
    eventually(lambda: get(cut_off).result == "miss")


def test_every_failed_write_asks_for_an_epoch_younger_than_itself(cut_off, partition, redis):
    epochs = set()
    for version in range(2, 6):
        partition.cut = True
        cut_off.put([at(version)])
        partition.cut = False
        eventually(lambda: get(cut_off).result != "bypass")
        epochs.add(redis.get(EPOCH))
        redis.delete(LEASE)
    assert len(epochs) == 4


def test_a_process_that_writes_while_redis_is_frozen_reads_nothing_stale_afterwards(
    service, people, fragile_redis
):
    """Nor does another one, once the first has had the time to repair it."""
    other = wiring.build()
    user_id = people.user("Ann")
    assert [each.queries.get(user_id).version for each in (service, other)] == [1, 1]
    fragile_redis.pause()
    service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=SYSTEM))
    assert service.queries.get(user_id).version == 2
    fragile_redis.resume()

    assert {service.queries.get(user_id).version for _ in range(50)} == {2}
    eventually(lambda: other.queries.get(user_id).version == 2)
    eventually(lambda: service.cache.get(user_id).result == "hit" or service.queries.get(user_id))
    assert {each.queries.get(user_id).version for each in (service, other) for _ in range(20)} == {2}


# --- Without Redis, and with a strange one -----------------------------------------------------------


def test_without_redis_every_read_comes_from_postgresql(service, people, fragile_redis):
    user_id = people.user("Ann")
    service.queries.get(user_id)
    fragile_redis.kill()

    assert service.cache.get(user_id) == BYPASS
    assert service.cache.peek([user_id]) == {}
    for version in (2, 3):
        service.commands.rename(RenameUser(user_id=user_id, name=f"Ann {version}", by=SYSTEM))
        assert service.queries.get(user_id).version == version


def test_the_cache_works_again_when_redis_is_back(service, people, fragile_redis):
    user_id = people.user("Ann")
    fragile_redis.kill()
    service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=SYSTEM))
    fragile_redis.start()

    eventually(lambda: service.queries.get(user_id) and service.cache.get(user_id).result == "hit")
    assert service.cache.get(user_id).view.version == 2


STRANGE = [
    b"",
    b"hello",
    b"\x80\x04\x95garbage",
    b"{epoch} 1 1",
    b"{epoch} 1 1\n",
    b"{epoch} 1 1\nhello",
    b"{epoch} x y\n{}",
    b"{epoch} 1\n{}",
    b"{epoch} 1 1 1\n{}",
    b"{epoch} -1 1\n{}",
    b"{epoch} 99999999999999999999 1\n{}",
    b"{epoch}\n{}",
    b"{epoch} \xff \xff\n",
]


@pytest.mark.parametrize("content", STRANGE)
def test_an_entry_that_nobody_here_wrote_is_not_read_and_fails_nothing(service, people, redis, content):
    user_id = people.user("Ann")
    ann = people.log_in("Ann")
    service.queries.get(user_id)
    key = f"user:{{{user_id}}}"

    redis.set(key, content.replace(b"{epoch}", redis.get(EPOCH)))
    assert ann("GET", "/users/me").json()["version"] == 1
    redis.set(key, content.replace(b"{epoch}", redis.get(EPOCH)))
    assert service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=SYSTEM)).version == 2
    assert ann("GET", "/users/me").json()["version"] == 2


def test_an_entry_of_another_type_heals(service, people, redis):
    user_id = people.user("Ann")
    redis.rpush(f"user:{{{user_id}}}", "a", "list")

    assert service.queries.get(user_id).version == 1
    assert service.cache.get(user_id).result == "hit"
    redis.delete(f"user:{{{user_id}}}")
    redis.rpush(f"user:{{{user_id}}}", "a", "list")
    assert service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=SYSTEM)).version == 2
    assert service.queries.get(user_id).version == 2


@pytest.mark.parametrize("write", ["set", "rpush"])
def test_a_strange_epoch_or_lease_costs_speed_at_most(service, people, redis, write):
    user_id = people.user("Ann")
    for key in (EPOCH, f"user:{{{user_id}}}:lease"):
        redis.flushall()
        getattr(redis, write)(key, "not ours \n at all")
        for version in (service.queries.get(user_id).version + 1,):
            service.commands.rename(RenameUser(user_id=user_id, name=f"Ann {version}", by=SYSTEM))
            assert service.queries.get(user_id).version == version


def test_min_version_is_never_answered_by_an_older_entry(service, people, redis):
    user_id = people.user("Ann")
    service.queries.get(user_id)
    stale = redis.get(f"user:{{{user_id}}}")
    service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=SYSTEM))
    redis.set(f"user:{{{user_id}}}", stale)  # as after a fault that nobody thought of
    assert service.queries.get(user_id).version == 1

    assert service.queries.get(user_id, min_version=2).version == 2


def test_min_version_over_http(service, people, redis):
    user_id = people.user("Ann")
    ann = people.log_in("Ann")
    assert ann("GET", "/users/me?min_version=1").status_code == 200
    answer = ann("GET", "/users/me?min_version=2")
    assert (answer.status_code, answer.json()["error"]) == (412, "version_mismatch")
    service.commands.rename(RenameUser(user_id=user_id, name="Anna", by=SYSTEM))
    assert ann("GET", "/users/me?min_version=2").json()["version"] == 2


def test_what_is_cached_is_what_the_database_says(service, people):
    """Bytes from the aggregate, the row and the cache are the same, so that nobody sees a user change by
    being read in another way."""
    user_id = people.user("Ann")
    for name in ("Zoë 王 🙂", "Anna"):
        saved = service.commands.rename(RenameUser(user_id=user_id, name=name, by=SYSTEM))
        assert service.queries.get(user_id) == saved
        assert service.cache.get(user_id).view in {None, saved}
        assert service.queries._reads.view(user_id) == saved
    created = datetime.fromisoformat(json.loads(saved.json)["created_at"])
    assert created.tzinfo == UTC
    assert Api()("GET", f"/users/{user_id}").status_code == 401


# --- Who is behind ------------------------------------------------------------------------------------


def test_only_an_older_entry_or_a_lease_that_is_out_needs_a_put(service, people):
    older, current, absent, leased = (people.user(name) for name in ("Ann", "Bob", "Cid", "Dan"))
    for user_id in (older, current):
        service.queries.get(user_id)
    assert service.cache.get(leased).lease

    versions = {older: 2, current: 1, absent: 5, leased: 1}

    assert list(service.cache.behind(versions)) == [older, leased]


def test_an_entry_of_another_epoch_or_of_somebody_else_is_behind(service, people, redis):
    ann, bob = people.user("Ann"), people.user("Bob")
    service.queries.get(ann)
    redis.set(EPOCH, "another")
    redis.rpush(f"user:{{{bob}}}", "somebody else's")

    assert list(service.cache.behind({ann: 1, bob: 1})) == [ann, bob]


def test_all_are_behind_when_redis_cannot_say(service, fragile_redis):
    fragile_redis.kill()

    assert list(service.cache.behind({"a": 1, "b": 1})) == ["a", "b"]


def test_whoever_is_forgotten_is_gone_with_his_lease_and_others_stay(cache, redis):
    filled(cache, 1)
    other = view_of(a_user(version=1))
    cache.fill(cache.get(other.id).lease, other)
    cache.forget(str(ANN.id))
    assert redis.exists(KEY) == 0
    assert cache.get(other.id).view == other
    lease = get(cache).lease
    cache.forget(str(ANN.id))
    cache.fill(lease, at(1))
    assert get(cache).view is None


def test_the_thread_that_repairs_is_known_by_its_name_and_keeps_no_process_alive(cut_off, partition):
    partition.cut = True
    cut_off.distrust()
    repairers = [thread for thread in threading.enumerate() if thread.name == "cache-repair"]
    assert repairers
    assert all(repairer.daemon for repairer in repairers)
    partition.cut = False


def test_sessions_that_ended_stand_in_the_entry(cache):
    ended = frozenset({"0198c1a2-7c20-7b3c-8d11-0c5e1f2a3b4c", "0198c1a2-7c20-7b3c-8d11-0c5e1f2a3b4d"})
    view = replace(at(1), ended_sessions=ended)
    cache.fill(get(cache).lease, view)
    assert get(cache).view == view
    assert cache.peek([view.id]) == {view.id: view}
