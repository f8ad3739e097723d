"""The worker: it lifts blocks whose time has run out, sends what hooks left behind, and survives outages."""

import math
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from tests.builders import an_actor, an_admin
from tests.events import rows
from tests.fixtures import PASSWORD, Api
from tests.integration.test_management_commands import ROOT, environment, run, shell  # noqa: F401
from tests.together import PATIENCE, eventually, in_background
from users.application.commands import BlockUser, UnblockUser
from users.application.credentials import LogIn
from users.infrastructure import metrics, outbox
from users.infrastructure.redis_link import RedisAway
from users.infrastructure.worker import Duty, Worker, one_by_one
from users.models import IdempotencyRecord, OutboxEvent, RelayPosition, UserRecord
from users_domain.errors import UserBlocked

ADMIN = an_actor(an_admin())


def block(service, user_id, reason="spam", **duration):
    """For that long from now on, or for good."""
    until = timezone.now() + timedelta(**duration) if duration else None
    return service.commands.block(BlockUser(user_id=user_id, reason=reason, until=until, by=ADMIN))


def block_for_a_moment(service, user_id, seconds):
    """As if it had been for so short a time from the first; answers when it ends."""
    block(service, user_id, hours=1)
    ends = timezone.now() + timedelta(seconds=seconds)
    UserRecord.objects.filter(id=user_id).update(blocked_until=ends)
    return ends


def run_out(user_id):
    """As if the end of the block had come an hour ago."""
    UserRecord.objects.filter(id=user_id).update(blocked_until=timezone.now() - timedelta(hours=1))


def events_of(service, user_id):
    return service.queries.history(user_id, limit=100, cursor=None).results


def test_a_block_that_ran_out_is_lifted_by_the_running_worker_as_a_fact_of_its_own(service, people, redis):
    user_id = people.user("Ann")
    with in_background(service.worker().run):
        ends = block_for_a_moment(service, user_id, 0.5)
        service.queries.get(user_id)

        eventually(lambda: not UserRecord.objects.filter(id=user_id, status="blocked").exists())
        assert timezone.now() >= ends
        eventually(lambda: redis.xlen("users.events") == 3)

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
    UserRecord.objects.filter(id=ids[0]).update(name="?")  # the model refuses to load it

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


def test_duties_that_share_a_thread_are_all_done_though_one_fails(service):
    done = []

    def fail():
        raise OperationalError("away")

    act = one_by_one(Duty("a", 1, fail), Duty("b", 1, lambda: done.append("b")), Duty("c", 1, lambda: True))

    assert act() is True
    assert done == ["b"]
    assert one_by_one(Duty("a", 1, fail))() is False


@pytest.mark.parametrize(("mail", "threads"), [(True, 7), (False, 5)])
def test_operations_md_counts_the_workers_connections(service, settings, mail, threads):
    """One for each thread; whoever adds a duty adds to what PostgreSQL has to bear."""
    settings.MAIL_CONFIGURED = mail
    said = (ROOT / "docs/operations.md").read_text()

    assert len(service.worker()._duties) == threads
    assert "Each `worker` keeps 7 (a thread for each of its duties, 5 without mail)" in said


def test_a_duty_that_fails_is_tried_less_and_less_often_until_it_goes_well(service, monkeypatch):
    waited, answers = [], [OperationalError("away")] * 3 + [None, OperationalError("away"), True, None]

    class Stop:
        """Notes how long it is waited for, and is set when there is no more to do."""

        def is_set(self):
            return not answers

        def wait(self, seconds):
            waited.append(round(seconds, 6))

    def act():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("users.infrastructure.worker.random.uniform", lambda low, high: high)
    worker = Worker(service.relay, end_block=lambda user_id: None)

    worker._keep_doing(Duty("relay", 0.2, act), Stop())

    assert waited == [0.4, 0.8, 1.6, 0.2, 0.4, 0.02, 0.2]


def test_a_worker_that_waits_after_failures_stops_at_once(service, monkeypatch):
    def fail():
        raise OperationalError("away")

    monkeypatch.setattr("users.infrastructure.worker.random.uniform", lambda low, high: 60)
    worker = Worker(service.relay, end_block=lambda user_id: None)
    worker._duties = [Duty("bad", 0.01, fail)]
    began = time.monotonic()

    with in_background(worker.run):
        time.sleep(0.05)

    assert time.monotonic() - began < 50  # and not the 60 s that it would have waited


