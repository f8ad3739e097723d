"""The second half of an erasure: what the worker does when the command could not, and whom it waits for."""

from typing import Any

import pytest
from django.contrib.sessions.models import Session as PageSession
from django.db import DatabaseError, connection
from redis import Redis as RedisClient
from structlog.testing import capture_logs

from tests.browser import Browser
from tests.fixtures import PASSWORD, Api, People
from tests.integration.test_erasure import erase, let_time_pass
from users import wiring
from users.infrastructure import erasure, erasure_sweep, metrics
from users.infrastructure.cache import RedisUserCache
from users.infrastructure.redis_link import RedisAway
from users.models import Erasure, OutboxEvent
from users.wiring import Service

REMOVE_AGAIN = erasure.remove_again


def away(*_: object) -> None:
    raise RedisAway


def is_swept(user_id: str) -> bool:
    return Erasure.objects.get(user_id=user_id).swept_at is not None


# --- One who cannot be swept ----------------------------------------------------------------------------


@pytest.fixture
def stuck(people: People, service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two erased users, of whom the first cannot be swept, one at a time."""
    users = [people.user("Ann"), people.user("Bob")]
    for user_id in users:
        erase(service, user_id)
    let_time_pass()

    def remove_again(user_id: str, **more: Any) -> None:
        if user_id == users[0]:
            raise DatabaseError("Failing row contains (ann@example.com)")
        REMOVE_AGAIN(user_id, **more)

    monkeypatch.setattr(erasure, "remove_again", remove_again)
    monkeypatch.setattr(erasure_sweep, "AT_ONCE", 1)
    return users


def test_one_who_cannot_be_swept_holds_up_nobody_and_comes_last(stuck: list[str], service: Service) -> None:
    with capture_logs() as lines:
        service.sweep.finish()
        service.sweep.finish()

    assert [is_swept(user_id) for user_id in stuck] == [False, True]
    (told,) = [line for line in lines if line["event"] == "erasure_not_swept"]
    assert (told["user_id"], told["error"]) == (stuck[0], "DatabaseError")
    assert "ann@example.com" not in str(lines)


def test_he_is_tried_again_and_swept_when_that_goes_well(
    stuck: list[str], service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        service.sweep.finish()
    monkeypatch.setattr(erasure, "remove_again", REMOVE_AGAIN)

    service.sweep.finish()

    assert is_swept(stuck[0])


def test_metrics_tell_how_many_wait_and_since_when(stuck: list[str], service: Service) -> None:
    let_time_pass(seconds=4000)
    for _ in range(2):
        service.sweep.finish()

    page = metrics.page().decode()

    assert "\nuser_erasures_unswept 1.0\n" in page
    (age,) = [line.split()[1] for line in page.splitlines() if line.startswith("user_erasures_lag_seconds ")]
    assert 4060 < float(age) < 4160
    Erasure.objects.update(swept_at=Erasure.objects.get(user_id=stuck[1]).swept_at)
    assert "\nuser_erasures_lag_seconds 0.0\n" in metrics.page().decode()


def test_without_redis_nobody_is_held_to_have_failed(
    people: People, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase(service, people.user("Ann"))
    let_time_pass()
    monkeypatch.setattr(RedisUserCache, "forget", away)

    with pytest.raises(RedisAway):
        service.sweep.finish()

    assert Erasure.objects.get().tried_at is None


# --- What is known by his addresses ---------------------------------------------------------------------


@pytest.fixture
def limited(people: People, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Service:
    """With limits, which know from where accounts log in."""
    settings.RATE_LIMITS = True
    monkeypatch.setattr(wiring, "_service", None)
    return wiring.service()


def test_his_networks_are_forgotten_later_when_redis_was_away_at_that_moment(
    people: People, limited: Service, redis: RedisClient
) -> None:
    """Else whoever takes the address would inherit them, and he would be no stranger to the new account."""
    ann = people.user("Ann")
    people.log_in("Ann")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limited.privacy._traces, "_forget_accounts", away)
        erase(limited, ann)
    assert len(list(redis.scan_iter("limit:login_known:*"))) == 1
    let_time_pass()
    (account,) = Erasure.objects.get().accounts
    assert f"limit:login_known:{account}".encode() in redis.keys("limit:*")

    limited.sweep.finish()

    assert list(redis.scan_iter("limit:login_known:*")) == []
    assert Erasure.objects.get().accounts == []


@pytest.mark.parametrize("step", ["_empty_older_events", "RedisUserCache.forget"])
def test_his_networks_are_forgotten_at_once_whatever_else_fails(
    people: People, limited: Service, redis: RedisClient, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    ann = people.user("Ann")
    people.log_in("Ann")
    if step == "_empty_older_events":
        monkeypatch.setattr(erasure, step, lambda *_: (_ for _ in ()).throw(DatabaseError()))
    else:
        monkeypatch.setattr(RedisUserCache, "forget", away)

    erase(limited, ann)

    assert list(redis.scan_iter("limit:login_known:*")) == []


# --- Sessions of the admin pages ------------------------------------------------------------------------


@pytest.fixture
def looked_for(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Whose sessions were looked for among all, and whether others had to wait meanwhile."""
    seen: list[tuple[str, bool]] = []
    real = erasure._end_page_sessions

    def noting(user_id: str) -> None:
        seen.append((user_id, connection.in_atomic_block))
        real(user_id)

    monkeypatch.setattr(erasure, "_end_page_sessions", noting)
    return seen


def test_no_session_of_the_pages_is_decoded_for_those_who_could_have_none(
    people: People, service: Service, looked_for: list[tuple[str, bool]]
) -> None:
    erase(service, people.user("Ann"))
    let_time_pass()
    service.sweep.finish()

    assert looked_for == []


def test_those_of_staff_end_after_the_commit_and_once_more_by_the_worker(
    people: People, service: Service, looked_for: list[tuple[str, bool]]
) -> None:
    people.staff("admin")
    operator = people.staff("operator", "Olga")
    # As after a long time: nothing but the roles themselves says that there are any.
    OutboxEvent.objects.filter(user_id=operator, event_type="user.roles_changed").delete()
    Browser().send("/admin/login/?next=/admin/", username="olga@example.com", password=PASSWORD)
    assert PageSession.objects.count() == 1

    erase(service, operator)
    assert PageSession.objects.count() == 0
    let_time_pass()
    service.sweep.finish()

    assert looked_for == [(operator, False)] * 2


def test_those_of_former_staff_end_too(
    people: People, service: Service, admin: Api, looked_for: list[tuple[str, bool]]
) -> None:
    ann = people.user("Ann")
    for roles in (["operator"], []):
        assert admin("PUT", f"/users/{ann}/roles", {"roles": roles}).status_code == 200

    erase(service, ann)

    assert looked_for == [(ann, False)]
