"""prune_events: what is old goes, from the lowest sequence on; what anybody may still need stays."""

import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import closing, suppress
from datetime import timedelta

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.events import rows, spoil
from tests.integration.test_management_commands import ROOT, environment, run  # noqa: F401
from tests.integration.test_relay import Lab, published_to
from tests.together import PATIENCE, eventually, in_background
from users.infrastructure import outbox, retention
from users.models import OutboxEvent, RelayPosition, WebhookEndpoint

OLD = timedelta(days=100)


@pytest.fixture
def lab(database):
    return Lab()


def published(lab, *ages):
    """Events in the stream, one for each age."""
    for age in ages:
        rows(1, occurred_at=timezone.now() - age)
    lab.relay.drain(seconds=PATIENCE)


def left():
    return list(OutboxEvent.objects.order_by("sequence").values_list("sequence", flat=True))


def pruned():
    return RelayPosition.objects.get().pruned


def endpoint(position, **columns):
    now = timezone.now()
    return WebhookEndpoint.objects.create(
        **{
            "id": uuid7(),
            "url": "https://example.com/",
            "secret": "x",
            "position": position,
            "next_attempt_at": now,
            "created_at": now,
            "updated_at": now,
        }
        | columns
    )


def everything_on(terminal):
    shown = b""
    with suppress(OSError):  # the end of a terminal whose other side is closed
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    return shown.decode()


def prune(run, *arguments, keep=1):  # noqa: F811
    ran = run("prune_events", "--older-than", "90d", "--keep", str(keep), *arguments)
    assert ran.code == 0, ran.err
    return ran.out


def test_what_is_older_goes_and_the_rest_stays(lab, run):  # noqa: F811
    published(lab, *[OLD] * 6, *[timedelta(days=89)] * 2)

    said = prune(run)

    assert left() == [7, 8]
    assert pruned() == 6
    assert said == "6 events deleted; none behind sequence 7 may go: the newest 1 stay\n"
    assert outbox.position() == (8, 8)


def test_an_old_event_behind_a_younger_one_stays_so_that_there_is_no_hole(lab, run):  # noqa: F811
    published(lab, OLD, OLD, timedelta(days=1), OLD, timedelta(0))

    prune(run)

    assert left() == [3, 4, 5]
    assert pruned() == 2


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_the_size_of_the_batches_changes_nothing(lab, run, batch):  # noqa: F811
    published(lab, *[OLD] * 5, timedelta(0))

    assert prune(run, "--batch", str(batch)).startswith("5 events deleted")
    assert left() == [6]
    assert pruned() == 5


def test_each_batch_is_a_transaction_of_its_own(lab):
    published(lab, *[OLD] * 5, timedelta(0))
    before = timezone.now() - timedelta(days=90)

    with closing(retention.prune(before, keep=1, batch=2)) as batches:
        assert next(batches) == 2
        assert (left(), pruned()) == ([3, 4, 5, 6], 2)
        assert next(batches) == 2
        assert (left(), pruned()) == ([5, 6], 4)


def test_what_is_not_in_the_stream_stays_however_old(lab, run):  # noqa: F811
    published(lab, OLD, OLD)
    rows(2, occurred_at=timezone.now() - OLD)
    outbox.give_sequences(1)

    said = prune(run)

    assert OutboxEvent.objects.count() == 2
    assert left() == [3, None]
    assert pruned() == 2
    assert said == "2 events deleted; none behind sequence 2 may go: the newest 1 stay\n"


def test_the_newest_event_stays_whatever_is_said(lab, run, redis):  # noqa: F811
    """Or a Redis that is emptied later would look rewound for ever."""
    published(lab, *[OLD] * 4)

    prune(run)
    assert left() == [4]
    redis.flushall()
    for _ in range(3):
        lab.relay.check_stream()
    published(lab, timedelta(0))

    assert published_to(redis) == [4, 5]
    assert lab.distrusted == 1


def test_as_many_stay_as_the_stream_would_keep(lab, run, redis):  # noqa: F811
    published(lab, *[OLD] * 10)
    before = redis.xrange("users.events")

    said = prune(run, keep=4)
    redis.flushall()
    lab.relay.check_stream()

    assert left() == [7, 8, 9, 10]
    assert said == "6 events deleted; none behind sequence 6 may go: the newest 4 stay\n"
    assert redis.xrange("users.events") == before[6:]


def test_by_default_as_many_stay_as_the_setting_says(lab, run):  # noqa: F811
    published(lab, *[OLD] * 3)

    ran = run("prune_events", "--older-than", "90d")

    assert ran.out == "0 events deleted; none may go: the newest 1,000,000 stay\n"
    assert left() == [1, 2, 3]


