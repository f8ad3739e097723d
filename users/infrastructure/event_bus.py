"""Redis as the events' way out: the durable stream, and Pub/Sub beside it to wake simple listeners."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis, ResponseError

from users.application.envelope import Envelope
from users.infrastructure.cache import PUT_FUNCTION, Puts
from users.infrastructure.redis_link import RedisLink
from users.infrastructure.scripts import Script

# Explicit ids make Redis itself the judge: what is in the stream is not added again, by whomever, and a
# worker that believes in a stream that has lost data meanwhile (its top below the floor) adds nothing.
TOP = """
local top = 0
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then
    if not string.find(info.err, 'no such key') then return redis.error_reply(info.err) end
else
    for i = 1, #info, 2 do
        if info[i] == 'last-generated-id' then top = tonumber(string.match(info[i + 1], '^%d+')) end
    end
end
"""

# Users are put into the cache before anybody hears of them; what fails there publishes nothing.
# What is skipped has to be the same event, or our numbers are not the stream's; then nothing is added.
PUBLISH = Script(f"""{PUT_FUNCTION}
put(2, 5, (#KEYS - 2) / 2)
{TOP}
if top < tonumber(ARGV[2]) then return {{top, 0, 0}} end
local added = 0
for i = tonumber(ARGV[4]), #ARGV, 3 do
    local id = ARGV[i] .. '-0'
    if tonumber(ARGV[i]) > top then
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], id, 'event', ARGV[i + 2])
        if tonumber(ARGV[i]) > tonumber(ARGV[3]) then redis.call('PUBLISH', ARGV[i + 1], ARGV[i + 2]) end
        added = added + 1
    else
        local there = redis.call('XRANGE', KEYS[1], id, id)[1]
        local event = string.match(ARGV[i + 2], '"event_id":"[^"]*"')
        if there and not string.find(there[2][2], event, 1, true) then return {{top, 0, 1}} end
    end
end
return {{top, added, 0}}
""")

# A group makes the stream when there is none, which XADD of something to delete would do as well; but that
# wakes blocked readers for nothing.
GO_ON_BEHIND = f"""{TOP}
if top < tonumber(ARGV[2]) or top >= tonumber(ARGV[1]) then return 0 end
if top == 0 then
    redis.call('XGROUP', 'CREATE', KEYS[1], 'none', '0', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', KEYS[1], 'none')
end
redis.call('XSETID', KEYS[1], ARGV[1] .. '-0')
return 1
"""

MESSAGE_BYTES = 8 * 1024 * 1024
"""Of envelopes in one message to Redis; one envelope is always allowed."""


NO_PUTS = Puts(0, [], [])

PAGE = 1000
EVENT_ID = re.compile(rb'"event_id":\s*"([^"]*)"')
USER_ID = re.compile(rb'"user_id":\s*"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Published:
    """`top`: the stream's highest sequence before; `added`: how many of the envelopes, the last ones, went
    in; `stranger`: another event stood in the place of one of them."""

    top: int
    added: int
    stranger: bool


class EventBus:
    def __init__(self, link: RedisLink, *, stream: str, maxlen: int) -> None:
        self._link = link
        self._stream = stream
        self.maxlen = maxlen

    def require(self) -> None:
        """Raises RedisAway when it is known that nothing can be published now."""
        self._link.require()

    def fitting(self, envelopes: list[Envelope]) -> list[Envelope]:
        """As many of the envelopes, from the first on, as `publish` should be given at once."""
        size = 0
        for count, envelope in enumerate(envelopes):
            size += len(envelope.json)
            if count and size > MESSAGE_BYTES:
                return envelopes[:count]
        return envelopes

    def publish(
        self, envelopes: Sequence[Envelope], *, floor: int, told: int = 0, puts: Puts = NO_PUTS
    ) -> Published:
        """Puts into the cache, whatever comes then; then adds those of the envelopes, in order of sequence,
        that the stream does not have yet, and tells whoever listens, but not again of those up to the
        sequence `told`. Adds none while the top is below `floor`, or when another event stands in the place
        of one of them. Raises RedisAway: what was put, if anything, is unknown then."""
        first_event = 5 + len(puts.arguments)
        arguments: list[Any] = [self.maxlen, floor, told, first_event, *puts.arguments]
        for envelope in envelopes:
            arguments += envelope["sequence"], envelope["event_type"], envelope.json
        with self._link.own as ask:
            top, added, stranger = PUBLISH(ask, [self._stream, *puts.keys], arguments)
        return Published(int(top), int(added), bool(stranger))

    def event_ids(self, after: int, until: int) -> dict[int, str]:
        """What stands in the stream behind `after` and up to `until`: sequence to event id, empty for
        entries that are not ours. Raises RedisAway."""
        found: dict[int, str] = {}
        with self._link.client() as redis:
            while after < until:
                page: Any = redis.xrange(self._stream, f"({after}-0", f"{until}-0", count=PAGE)
                if not page:
                    break
                for entry_id, fields in page:
                    after = int(entry_id.partition(b"-")[0])
                    named = EVENT_ID.search(fields.get(b"event", b""))
                    found[after] = named[1].decode() if named else ""
        return found

    def go_on_behind(self, sequence: int, *, floor: int) -> None:
        """Puts the top of a stream that ends before `sequence` there, without an entry; does nothing while
        the top is below `floor`. Raises RedisAway."""
        with self._link.client() as redis:
            redis.register_script(GO_ON_BEHIND)(keys=[self._stream], args=[sequence, floor])

    def delete(self, sequences: Sequence[int]) -> None:
        """Takes these out of the stream, whose top stays: none of them can be added again, and readers take
        the hole for one of trimming. Raises RedisAway."""
        with self._link.client() as redis:
            for start in range(0, len(sequences), PAGE):
                redis.xdel(self._stream, *(f"{sequence}-0" for sequence in sequences[start : start + PAGE]))

    def about(self, user_ids: Collection[str], *, until: int) -> Iterator[int]:
        """The sequences up to `until` whose entries are about one of these users. Raises RedisAway."""
        after = "-"
        with self._link.client() as redis:
            while page := cast(Any, redis.xrange(self._stream, after, f"{until}-0", count=PAGE)):
                for entry_id, fields in page:
                    named = USER_ID.search(fields.get(b"event", b""))
                    if named and named[1].decode() in user_ids:
                        yield int(entry_id.partition(b"-")[0])
                after = f"({page[-1][0].decode()}"

    def top(self) -> int:
        """The highest sequence that the stream has ever had, 0 for none. Raises RedisAway."""
        with self._link.client() as redis:
            return top_of(redis, self._stream)


def top_of(redis: Redis, stream: str) -> int:
    """The highest sequence that a stream has ever had, 0 for none."""
    try:
        last_id: bytes = redis.xinfo_stream(stream)["last-generated-id"]
    except ResponseError as error:
        if "no such key" in str(error):
            return 0
        raise
    return int(last_id.partition(b"-")[0])
