"""Many readers, writers and evictions in two processes: whoever begins to read after a write was answered
never sees an older user. The same checker convicts a cache whose leases are switched off."""

import multiprocessing
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

import tests.environment  # noqa: F401  # isort: skip - the other process begins here, without pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection, connections
from django_redis import get_redis_connection

from tests.together import PATIENCE, in_background, together
from users import wiring
from users.application.commands import RenameUser
from users.application.ports import UserReads
from users.infrastructure.cache import EPOCH, RedisUserCache
from users_domain.errors import ConcurrentUpdate
from users_domain.value_objects import SYSTEM

USERS = 4
WRITERS = 2
READERS = 3
PROCESSES = 2
ENOUGH = {"reads": 500, "writes": 50, "evictions": 50}
CONNECTION = ("HOST", "PORT", "USER", "PASSWORD", "NAME")


class WithoutLeases(RedisUserCache):
    """Whoever has missed fills with what he has read, as most caches do."""

    def fill(self, lease, view):
        redis = get_redis_connection("default")
        header = b"%s %d %d\n" % (redis.get(EPOCH), view.version, view.token_version)
        redis.set(f"user:{{{view.id}}}", header + view.json)


class DawdlingReads:
    """Lets time pass between reading the primary and filling, so that the race is likely enough."""

    def __init__(self, reads: UserReads) -> None:
        self._reads = reads

    def view(self, user_id):
        view = self._reads.view(user_id)
        time.sleep(random.uniform(0, 0.004))
        return view


@dataclass
class World:
    """What the processes share. `completed` has a place for each writer and user: the newest version that
    he has been answered. `stale` is set by whoever reads something older than that."""

    ids: list[str]
    completed: Any
    ready: Any
    stale: Any
    over: Any
    counts: Any
    with_leases: bool

    def newest(self, user: int) -> int:
        return max(self.completed[writer * USERS + user] for writer in range(PROCESSES * WRITERS))


def service_for(world: World) -> wiring.Service:
    if not world.with_leases:
        wiring.RedisUserCache = WithoutLeases
    try:
        service = wiring.build()
    finally:
        wiring.RedisUserCache = RedisUserCache
    service.queries._reads = DawdlingReads(service.queries._reads)
    return service


def live(world: World, process: int, counted: Counter) -> None:
    """One process's part: its readers and writers until it is over."""
    service = service_for(world)

    def read():
        user = random.randrange(USERS)
        begun = world.newest(user)
        if random.random() < 0.5:  # as the authenticator does
            view = service.cache.peek([world.ids[user]]).get(world.ids[user])
        else:
            view = service.queries.get(world.ids[user])
        if view is not None:
            counted["reads"] += 1
            if view.version < begun:
                counted["stale"] += 1
                world.stale.set()

    def write(number):
        user = random.randrange(USERS)
        command = RenameUser(user_id=world.ids[user], name=f"Name {number} {time.monotonic_ns()}", by=SYSTEM)
        try:
            version = service.commands.rename(command).version
        except ConcurrentUpdate:
            return
        place = (process * WRITERS + number) * USERS + user
        world.completed[place] = max(world.completed[place], version)
        counted["writes"] += 1

    def until_over(act, *arguments):
        def loop():
            while not world.over.is_set():
                act(*arguments)

        return loop

    acts = [until_over(read)] * READERS + [until_over(write, number) for number in range(WRITERS)]
    outcomes = together(acts, seconds=100)
    assert outcomes == [None] * len(acts), outcomes


def other_process(world: World, database: dict, redis_url: str) -> None:
    connection.settings_dict.update(database)
    for alias in settings.CACHES:
        caches.settings[alias]["LOCATION"] = redis_url
    world.ready.set()
    counted = Counter()
    live(world, 1, counted)
    world.counts.put(dict(counted))


def check(people, *, with_leases: bool, seconds: float, until_stale: bool) -> Counter:
    """Runs both processes, with evictions, and adds up what they counted."""
    spawn = multiprocessing.get_context("spawn")
    world = World(
        ids=[people.user(f"User{n}") for n in range(USERS)],
        completed=spawn.Array("q", PROCESSES * WRITERS * USERS, lock=False),
        ready=spawn.Event(),
        stale=spawn.Event(),
        over=spawn.Event(),
        counts=spawn.Queue(),
        with_leases=with_leases,
    )
    database = {name: connection.settings_dict[name] for name in CONNECTION}
    child = spawn.Process(
        target=other_process, args=(world, database, caches.settings["default"]["LOCATION"]), daemon=True
    )
    counted = Counter()

    def enough() -> bool:
        """After the time, or later on a machine that is slow meanwhile."""
        done = all(counted[what] > least for what, least in ENOUGH.items())
        return time.monotonic() > begun + seconds and (done or time.monotonic() > begun + 90)

    def evict(stop: threading.Event) -> None:
        redis = get_redis_connection("default")
        while not enough() and not (until_stale and world.stale.is_set()):
            counted["evictions"] += redis.delete(f"user:{{{random.choice(world.ids)}}}")
            time.sleep(0.002)
        world.over.set()

    child.start()
    try:
        assert world.ready.wait(PATIENCE)
        begun = time.monotonic()
        with in_background(evict):
            live(world, 0, counted)
        theirs = world.counts.get(timeout=PATIENCE)
        child.join(PATIENCE)
    finally:
        world.over.set()
        child.kill()
        child.join(PATIENCE)
        child.close()
        world.counts.close()
        connections.close_all()
    assert theirs.get("writes") or world.stale.is_set()
    return counted + Counter(theirs)


@pytest.mark.timeout(180)
def test_no_completed_write_is_ever_followed_by_an_older_read(people, redis):
    counted = check(people, with_leases=True, seconds=4, until_stale=False)

    assert counted["stale"] == 0, counted
    assert all(counted[what] > least for what, least in ENOUGH.items()), counted


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_no_completed_write_is_followed_by_an_older_read_in_a_minute_either(people, redis):
    counted = check(people, with_leases=True, seconds=60, until_stale=False)

    assert counted["stale"] == 0, counted


@pytest.mark.timeout(120)
def test_the_checker_convicts_a_cache_without_leases(people, redis):
    counted = check(people, with_leases=False, seconds=30, until_stale=True)

    assert counted["stale"] > 0, counted