# --- Signs of life ------------------------------------------------------------------------------------


def beats():
    return list(RelayPosition.objects.values_list("heartbeat_at", flat=True))


def test_a_good_round_beats_and_not_again_for_a_while(service, redis):
    worker = service.worker()
    assert outbox.heartbeat_age() == math.inf
    worker.relay_events()
    first = beats()
    assert 0 <= outbox.heartbeat_age() < 50

    worker.relay_events()
    assert beats() == first
    worker._beat_at -= 5
    worker.relay_events()
    assert beats() > first


def test_the_first_beat_takes_no_number_away(service, redis):
    """The row it makes is the counter's."""
    rows(3)
    outbox.give_sequences(10)
    RelayPosition.objects.all().delete()

    outbox.beat()
    rows(1)
    service.relay.drain(seconds=PATIENCE)

    assert outbox.position() == (4, 4)


def test_without_redis_there_is_no_beat(service, fragile_redis):
    fragile_redis.kill()
    with pytest.raises(RedisAway):
        service.worker().relay_events()

    assert outbox.heartbeat_age() == math.inf


def test_the_age_of_the_beat_is_a_metric(service, redis):
    assert b"\nuser_events_relay_heartbeat_age_seconds +Inf\n" in metrics.page()
    outbox.beat()
    RelayPosition.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=42))

    age = re.search(rb"\nuser_events_relay_heartbeat_age_seconds ([0-9.]+)\n", metrics.page())
    assert 42 <= float(age[1]) < 42 + PATIENCE


@pytest.mark.parametrize(
    ("age", "code", "said"),
    [
        (5, 0, r"a worker's relay was at work (\d+) seconds ago\n"),
        (31, 1, r"CommandError: no worker's relay was at work in the last (\d+) seconds\n"),
        (None, 1, r"CommandError: no worker has ever been at work here\n"),
    ],
)
def test_check_says_by_its_exit_code_whether_a_worker_is_at_work(run, age, code, said):  # noqa: F811
    rows(1)
    if age is not None:
        outbox.beat()
        RelayPosition.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=age))

    ran = run("relay_events", "--check")

    assert ran.code == code
    told = re.fullmatch(said, ran.out + ran.err)
    assert told
    assert age is None or age <= int(told[1]) < age + PATIENCE
    assert OutboxEvent.objects.get().sequence is None, "it only looks"


def test_check_without_a_database_says_so_in_one_line(database):
    ran = shell("relay_events", "--check", DATABASE_URL="postgres://127.0.0.1:1/users")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("CommandError: PostgreSQL: ")
    assert ran.err.count("\n") == 1


# --- The end of a process -----------------------------------------------------------------------------


def test_a_process_that_is_told_to_end_finishes_its_batch(database, redis, tmp_path):
    """It hangs between the stream and the mark in the table, where a kill would make the next worker send the
    batch anew: the position's row is locked."""
    rows(2500)
    while outbox.give_sequences(1000):
        pass
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "config.role", "worker"],
            cwd=ROOT,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    with transaction.atomic():
        list(RelayPosition.objects.select_for_update().all())
        in_hand = eventually(lambda: redis.exists("users.events") and redis.xlen("users.events"))
        worker.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.3)
        assert redis.xlen("users.events") == in_hand < 2500
        assert outbox.position() == (2500, 0)

    assert worker.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    ids = [int(entry_id.partition(b"-")[0]) for entry_id, _ in redis.xrange("users.events")]
    assert ids == list(range(1, 2501))
    assert outbox.position() == (2500, 2500)
    assert '"relay_stopped"' in (tmp_path / "log").read_text()


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
        block_for_a_moment(service, user_id, 0.2)
        eventually(lambda: UserRecord.objects.get(id=user_id).version == 3)  # lifted meanwhile
        fragile_redis.start()
        eventually(lambda: redis_client.xlen("users.events") == 3)


def test_postgresql_killed_and_back_does_not_end_the_worker(service, people, fragile_postgres, redis):
    user_id = people.user("Ann")
    block_for_a_moment(service, user_id, 1)
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
