"""The way to Redis: a dead one costs next to nothing, and a live one is found again."""

import contextlib
import os
import socket
import struct
import threading
import time
from unittest.mock import Mock

import pytest
from django_redis import get_redis_connection
from redis import RedisError, ResponseError

from config.embedded import Redis
from tests.fragile import lead_redis_to
from tests.patient_settings import SECONDS
from tests.together import PATIENCE, eventually, together
from users.infrastructure.redis_link import RedisAway, RedisLink


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Deaf:
    """Listens where Redis would, counts who connects, and hangs up without a word."""

    def __init__(self, port):
        self._ports = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, (_, port) = self._listener.accept()
                self._ports.append(port)
                connection.close()

    @property
    def connections(self):
        """How many have connected by now: they are accepted in their order, so this waits for one more."""
        with socket.create_connection(self._listener.getsockname()) as last:
            port = last.getsockname()[1]
            eventually(lambda: port in self._ports)
        self._ports.remove(port)
        return len(self._ports)

    def close(self):
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)


@pytest.fixture
def deaf(fragile_redis):
    """In the place of Redis, which is stopped meanwhile."""
    fragile_redis.stop()
    lead_redis_to(fragile_redis.url)  # who has not yet heard that it is gone would connect to nobody
    server = Deaf(fragile_redis.port)
    yield server
    server.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["pool", "own"])
def way(request, monkeypatch):
    """Over a pool's client, or over the thread's own connection."""
    monkeypatch.setattr(RedisLink, "tests_way", request.param, raising=False)


@pytest.fixture
def link(clock, way):
    return RedisLink("default", clock=clock)


def use(link):
    if link.tests_way == "own":
        with link.own as ask:
            return ask("PING") == b"PONG"
    with link.client() as redis:
        return redis.ping()


def failing(link, times):
    for _ in range(times):
        with pytest.raises(RedisAway):
            use(link)


def test_a_live_redis_answers(link, fragile_redis):
    assert use(link) is True
    assert link.answers() is True


def test_a_call_is_tried_once(link, deaf):
    """redis-py's default is ten more times, with pauses."""
    failing(link, 1)

    assert deaf.connections == 1


def test_after_five_failures_in_a_row_nobody_tries_any_more(link, deaf):
    failing(link, 100)

    assert deaf.connections == 5


def test_every_second_one_caller_may_try(link, deaf, clock):
    failing(link, 10)
    for tries in (6, 7, 8):
        clock.now += 0.99
        failing(link, 10)
        assert deaf.connections == tries - 1
        clock.now += 0.02
        failing(link, 10)
        assert deaf.connections == tries


def test_of_many_threads_one_tries(link, deaf, clock):
    failing(link, 5)
    clock.now += 1.5

    outcomes = together([lambda: use(link)] * 16)

    assert {type(outcome) for outcome in outcomes} == {RedisAway}
    assert deaf.connections == 6


def test_when_redis_is_back_the_first_try_opens_the_way_for_all(link, deaf, clock, fragile_redis):
    failing(link, 10)
    deaf.close()
    fragile_redis.start()
    failing(link, 3)  # nobody knows yet

    clock.now += 1.01
    assert [use(link) for _ in range(5)] == [True] * 5


def test_failures_that_are_not_in_a_row_do_not_add_up(link, fragile_redis):
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(RedisAway), link.client() as redis:
                redis.execute_command("NONSENSE")
        assert use(link) is True


def test_a_fault_of_ours_is_not_taken_for_one_of_redis(link, fragile_redis):
    for _ in range(10):
        with pytest.raises(ZeroDivisionError), link.client():
            raise ZeroDivisionError
    assert use(link) is True


def test_who_has_work_to_do_first_can_ask_without_taking_the_turn_to_try(link, deaf, clock):
    link.require()
    failing(link, 5)
    with pytest.raises(RedisAway):
        link.require()
    clock.now += 1.01
    link.require()
    link.require()
    assert deaf.connections == 5
    failing(link, 2)
    assert deaf.connections == 6


def test_a_probe_asks_nobody_and_its_success_counts_for_all(link, deaf, clock, fragile_redis):
    failing(link, 10)
    with pytest.raises(RedisAway), link.probe() as redis:
        redis.ping()
    assert deaf.connections == 6
    assert link.answers() is False
    deaf.close()
    fragile_redis.start()

    with link.probe() as redis:
        redis.ping()
    assert use(link) is True


