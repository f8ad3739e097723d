"""A thread for what nobody waits for: there when it is wanted, and gone when it is not."""

import gc
import threading

import pytest
from django.db import OperationalError, connection

from tests.other_session import other_session
from tests.together import PATIENCE, eventually, together
from users.infrastructure import background
from users.infrastructure.background import Background
from users.infrastructure.redis_link import RedisLink


@pytest.fixture(autouse=True)
def soon_gone(monkeypatch):
    monkeypatch.setattr(background, "LINGER_SECONDS", 0.02)


def alive(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_it_acts_when_it_is_woken_and_goes_when_it_is_not_any_more():
    acted = []
    act = Background("act", lambda: acted.append(threading.current_thread().name))
    assert not alive("act")

    for times in (1, 2):
        act.wake()
        eventually(lambda times=times: len(acted) == times)
        eventually(lambda: not alive("act"))
    assert acted == ["act", "act"]


def test_one_thread_acts_and_no_wake_is_lost():
    wishes, acted, acting, at_once = [], [], [], []

    def act():
        acting.append(None)
        at_once.append(len(acting))
        while wishes:
            acted.append(wishes.pop())
        acting.pop()

    woken = Background("act", act)

    def wish():
        for number in range(500):
            wishes.append(number)
            woken.wake()

    together([wish] * 4)
    eventually(lambda: len(acted) == 2000)
    assert set(at_once) == {1}
    eventually(lambda: not alive("act"))


def test_a_connection_that_cannot_be_closed_stops_nothing_either(monkeypatch, caplog):
    acted = []

    def breaks():
        if not acted:
            raise OperationalError("away")

    monkeypatch.setattr(background, "close_old_connections", breaks)
    woken = Background("act", lambda: acted.append(None))
    woken.wake()
    eventually(lambda: "background_failed" in caplog.text)
    acted.append(None)
    woken.wake()
    eventually(lambda: len(acted) == 2)
    eventually(lambda: not alive("act"))


def test_its_connection_to_redis_goes_with_it(fragile_redis, redis_client, monkeypatch):
    monkeypatch.setattr(background, "LINGER_SECONDS", 0)
    link, asked = RedisLink("default"), []

    def act():
        with link.own as ask:
            asked.append(ask("PING"))

    before = len(redis_client.client_list())
    gc.disable()  # it looks through what has lived for a second only now and then
    try:
        for times in range(1, 6):
            Background("act", act).wake()
            eventually(lambda times=times: len(asked) == times)
        eventually(lambda: not alive("act"))
        eventually(lambda: len(redis_client.client_list()) == before)
    finally:
        gc.enable()


def test_what_goes_wrong_is_logged_and_stops_nothing(caplog):
    outcomes = [ZeroDivisionError, None]

    def act():
        if error := outcomes.pop(0):
            raise error

    background = Background("act", act)
    background.wake()
    eventually(lambda: len(outcomes) == 1)
    background.wake()
    eventually(lambda: not outcomes)
    eventually(lambda: not alive("act"))
    assert [record.name for record in caplog.records] == ["users.infrastructure.background"]
    assert "background_failed" in caplog.text


def test_it_keeps_its_connection_no_longer_than_itself(database):
    backends = []

    def act():
        connection.ensure_connection()
        backends.append(connection.connection.info.backend_pid)

    Background("act", act).wake()
    eventually(lambda: backends)

    def is_there():
        question = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        with other_session() as session:
            return session.execute(question, backends).fetchone()[0]

    assert backends[0] != own_backend()
    eventually(lambda: not is_there(), seconds=PATIENCE)


def own_backend():
    connection.ensure_connection()
    return connection.connection.info.backend_pid