@pytest.mark.parametrize(
    ("columns", "stay"),
    [
        ({"enabled": True}, [3, 4, 5, 6]),
        ({"enabled": True, "paused_at": timezone.now()}, [3, 4, 5, 6]),
        ({"enabled": False, "paused_at": timezone.now()}, [3, 4, 5, 6]),
        ({"enabled": False}, [6]),
    ],
)
def test_what_a_webhook_still_needs_stays(lab, run, columns, stay):  # noqa: F811
    published(lab, *[OLD] * 5, timedelta(0))
    endpoint(5)
    endpoint(2, **columns)

    said = prune(run)

    assert left() == stay
    assert ("a webhook still needs" in said) == (stay != [6])


def test_a_webhook_that_is_put_back_meanwhile_keeps_the_rest(lab):
    published(lab, *[OLD] * 5, timedelta(0))
    place = endpoint(6)
    batches = retention.prune(timezone.now() - timedelta(days=90), keep=1, batch=2)
    assert next(batches) == 2

    WebhookEndpoint.objects.filter(id=place.id).update(position=3)

    assert list(batches) == [1]
    assert left() == [4, 5, 6]


def test_what_is_set_aside_goes_when_that_is_long_ago(lab, run):  # noqa: F811
    published(lab, OLD)
    [event] = rows(1)
    spoil(event, "occurred_at", "infinity")
    published(lab, OLD, timedelta(0))

    prune(run)
    assert left() == [2, 3, 4]
    OutboxEvent.objects.filter(id=event.pk).update(set_aside_at=timezone.now() - OLD)
    prune(run)
    assert left() == [4]


def test_a_dry_run_says_the_same_and_deletes_nothing(lab, run):  # noqa: F811
    published(lab, *[OLD] * 5, timedelta(0))

    said = prune(run, "--dry-run", "--batch", "2")

    assert said == "5 events would be deleted; none behind sequence 5 may go: the newest 1 stay\n"
    assert (left(), pruned()) == ([1, 2, 3, 4, 5, 6], 0)


def test_once_more_there_is_nothing_to_do(lab, run):  # noqa: F811
    published(lab, *[OLD] * 3, timedelta(0))
    prune(run)

    assert prune(run).startswith("0 events deleted")
    assert pruned() == 3


def test_an_empty_table_is_nothing_to_do(database, run):  # noqa: F811
    assert prune(run) == "0 events deleted; none may go: the newest 1 stay\n"


def test_events_go_out_while_it_works(lab, redis):
    published(lab, *[OLD] * 300)

    def write(stop):
        while not stop.is_set():
            rows(1)
            lab.relay.drain(seconds=1)

    with in_background(write):
        gone = sum(retention.prune(timezone.now() - timedelta(days=90), keep=1, batch=10))

    lab.relay.drain(seconds=PATIENCE)
    assert gone == 300
    assert left() == list(range(301, outbox.position()[0] + 1))
    assert published_to(redis) == list(range(1, outbox.position()[0] + 1))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--older-than", "0d"],
        ["--older-than", "soon"],
        ["--older-than", "99999999w"],
        ["--older-than", "-1d"],
        ["--older-than", "90d", "--keep", "0"],
        ["--older-than", "90d", "--batch", "0"],
        ["--older-than", "90d", "--batch", "x"],
    ],
)
def test_wrong_usage_deletes_nothing(lab, exit_code, arguments):
    published(lab, *[OLD] * 3)

    assert exit_code("prune_events", *arguments) == 2
    assert left() == [1, 2, 3]


def test_ctrl_c_at_a_terminal_leaves_whole_batches_and_says_how_many(lab):
    """The first batches are gone while the command is still at it, with a bar to watch."""
    published(lab, timedelta(0))
    count = 4000
    OutboxEvent.objects.all().delete()
    rows(count, occurred_at=timezone.now() - OLD)
    while outbox.give_sequences(1000):
        pass
    outbox.mark_published(count + 1)
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 100))
    process = subprocess.Popen(
        [sys.executable, "manage.py", "prune_events", "--older-than", "90d", "--keep", "1", "--batch", "1"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=its,
        start_new_session=True,
    )
    eventually(lambda: OutboxEvent.objects.count() < count - 20)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    os.close(its)
    shown = everything_on(ours)

    remaining = OutboxEvent.objects.count()
    assert process.returncode == 130, shown
    assert 1 < remaining < count - 20
    assert out.decode().startswith(f"{count - remaining:,} events deleted; ")
    assert left() == list(range(count + 2 - remaining, count + 2))
    assert pruned() == count + 1 - remaining
    assert "event/s" in shown
    assert "CommandError: interrupted" in shown