def test_a_frozen_redis_costs_a_caller_a_fifth_of_a_second_and_nobody_else_anything(fragile_redis, way):
    link = RedisLink("default")
    use(link)
    fragile_redis.pause()
    began = time.monotonic()
    failing(link, 5)
    frozen = time.monotonic() - began
    failing(link, 200)
    refused = time.monotonic() - began - frozen

    assert 0.9 < frozen < SECONDS / 2
    assert refused < SECONDS / 3  # two hundred fifths of a second would be more


def test_threads_do_not_share_a_connection_of_their_own(fragile_redis):
    link = RedisLink("default")

    def ask_for_me(number):
        with link.own as ask:
            ask("CLIENT", "SETNAME", f"thread{number}")
            return [ask("CLIENT", "GETNAME") for _ in range(200)]

    told = together([lambda number=number: ask_for_me(number) for number in range(8)])
    assert told == [[b"thread%d" % number] * 200 for number in range(8)]


def test_an_answer_that_came_too_late_is_nobody_elses(fragile_redis):
    link = RedisLink("default")
    with link.own as ask:
        ask("SET", "a", "1")
        ask("SET", "b", "2")
    wire = ask.wire
    Redis.pause(fragile_redis)  # by itself, so that all goes over this connection
    wire._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 200_000))
    with pytest.raises(RedisAway), link.own as ask:
        ask("GET", "a")
    Redis.resume(fragile_redis)
    with link.own as ask:
        assert ask.wire is wire
        assert ask("GET", "b") == b"2"


def test_connections_of_before_a_restart_are_replaced_without_an_error(link, fragile_redis):
    use(link)
    fragile_redis.kill()
    fragile_redis.start()

    assert use(link) is True


@pytest.mark.parametrize("alias", ["default", "events"])
def test_both_ways_try_once_and_do_not_wait_long(deaf, own_redis_server, alias):
    lead_redis_to(own_redis_server.url, patiently=False)
    with pytest.raises(RedisError):
        get_redis_connection(alias).ping()

    pool = get_redis_connection(alias).connection_pool.connection_kwargs
    assert deaf.connections == 1
    assert pool["socket_timeout"] == pool["socket_connect_timeout"] == {"default": 0.2, "events": 2}[alias]


def test_the_links_own_connections_are_none_of_the_pools(fragile_redis):
    """Which would count them for ever, until it gave out no more."""
    pool = get_redis_connection("default").connection_pool
    before = pool._created_connections
    for _ in range(5):
        with RedisLink("default").own as ask:
            ask("PING")
    assert pool._created_connections == before


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(fragile_redis, monkeypatch):
    link = RedisLink("default")
    with link.own as ask:
        ask("SET", "a", "1")
        interrupted = Mock(gets=Mock(side_effect=KeyboardInterrupt))
        monkeypatch.setattr(ask.wire, "_reader", interrupted)
    with pytest.raises(KeyboardInterrupt), link.own as ask:
        ask("GET", "a")
    monkeypatch.undo()
    with link.own as ask:
        assert ask("ECHO", "mine") == b"mine"


def test_a_forked_process_has_a_connection_of_its_own(fragile_redis):
    link = RedisLink("default")

    def number():
        with link.own as ask:
            return ask("CLIENT", "ID")

    ours = number()
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, str(number()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != ours == number()


def test_what_nobody_waits_for_keeps_its_place_among_the_answers(fragile_redis):
    link = RedisLink("default")
    with link.own as ask:
        ask("SET", "n", 0)
        ahead = ask.wire.ahead("INCR", "n")
        told = ask.wire.tell("INCRBY", "n", 10)
        refused = ask.wire.tell("NONSENSE")
        assert (ahead.answer, told.answer) == (None, None)
        assert ask("INCR", "n") == 12
    assert (ahead.answer, told.answer) == (1, 11)
    assert isinstance(refused.answer, ResponseError)


def test_what_is_asked_ahead_of_a_connection_that_was_lost_stays_open(fragile_redis):
    link = RedisLink("default")
    with link.own as ask:
        ask("PING")
    fragile_redis.kill()
    fragile_redis.start()
    with link.own as ask:
        ahead = ask.wire.ahead("INCR", "n")
        assert ask("ECHO", "mine") == b"mine"
        assert ahead.answer is None
        assert ask("ECHO", "too") == b"too"
