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
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import lru_cache
from secrets import token_hex
from typing import Protocol

import structlog
from redis import Redis
from redis.exceptions import NoScriptError

from users.application.ports import CacheAnswer
from users.application.representation import UserView
from users.infrastructure.redis_link import Ask, RedisAway, RedisLink
from users.infrastructure.scripts import Script

log = structlog.get_logger(__name__)

EPOCH = "users:cache:epoch:2"
"""Of entries of this form: releases that write another believe none of each other's while both run."""
LEASE_MILLISECONDS = 3000
ENTRY = re.compile(rb"\S+ (\d{1,10}) (\d{1,10})((?: [0-9a-f-]{36})*)\n(\{.+\})", re.DOTALL)

ACQUIRE = Script("""
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
""")

FILL = Script("""
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
""")

RELEASE = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")

# Of users whose keys and arguments, as `RedisUserCache.puts` makes them, begin at these places.
PUT_FUNCTION = """
local function put(key, argument, users)
    for i = 0, users - 1 do
        local entry_key = KEYS[key + 1 + 2 * i]
        redis.call('DEL', KEYS[key + 2 + 2 * i])
        local entry = redis.pcall('GET', entry_key)
        if type(entry) == 'string' then
            local epoch = redis.call('GET', KEYS[key])
            local its_epoch, its_version = string.match(entry, '^(%S+) (%d+)')
            local at = argument + 1 + 3 * i
            if its_epoch ~= epoch then
                redis.call('DEL', entry_key)
            elseif tonumber(its_version) < tonumber(ARGV[at]) then
                local tokens, json = ARGV[at + 1], ARGV[at + 2]
                local content = epoch .. ' ' .. ARGV[at] .. ' ' .. tokens .. '\\n' .. json
                redis.call('SET', entry_key, content, 'EX', ARGV[argument])
            end
        elseif entry then
            redis.call('DEL', entry_key)
        end
    end
end
"""
PUT = Script(f"{PUT_FUNCTION} put(1, 1, (#KEYS - 1) / 2)")

BEHIND = Script("""
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
""")


class Companion(Protocol):
    """Something else to ask of Redis, which reads our keys along with it."""

    def fetch(self, ask: Ask, keys: Sequence[str]) -> list[bytes | None]: ...


