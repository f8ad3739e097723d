"""Users in Redis, as ready JSON. The promise: no completed write is ever followed by an older read.

Entry `user:{<id>}`: a line `<epoch> <version> <token version>`, with the ids of sessions that have ended
behind it, then the JSON. Beside it a lease, `user:{<id>}:lease`. Why a plain set or delete does not keep the
promise, and this does, is told in docs/adr/0004-cache-leases.md.

- A reader who misses takes the lease, reads the primary, and fills only while the lease is still his.
- A writer, after commit and before he answers, deletes the lease, so that no reader who saw the old
  row can fill, and overwrites an entry that is there with an older version; he never creates one.
- The epoch guards against writes that could not reach Redis. A process that failed to put trusts no
  entry until it has replaced the epoch, which makes every older entry, in every process, a miss."""

import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from secrets import token_hex
from typing import Protocol, cast

import structlog
from redis import Redis

from users.application.ports import CacheAnswer
from users.application.representation import UserView
from users.infrastructure.redis_link import RedisAway, RedisLink

log = structlog.get_logger(__name__)

EPOCH = "users:cache:epoch:2"
"""Of entries of this form: releases that write another believe none of each other's while both run."""
LEASE_MILLISECONDS = 3000
ENTRY = re.compile(rb"\S+ (\d{1,10}) (\d{1,10})((?: [0-9a-f-]{36})*)\n(\{.+\})", re.DOTALL)

ACQUIRE = """
local epoch = redis.call('GET', KEYS[3])
if not epoch then
    epoch = ARGV[1]
    redis.call('SET', KEYS[3], epoch)
end
local entry = redis.pcall('GET', KEYS[1])
if type(entry) == 'string' and string.match(entry, '^(%S+) %d+ %d+[ %x-]*\\n') == epoch then
    return {entry, false}
elseif entry then
    redis.call('DEL', KEYS[1])
end
local lease = epoch .. ':' .. ARGV[1]
if redis.call('SET', KEYS[2], lease, 'NX', 'PX', ARGV[2]) then return {false, lease} end
return {false, false}
"""

FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
local epoch = redis.call('GET', KEYS[3])
if not epoch or string.match(ARGV[1], '^[^:]+') ~= epoch then return 0 end
local entry = redis.call('GET', KEYS[1])
if entry then
    local its_epoch, version = string.match(entry, '^(%S+) (%d+)')
    if its_epoch == epoch and tonumber(version) >= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. '\\n' .. ARGV[4], 'EX', ARGV[5])
return 1
"""

PUT = """
redis.call('DEL', KEYS[2])
local entry = redis.call('GET', KEYS[1])
if not entry then return 0 end
local epoch = redis.call('GET', KEYS[3])
local its_epoch, version = string.match(entry, '^(%S+) (%d+)')
if its_epoch ~= epoch then
    redis.call('DEL', KEYS[1])
