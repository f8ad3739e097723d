"""The worker: it lifts blocks whose time has run out, sends what hooks left behind, and survives outages."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from tests.builders import an_actor, an_admin
from tests.fixtures import PASSWORD, Api
from tests.together import eventually, in_background
from users.application.commands import BlockUser, UnblockUser
from users.application.sessions import LogIn
from users.infrastructure import outbox
from users.infrastructure.worker import Duty, Worker
from users.models import IdempotencyRecord, UserRecord
from users_domain.errors import UserBlocked

ADMIN = an_actor(an_admin())


def block(service, user_id, reason="spam", **duration):
    """For that long from now on, or for good."""
    until = timezone.now() + timedelta(**duration) if duration else None
    return service.commands.block(BlockUser(user_id=user_id, reason=reason, until=until, by=ADMIN))


def run_out(user_id):
    """As if the end of the block had come an hour ago."""
    UserRecord.objects.filter(id=user_id).update(blocked_until=timezone.now() - timedelta(hours=1))


def events_of(service, user_id):
    return service.queries.history(user_id, limit=100, cursor=None).results


def test_a_block_that_ran_out_is_lifted_by_the_running_worker_as_a_fact_of_its_own(service, people, redis):
    user_id = people.user("Ann")
    with in_background(service.worker().run):
        until = block(service, user_id, seconds=0.7)
        service.queries.get(user_id)
        ends = time.monotonic() + 0.7

        eventually(lambda: not UserRecord.objects.filter(id=user_id, status="blocked").exists())
        assert 0 <= time.monotonic() - ends < 5
        eventually(lambda: redis.xlen("users.events") == 3)

    assert until.version == 2
    assert service.queries.get(user_id).version == service.cache.get(user_id).view.version == 3
    assert b'"status":"active"' in service.queries.get(user_id).json
    lifted = events_of(service, user_id)[-1]
    assert (lifted["event_type"], lifted["actor_id"], lifted["user_version"]) == (
        "user.unblocked",
        "system",
        3,
    )


def test_only_what_ran_out_is_lifted(service, people):
    ids = {name: people.user(name) for name in ("Gone", "Still", "Forever", "Free")}
    block(service, ids["Gone"], hours=1)
    block(service, ids["Still"], hours=1)
    block(service, ids["Forever"])
    run_out(ids["Gone"])

    worker, asked = service.worker(), []
    real, worker._end_block = worker._end_block, lambda user_id: asked.append(user_id) or real(user_id)

    assert worker.end_blocks() == 1

    assert asked == [ids["Gone"]]
    blocked = set(UserRecord.objects.filter(status="blocked").values_list("name", flat=True))
    assert blocked == {"Still", "Forever"}
    assert service.worker().end_blocks() == 0


def test_a_new_block_made_while_the_worker_was_on_its_way_stands(service, people):
    user_id = people.user("Ann")
    block(service, user_id, hours=1)
    run_out(user_id)

    def operator_is_faster(user_id):
        service.commands.unblock(UnblockUser(user_id=user_id, by=ADMIN))
        block(service, user_id, reason="again")
        return real(user_id)

    worker = service.worker()
    real, worker._end_block = worker._end_block, operator_is_faster

    assert worker.end_blocks() == 0
    record = UserRecord.objects.get(id=user_id)
    assert (record.status, record.block_reason, record.version) == ("blocked", "again", 4)


def test_one_user_who_cannot_be_unblocked_does_not_hold_up_the_others(service, people):
    ids = [people.user(name) for name in ("Ann", "Bob")]
    for user_id in ids:
        block(service, user_id, hours=1)
        run_out(user_id)
    UserRecord.objects.filter(id=ids[0]).update(email="no address any more")  # the model refuses to load it

    assert service.worker().end_blocks() == 1
    assert UserRecord.objects.get(id=ids[1]).status == "active"


def test_two_workers_lift_a_block_once(service, people):
    from tests.together import together

    ids = [people.user(f"User {n}".replace(" ", "")) for n in range(10)]
    for user_id in ids:
        block(service, user_id, hours=1)
        run_out(user_id)

    lifted = together([service.worker().end_blocks] * 3)

    assert sum(lifted) == 10
    assert [len(events_of(service, user_id)) for user_id in ids] == [3] * 10


def test_from_the_end_of_his_block_on_a_user_logs_in_and_his_token_works_though_nobody_lifted_it(
    service, people
):
    user_id = people.user("Ann")
    block(service, user_id, hours=1)
    with pytest.raises(UserBlocked):
        service.sessions.log_in(LogIn(email="ann@example.com", password=PASSWORD))
    run_out(user_id)

    ann = people.log_in("Ann")

    assert UserRecord.objects.get(id=user_id).status == "blocked"
    assert ann("GET", "/users/me").status_code == 200
    service.worker().end_blocks()
    assert ann("GET", "/users/me").json()["status"] == "active"  # and still works afterwards


def test_what_a_hook_left_behind_goes_out(service, people, redis):
    service.commands._unit_of_work._after_commit = lambda views: None
    people.user("Ann")
    assert redis.exists("users.events") == 0

    with in_background(service.worker().run):
        eventually(lambda: redis.xlen("users.events") == 1)


def test_when_it_is_stopped_everything_that_is_waiting_goes_out_first(service, people, redis):
    service.commands._unit_of_work._after_commit = lambda views: None
    people.user("Ann")
    stop = threading.Event()
    stop.set()

    service.worker().run(stop)

    assert redis.xlen("users.events") == 1


def test_idempotency_keys_are_forgotten_after_a_day(database, service):
    now = timezone.now()
    for hours in (1, 23, 25, 100):
        IdempotencyRecord.objects.create(
            scope="s",
            key=str(hours),
            fingerprint="f",
            user_id="01900000-0000-7000-8000-000000000000",
            response="{}",
            created_at=now - timedelta(hours=hours),
        )

    with in_background(service.worker().run):
        eventually(lambda: IdempotencyRecord.objects.count() == 2)

    assert set(IdempotencyRecord.objects.values_list("key", flat=True)) == {"1", "23"}


@pytest.mark.parametrize("trouble", [OperationalError("away"), ZeroDivisionError()])
def test_a_duty_that_fails_stops_neither_the_loop_nor_the_other_duties(service, trouble):
    done = []

    def fail():
        done.append("failed")
        raise trouble

    worker = Worker(service.relay, end_block=lambda user_id: None, poll_seconds=0.01)
    worker._duties = [Duty("bad", 0.01, fail), Duty("good", 0.01, lambda: done.append("done"))]

    with in_background(worker.run):
        eventually(lambda: done.count("done") >= 3 and done.count("failed") >= 3)


def test_without_redis_the_worker_still_numbers_what_hooks_left_behind(service, people, fragile_redis):
    service.commands._unit_of_work._after_commit = lambda views: None
    people.user("Ann")
    fragile_redis.kill()

    with in_background(service.worker().run):
        eventually(lambda: [each["sequence"] for each in outbox.batch(0, 10)] == [1])


def test_redis_killed_and_back_does_not_end_the_worker(service, people, fragile_redis, redis_client):
    user_id = people.user("Ann")
    with in_background(service.worker().run):
        fragile_redis.kill()
        block(service, user_id, seconds=0.2)
        eventually(lambda: UserRecord.objects.get(id=user_id).version == 3)  # lifted meanwhile
        fragile_redis.start()
        eventually(lambda: redis_client.xlen("users.events") == 3)


def test_postgresql_killed_and_back_does_not_end_the_worker(service, people, fragile_postgres, redis):
    user_id = people.user("Ann")
    block(service, user_id, seconds=1)
    with in_background(service.worker().run):
        fragile_postgres.kill()
        with pytest.raises(OperationalError):
            outbox.position()
        fragile_postgres.start()

        def lifted():
            from django.db import close_old_connections

            close_old_connections()
            return UserRecord.objects.filter(id=user_id, status="active").exists()

        eventually(lifted)
        eventually(lambda: redis.xlen("users.events") == 3)
    assert Api()("POST", "/auth/token", {"email": "ann@example.com", "password": PASSWORD}).status_code == 200
