"""What a process of the web server does before it serves."""

import subprocess
import sys

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
