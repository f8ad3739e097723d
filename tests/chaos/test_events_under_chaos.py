"""Nothing lost, nothing invented, in order per user, whatever dies: the relay under random kills, beside the
naive one under the same; and the order service of `examples/`, whose copy of the users ends identical with
ours. `make soak-events` runs the long form and prints its table."""

import os
import random

import pytest

from tests.chaos.verdict import Truth, Verdict
from tests.chaos.world import World
from tests.servers import TEST_DIR, WORKER

pytestmark = pytest.mark.e2e

SHORT = [
    "kill -9 of a worker",
    "FLUSHALL",
    "kill -9 of a web process",
    "SIGSTOP of a worker, a zombie later",
    "Redis killed, back empty",
    "kill -9 of the web server",
    "PostgreSQL killed, recovers",
    "kill -9 of a worker",
    "kill -9 of the naive relay",
    "registration that commits late",
    "kill -9 of the order service",
    "FLUSHALL",
    "kill -9 of a web process",
]
KILLS = {"kill -9 of a web process": 9, "kill -9 of a worker": 9, "kill -9 of the web server": 2}
OTHERS = {
    "FLUSHALL": 3,
    "Redis killed, back empty": 2,
    "PostgreSQL killed, recovers": 2,
    "SIGSTOP of a worker, a zombie later": 4,
    "kill -9 of the naive relay": 2,
    "registration that commits late": 2,
    "kill -9 of the order service": 3,
}
ENOUGH_KILLS = 200


@pytest.fixture
def world():
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().getrandbits(32))
    print(f"CHAOS_SEED={seed}")
    with World(TEST_DIR / f"chaos-{WORKER}", seed).running() as world:
        world.dice = random.Random(seed + 1)
        yield world


def assert_nothing_is_wrong(world: World, truth: Truth, ours: Verdict) -> None:
    assert truth.faults() == []
    assert ours == Verdict(lost=0, ghosts=0, repeats=ours.repeats, doubles=0, disorders=0, gaps=0)
    assert world.left() == list(range(1, len(truth.events) + 1))
    assert world.feed() == world.stream()
    world.orders.wait_until_at(len(truth.events))
    assert world.orders.users() == world.users()


def report(world: World, truth: Truth, ours: Verdict, naive: Verdict) -> str:
    happened = "; ".join(f"{count} x {what}" for what, count in sorted((+world.happened).items()))
    return "\n".join(
        [
            f"{len(truth.events):,} events of {len(truth.versions):,} users, "
            f"{len(truth.acknowledged):,} changes acknowledged. {happened}.",
            "",
            Verdict.head(),
            ours.row("this relay"),
            naive.row("naive relay (`id > last`)"),
        ]
    )


@pytest.mark.timeout(180)
def test_no_event_is_lost_invented_or_out_of_order_though_everything_dies_once(world):
    for what in SHORT:
        before = world.happened[what]
        while world.happened[what] == before:  # again where somebody who was killed is not yet back
            world.happen(what)
            world.tend(world.dice.uniform(0.4, 0.8))

    truth = world.calm()
    ours, naive = world.verdicts(truth)

    print(report(world, truth, ours, naive))
    assert_nothing_is_wrong(world, truth, ours)
    assert naive.lost >= world.happened["registration that commits late"] > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_soak(world, capsys):
    kinds = KILLS | OTHERS
    while world.kills < ENOUGH_KILLS:
        world.happen(world.dice.choices(list(kinds), list(kinds.values()))[0])
        world.tend(world.dice.uniform(0.4, 2))

    truth = world.calm(180)
    ours, naive = world.verdicts(truth)

    with capsys.disabled():
        print(f"\n\n{report(world, truth, ours, naive)}\n")
    assert_nothing_is_wrong(world, truth, ours)
    assert naive.lost >= world.happened["registration that commits late"] > 0