@dataclass(frozen=True, slots=True)
class Puts:
    """What PUT_FUNCTION is told of the views of so many users."""

    users: int
    keys: list[str]
    arguments: list[str | int | bytes]


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
        try:
            with self._link.own as ask:
                return _answer(user_id, *ACQUIRE(ask, _keys(user_id), _for_lease()))
        except RedisAway:
            return CacheAnswer("bypass")

    def peek(self, user_ids: Sequence[str], *, along: Companion | None = None) -> dict[str, UserView]:
        """Those of the users that are here, in one round trip, `along` with what else there is to ask;
        takes no lease."""
        if not self._trusted.is_set():
            return {}
        try:
            with self._link.own as ask:
                return self._peeked(ask, user_ids, along)
        except RedisAway:
            return {}

    def _peeked(self, ask: Ask, user_ids: Sequence[str], along: Companion | None) -> dict[str, UserView]:
        keys = [EPOCH, *map(_entry_key, user_ids)]
        epoch, *entries = along.fetch(ask, keys) if along else ask("MGET", *keys)
        if not epoch:
            return {}
        beginning = epoch + b" "
        return {
            user_id: view
            for user_id, entry in zip(user_ids, entries, strict=True)
            if entry and entry.startswith(beginning) and (view := _view(user_id, entry))
        }

    def peek_and_get(
        self, user_ids: Sequence[str], wanted: str, *, along: Companion | None = None
    ) -> tuple[dict[str, UserView], CacheAnswer]:
        """As `peek`, and what `get` answers about `wanted`, in the same round trip."""
        if not self._trusted.is_set():
            return {}, CacheAnswer("bypass")
        try:
            with self._link.own as ask:
                asked = ACQUIRE.ahead(ask, _keys(wanted), _for_lease())
                found = self._peeked(ask, user_ids, along)
                answer = asked.answer
                if answer is None or isinstance(answer, NoScriptError):
                    answer = ACQUIRE(ask, _keys(wanted), _for_lease())
                elif isinstance(answer, Exception):  # full, or a replica: what may only be read, was
                    return found, CacheAnswer("bypass")
        except RedisAway:
            return {}, CacheAnswer("bypass")
        return found, _answer(wanted, *answer)

    def release(self, user_id: str, lease: str) -> None:
        """For whoever took it and will not fill."""
        with suppress(RedisAway), self._link.own as ask:
            RELEASE.tell(ask, [f"{_entry_key(user_id)}:lease"], [lease])

    def fill(self, lease: str, view: UserView) -> None:
        """Nobody waits for it, and one that fails loses nothing: the next reader fills."""
        if not self._trusted.is_set():
            return
        arguments: list[str | int | bytes] = [lease, view.version, _tokens(view), view.json, self._ttl]
        try:
            with self._link.own as ask:
                FILL.tell(ask, _keys(view.id), arguments)
        except RedisAway:
            return

    def put(self, views: Collection[UserView]) -> None:
        """After commit and before the answer. When Redis cannot be told, no entry is trusted any more
        until the epoch is a new one."""
        puts = self.puts(views)
        if puts is None:
            self.distrust()
            return
        try:
            with self._link.own as ask:
                PUT(ask, puts.keys, puts.arguments)
        except RedisAway:
            self.distrust()

    def behind(self, versions: Mapping[str, int]) -> Collection[str]:
        """Those of the users, committed with these versions, whom only a put brings up to date: an entry is
        older, or a lease is out that may have been taken before. In one round trip; where there is neither,
        whoever fills will read what is committed. All of them when Redis cannot be asked."""
        keys = [EPOCH, *(key for user_id in versions for key in _keys(user_id)[:2])]
        try:
            with self._link.own as ask:
                places = BEHIND(ask, keys, list(versions.values()))
        except RedisAway:
            return versions
        users = list(versions)
        return [users[place] for place in places]

    def puts(self, views: Collection[UserView]) -> Puts | None:
        """For whoever puts along with something else, and then, when that fails, by itself. None while no
        entry is trusted: a put by itself is what asks for another epoch then."""
        if not self._trusted.is_set():
            return None
        keys: list[str] = [EPOCH]
        arguments: list[str | int | bytes] = [self._ttl]
        for view in views:
            keys += _keys(view.id)[:2]
            arguments += view.version, _tokens(view), view.json
        return Puts(len(views), keys, arguments)

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


def _for_lease() -> list[str | int]:
    return [token_hex(8), LEASE_MILLISECONDS]


def _answer(user_id: str, entry: bytes | None, lease: bytes | None) -> CacheAnswer:
    if entry and (view := _view(user_id, entry)):
        return CacheAnswer("hit", view=view)
    return CacheAnswer("miss", lease=lease.decode() if lease else None)


def _entry_key(user_id: str) -> str:
    return f"user:{{{user_id}}}"


def _keys(user_id: str) -> list[str]:
    entry = _entry_key(user_id)
    return [entry, f"{entry}:lease", EPOCH]


@lru_cache(2048)
def _view(user_id: str, entry: bytes) -> UserView | None:
    """None for what was not written here: others may reach this Redis too. Remembered by the very bytes, so
    that those who are asked for most are not taken apart each time."""
    parts = ENTRY.fullmatch(entry)
    if parts is None:
        return None
    ended = frozenset(parts[3].decode().split())
    return UserView(user_id, int(parts[1]), int(parts[2]), parts[4], ended)


def _tokens(view: UserView) -> str:
    """What decides which access tokens count, as it stands in the entry."""
    return " ".join([str(view.token_version), *sorted(view.ended_sessions)])
