"""What a process of the web server does before it serves."""

import os
import subprocess
import sys

import pytest

LOAD = """
import gc, os
from config.server import load_in_worker
before = gc.get_freeze_count()
assert load_in_worker(os.getppid(), "json:dumps")({}) == "{}"
print(before, gc.get_freeze_count() > 10_000)
"""


def test_what_is_loaded_before_the_first_request_no_collection_of_garbage_looks_through_again() -> None:
    told = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["0", "True"]


POLICY = """
import os, threading
from config.server import load_in_worker
os.sched_setscheduler(0, int(os.environ["POLICY"]), os.sched_param(0))
load_in_worker(os.getppid(), "json:dumps")
threading.Thread(target=lambda: print(os.sched_getscheduler(threading.get_native_id()))).start()
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="only Linux has it")
def test_its_threads_push_nobody_aside_unless_somebody_has_chosen_otherwise() -> None:
    for chosen, kept in ((os.SCHED_OTHER, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)):
        command = [sys.executable, "-c", POLICY]
        environment = {**os.environ, "POLICY": str(chosen)}
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert told.stdout.split() == [str(kept)]
