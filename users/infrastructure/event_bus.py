"""Redis as the events' way out: the durable stream, and Pub/Sub beside it to wake simple listeners."""

from collections.abc import Sequence
from typing import Any

import orjson
from redis import ResponseError

from users.infrastructure.redis_link import RedisLink

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

PUBLISH = f"""{TOP}
if top < tonumber(ARGV[2]) then return {{top, 0}} end
local added = 0
for i = 3, #ARGV, 3 do
    if tonumber(ARGV[i]) > top then
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], ARGV[i] .. '-0', 'event', ARGV[i + 2])
        redis.call('PUBLISH', ARGV[i + 1], ARGV[i + 2])
        added = added + 1
    end
end
return {{top, added}}
"""

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


class EventBus:
    def __init__(self, link: RedisLink, *, stream: str, maxlen: int) -> None:
        self._link = link
        self._stream = stream
        self.maxlen = maxlen

    def require(self) -> None:
        """Raises RedisAway when it is known that nothing can be published now."""
        self._link.require()

    def fitting(self, envelopes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As many of the envelopes, from the first on, as `publish` should be given at once."""
        size = 0
        for count, envelope in enumerate(envelopes):
            size += len(orjson.dumps(envelope))
            if count and size > MESSAGE_BYTES:
                return envelopes[:count]
        return envelopes

    def publish(self, envelopes: Sequence[dict[str, Any]], *, floor: int) -> tuple[int, int]:
        """Adds those of the envelopes, in order of sequence, that the stream does not have yet. Answers
        the stream's top before, and how many were added: none while the top is below `floor`.
        Raises RedisAway."""
        arguments: list[Any] = [self.maxlen, floor]
        for envelope in envelopes:
            arguments += [envelope["sequence"], envelope["event_type"], orjson.dumps(envelope)]
        with self._link.client() as redis:
            top, added = redis.register_script(PUBLISH)(keys=[self._stream], args=arguments)
        return int(top), int(added)

    def go_on_behind(self, sequence: int, *, floor: int) -> None:
        """Puts the top of a stream that ends before `sequence` there, without an entry; does nothing while
        the top is below `floor`. Raises RedisAway."""
        with self._link.client() as redis:
            redis.register_script(GO_ON_BEHIND)(keys=[self._stream], args=[sequence, floor])

    def top(self) -> int:
        """The highest sequence that the stream has ever had, 0 for none. Raises RedisAway."""
        with self._link.client() as redis:
            try:
                last_id: bytes = redis.xinfo_stream(self._stream)["last-generated-id"]
            except ResponseError as error:
                if "no such key" in str(error):
                    return 0
                raise
        return int(last_id.partition(b"-")[0])
