"""The judge of the chaos test finds what is wrong when something is."""

from dataclasses import replace

from tests.chaos.verdict import Truth, Verdict, judge
from tests.chaos.world import Process, World
from tests.order_service import OrderService
from tests.user_service import SERVICE

EVENTS = [(1, "a", "ann", 1), (2, "b", "bob", 1), (3, "c", "ann", 2)]
TRUTH = Truth({event[1]: event for event in EVENTS}, {"ann": 2, "bob": 1}, {("ann", 2)})
CLEAN = Verdict(lost=0, ghosts=0, repeats=0, doubles=0, disorders=0, gaps=0)


def test_what_was_seen_once_and_in_order_is_clean():
    assert judge(TRUTH, EVENTS, [1, 2, 3]) == CLEAN
    assert TRUTH.faults() == []


def test_an_event_that_nobody_saw_is_lost():
    assert judge(TRUTH, EVENTS[:2], []) == replace(CLEAN, lost=1)


def test_what_was_never_committed_is_a_ghost():
    assert judge(TRUTH, [*EVENTS, (4, "d", "ann", 3)], []) == replace(CLEAN, ghosts=1)


def test_an_event_that_is_told_otherwise_than_committed_is_a_ghost():
    assert judge(TRUTH, [EVENTS[0], EVENTS[1], (3, "c", "bob", 2)], []) == replace(CLEAN, ghosts=1)


def test_the_same_again_is_a_repeat():
    assert judge(TRUTH, [*EVENTS, *EVENTS], []) == replace(CLEAN, repeats=3)


def test_one_event_under_two_sequences_is_a_double():
    assert judge(TRUTH, [*EVENTS, (4, "c", "ann", 2)], []) == replace(CLEAN, doubles=1, ghosts=1)


def test_two_events_under_one_sequence_are_a_double():
    verdict = judge(TRUTH, [EVENTS[0], (1, "b", "bob", 1), EVENTS[2]], [])
    assert verdict == replace(CLEAN, doubles=1, ghosts=1)


def test_a_users_later_event_first_is_a_disorder_another_users_is_none():
    assert judge(TRUTH, [EVENTS[2], EVENTS[1], EVENTS[0]], []) == replace(CLEAN, disorders=1)
    assert judge(TRUTH, [EVENTS[1], EVENTS[0], EVENTS[2]], []) == CLEAN


def test_holes_in_what_is_left_are_gaps():
    assert judge(TRUTH, EVENTS, [1, 3, 4, 7]) == replace(CLEAN, gaps=2)


def test_where_there_are_no_sequences_nobody_counts_holes():
    verdict = judge(TRUTH, EVENTS, None)
    assert verdict == replace(CLEAN, gaps=None)
    assert verdict.row("naive") == "| naive | 0 | 0 | 0 | 0 | 0 | - |"
    assert CLEAN.row("ours") == "| ours | 0 | 0 | 0 | 0 | 0 | 0 |"


def test_a_kill_that_hits_nobody_does_not_count(tmp_path):
    world = World(tmp_path, seed=1)
    world.orders = OrderService(tmp_path, "http://127.0.0.1:1", "redis://127.0.0.1:1/0", SERVICE)
    sleeper = ["-c", "import time; time.sleep(60)"]
    world.web, world.naive, worker = (Process(name, sleeper, tmp_path) for name in ("web", "naive", "worker"))
    world.workers = [worker]
    for process in (world.web, world.naive, worker):
        process.start()
    targets = {
        "kill -9 of a worker": 1,
        "kill -9 of the naive relay": 1,
        "kill -9 of the order service": 0,  # was never started
        "kill -9 of a web process": 0,  # has no child
        "kill -9 of the web server": 1,
    }

    for what in [*targets, *targets, "SIGSTOP of a worker, a zombie later"]:
        world.happen(what)

    assert +world.happened == {what: 1 for what, hits in targets.items() if hits}
    assert world.kills == 2


def test_a_table_that_contradicts_itself_or_what_was_answered_is_at_fault():
    assert len(replace(TRUTH, versions={"ann": 3, "bob": 1}).faults()) == 1
    assert len(replace(TRUTH, versions={"ann": 2}).faults()) == 1
    assert len(replace(TRUTH, acknowledged={("bob", 2)}).faults()) == 1
    assert len(replace(TRUTH, events=TRUTH.events | {"c": (4, "c", "ann", 2)}).faults()) == 1
