"""A thread for what nobody waits for: there when it is wanted, and gone when it is not."""

import threading

import pytest
from django.db import connection

from tests.other_session import other_session
from tests.together import PATIENCE, eventually, together
from users.infrastructure import background
from users.infrastructure.background import Background


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
    wishes, acted, at_once = [], [], []

    def act():
        at_once.append(len(alive("act")))
        while wishes:
            acted.append(wishes.pop())

    background = Background("act", act)

    def wish():
        for number in range(500):
            wishes.append(number)
            background.wake()

    together([wish] * 4)
    eventually(lambda: len(acted) == 2000)
    assert set(at_once) == {1}


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