elseif tonumber(version) < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[1], epoch .. ' ' .. ARGV[1] .. ' ' .. ARGV[2] .. '\\n' .. ARGV[3], 'EX', ARGV[4])
end
return 1
"""


BEHIND = """
local epoch = redis.call('GET', KEYS[1])
local behind = {}
for i = 1, #ARGV do
    local entry = redis.pcall('GET', KEYS[2 * i])
    local is_behind = redis.call('EXISTS', KEYS[2 * i + 1]) == 1
    if type(entry) == 'string' then
        local its_epoch, version = string.match(entry, '^(%S+) (%d+)')
        is_behind = is_behind or its_epoch ~= epoch or tonumber(version) < tonumber(ARGV[i])
    elseif entry then
        is_behind = true
    end
    if is_behind then behind[#behind + 1] = i - 1 end
end
return behind
"""


class Companion(Protocol):
    """Something else to ask of Redis, which reads our keys along with it."""

    def fetch(self, redis: Redis, keys: Sequence[str]) -> list[bytes | None]: ...


class RedisUserCache:
    def __init__(self, link: RedisLink, *, ttl_seconds: int, repair_pause_seconds: float = 0.05) -> None:
        self._link = link
        self._ttl = ttl_seconds
        self._repair_pause = repair_pause_seconds
        self._trusted = threading.Event()
        self._trusted.set()
        self._state = threading.Lock()
        self._damage = 0
        self._damaged = threading.Event()
        self._repairer: threading.Thread | None = None

    def get(self, user_id: str) -> CacheAnswer:
        if not self._trusted.is_set():
            return CacheAnswer("bypass")
        arguments: list[str | int | bytes] = [token_hex(8), LEASE_MILLISECONDS]
        try:
            with self._link.client() as redis:
                entry, lease = redis.register_script(ACQUIRE)(keys=_keys(user_id), args=arguments)
        except RedisAway:
            return CacheAnswer("bypass")
        if entry and (view := _view(user_id, entry)):
            return CacheAnswer("hit", view=view)
        return CacheAnswer("miss", lease=lease.decode() if lease else None)

    def peek(self, user_ids: Sequence[str], *, along: Companion | None = None) -> dict[str, UserView]:
        """Those of the users that are here, in one round trip, `along` with what else there is to ask;
        takes no lease."""
        if not self._trusted.is_set():
            return {}
        try:
            with self._link.client() as redis:
                keys = [EPOCH, *map(_entry_key, user_ids)]
                epoch, *entries = along.fetch(redis, keys) if along else _mget(redis, keys)
        except RedisAway:
            return {}
        return {
            user_id: view
            for user_id, entry in zip(user_ids, entries, strict=True)
            if entry and epoch and entry.startswith(epoch + b" ") and (view := _view(user_id, entry))
        }

    def fill(self, lease: str, view: UserView) -> None:
        """A fill that fails loses nothing: the next reader fills."""
        if not self._trusted.is_set():
            return
        arguments: list[str | int | bytes] = [lease, view.version, _tokens(view), view.json, self._ttl]
        try:
            with self._link.client() as redis:
                redis.register_script(FILL)(keys=_keys(view.id), args=arguments)
        except RedisAway:
            return

    def put(self, views: Collection[UserView]) -> None:
        """After commit and before the answer. When Redis cannot be told, no entry is trusted any more
        until the epoch is a new one."""
        if not self._trusted.is_set():
            self.distrust()
            return
        try:
            with self._link.client() as redis:
                self._put(views, redis)
        except RedisAway:
            self.distrust()

    def behind(self, versions: Mapping[str, int]) -> Collection[str]:
        """Those of the users, committed with these versions, whom only a put brings up to date: an entry is
        older, or a lease is out that may have been taken before. In one round trip; where there is neither,
        whoever fills will read what is committed. All of them when Redis cannot be asked."""
        keys = [EPOCH, *(key for user_id in versions for key in _keys(user_id)[:2])]
        try:
            with self._link.client() as redis:
                places = redis.register_script(BEHIND)(keys=keys, args=list(versions.values()))
        except RedisAway:
            return versions
        users = list(versions)
        return [users[place] for place in places]

    def _put(self, views: Collection[UserView], redis: Redis) -> None:
        script = redis.register_script(PUT)
        # A pipeline first asks whether Redis knows the script: not worth it for one.
        with redis.pipeline(transaction=False) if len(views) > 1 else nullcontext() as pipeline:
            for view in views:
                arguments: list[str | int | bytes] = [view.version, _tokens(view), view.json, self._ttl]
                script(keys=_keys(view.id), args=arguments, client=pipeline)
            if pipeline:
                pipeline.execute()

    def forget(self, user_id: str) -> None:
        """After commit: whoever reads the user next reads the primary, and nobody fills what he has read
        before. Raises RedisAway."""
        with self._link.client() as redis:
            redis.delete(*_keys(user_id)[:2])

    def distrust(self) -> None:
        """Makes all entries worthless, at once if Redis answers, else as soon as it does."""
        with self._state:
            self._damage += 1
            self._trusted.clear()
            if self._repairer is None:
                self._repairer = threading.Thread(target=self._repair, name="cache-repair", daemon=True)
                self._repairer.start()
        if not self._renew_epoch(self._link.client):
            self._damaged.set()

    def _repair(self) -> None:
        while self._damaged.wait():
            self._damaged.clear()
            while not self._renew_epoch(self._link.probe):
                time.sleep(self._repair_pause)
            log.info("cache_repaired")

    def _renew_epoch(self, way: Callable[[], AbstractContextManager[Redis]]) -> bool:
        """False as well when a put has failed since: that one asks for an epoch younger than itself."""
        damage = self._damage
        try:
            with way() as redis:
                redis.set(EPOCH, token_hex(8))
        except RedisAway:
            return False
        with self._state:
            if damage == self._damage:
                self._trusted.set()
        return self._trusted.is_set()


def _mget(redis: Redis, keys: Sequence[str]) -> list[bytes | None]:
    return cast(list[bytes | None], redis.mget(keys))


def _entry_key(user_id: str) -> str:
    return f"user:{{{user_id}}}"


def _keys(user_id: str) -> list[str]:
    entry = _entry_key(user_id)
    return [entry, f"{entry}:lease", EPOCH]


def _view(user_id: str, entry: bytes) -> UserView | None:
    """None for what was not written here: others may reach this Redis too."""
    parts = ENTRY.fullmatch(entry)
    if parts is None:
        return None
    ended = frozenset(parts[3].decode().split())
    return UserView(user_id, int(parts[1]), int(parts[2]), parts[4], ended)


def _tokens(view: UserView) -> str:
    """What decides which access tokens count, as it stands in the entry."""
    return " ".join([str(view.token_version), *sorted(view.ended_sessions)])
