"""Webhooks by real worker processes: killed in the middle, frozen, stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.cache import caches
from django.db import OperationalError, transaction
from django.utils import timezone

from config.embedded import PROJECT
from tests.e2e.served import database_url
from tests.servers import TEST_DIR, clean_environment
from tests.together import PATIENCE, eventually
from tests.webhook_deliveries import assert_everything_in_order, happen, subscribe
from tests.webhook_receiver import Receiver
from users.models import WebhookEndpoint
from users.wiring import Service
from users_domain.value_objects import COMMAND_LINE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker over this test's servers."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        environment = clean_environment() | {
            "DATABASE_URL": database_url(),
            "REDIS_URL": str(caches.settings["default"]["LOCATION"]),
            "LOCAL_DIR": str(TEST_DIR),  # the same SECRET_KEY seals and opens
            "DJANGO_SETTINGS_MODULE": "tests.patient_settings",
            "WEBHOOK_TIMEOUT_SECONDS": str(PATIENCE),
        }
        with (tmp_path / f"worker-{len(started)}").open("wb") as output:
            command = [sys.executable, "manage.py", "relay_events"]
            worker = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.poll() is None:
            worker.kill()
        worker.wait(PATIENCE)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver().up()
    yield receiver
    receiver.down()


def hold_up_after(receiver: Receiver, messages: int) -> None:
    """So that no worker is done before we have come to him, however slow we are."""
    receiver.mischief.extend([None] * messages + ["hang"])
    receiver.hang_seconds = 2 * PATIENCE


def free_the_lease() -> None:
    """As if the seconds that a dead worker's lease has left were over."""
    WebhookEndpoint.objects.update(leased_until=timezone.now())


def freeze_outside_a_transaction(worker: subprocess.Popen[bytes]) -> None:
    """One that sleeps with a row locked keeps us waiting until PostgreSQL ends its session, after 10 s."""

    def slept_well() -> bool:
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            with transaction.atomic():
                return WebhookEndpoint.objects.select_for_update(nowait=True).get() is not None
        except OperationalError:
            os.kill(worker.pid, signal.SIGCONT)
            return False

    eventually(slept_well)


def all_delivered(service: Service, endpoint_id: str, position: int) -> None:
    eventually(lambda: service.webhooks.get(endpoint_id).position == position)


def test_killed_in_the_middle_again_and_again_nothing_is_lost(
    service: Service, receiver: Receiver, start: Start
) -> None:
    endpoint_id = subscribe(service, receiver)
    sequences = happen(600)
    hold_up_after(receiver, 500)
    for killed in range(1, 3):
        worker = start()
        eventually(lambda killed=killed: len(receiver.taken) > killed * 100)
        worker.kill()
        worker.wait(PATIENCE)
        assert service.webhooks.get(endpoint_id).position < 600
        free_the_lease()
    receiver.mischief.clear()
    start()

    all_delivered(service, endpoint_id, 600)
    assert_everything_in_order(receiver, sequences)
    assert len(receiver.taken) <= 602  # each death repeats one message at most


def test_a_frozen_worker_that_wakes_as_a_zombie_moves_nothing_and_sends_nothing(
    service: Service, receiver: Receiver, start: Start
) -> None:
    endpoint_id = subscribe(service, receiver)
    sequences = happen(300)
    hold_up_after(receiver, 250)
    frozen = start()
    eventually(lambda: len(receiver.taken) > 50)
    freeze_outside_a_transaction(frozen)
    free_the_lease()
    receiver.mischief.clear()
    start()
    all_delivered(service, endpoint_id, 300)
    service.webhooks.redeliver_since(endpoint_id, 300, by=COMMAND_LINE)
    WebhookEndpoint.objects.update(enabled=False)  # so that nobody else delivers now
    before = len(receiver.taken)

    os.kill(frozen.pid, signal.SIGCONT)
    time.sleep(1)

    assert service.webhooks.get(endpoint_id).position in {299, 300}
    woken = receiver.sequences[before:]
    assert len(woken) <= 1  # the one that it was about to send when it fell asleep
    assert sorted(set(receiver.sequences)) == sequences


def test_on_sigterm_the_message_under_way_is_finished_and_no_other_is_begun(
    service: Service, receiver: Receiver, start: Start
) -> None:
    endpoint_id = subscribe(service, receiver)
    receiver.mischief.append("drip_body")
    receiver.hang_seconds = 2 * PATIENCE
    happen(100)
    worker = start()
    eventually(lambda: receiver.taken)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(PATIENCE) == 0
    assert service.webhooks.get(endpoint_id).position == 1
    assert receiver.sequences == [1]
    assert WebhookEndpoint.objects.get().lease is None
