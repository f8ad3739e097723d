"""Where does the time of an operation go? `python -m benchmarks.flame`, with py-spy on PATH

Loads our service, on one core, with each operation as `make bench` does, and draws what the web process is
at meanwhile: docs/flame/<operation>.svg. Wider is longer; threads without work are left out."""

import re
import subprocess
import threading
from collections.abc import Callable
from itertools import islice

from benchmarks import rig
from benchmarks.load import EACH_ONCE, timed, wrk
from benchmarks.subjects import LOGINS, Ours
from config import processes
from config.embedded import PROJECT

FOLDER = PROJECT / "docs" / "flame"
SECONDS = 8
SAMPLES = 200
USERS = 60_000
TITLE = re.compile(r">[^<]*py-spy record[^<]*<")
"""As py-spy has it: the command that it was started with."""
COMMENT = re.compile(r"^ *//.*\n", re.MULTILINE)
"""In the script that makes the picture searchable."""


def main() -> None:
    rig.end_on_sigterm()
    FOLDER.mkdir(exist_ok=True)
    with rig.running(rig.cores(1)) as stage:
        ours = Ours(stage)
        ours.start()
        for name, load in loads(ours).items():
            drawn(ours, name, load)
            print(f"docs/flame/{name}.svg", flush=True)


def loads(ours: Ours) -> dict[str, Callable[[], object]]:
    ids = ours.fill("flame", USERS)
    hashes = SECONDS * LOGINS * 2

    def each_once(*asked: str) -> object:
        file = stage_file(ours, ids)
        options = {"header": ours.bearer(), "seconds": SECONDS, "connections": LOGINS}
        return wrk(ours.url, **options, script=EACH_ONCE, arguments=(file, *asked))

    return {
        "hit": lambda: wrk(
            f"{ours.url}/users/{ids[0]}", header=ours.bearer(), seconds=SECONDS, connections=LOGINS
        ),
        "miss": lambda: each_once("GET", "", ""),
        "block": lambda: each_once("POST", "/block", '{"reason":"spam"}'),
        "register": lambda: timed(ours.url, islice(ours.registrations(hashes), hashes), connections=LOGINS),
        "login": lambda: timed(ours.url, ours.logins(hashes), connections=LOGINS),
    }


def stage_file(ours: Ours, ids: list[str]) -> str:
    ours.forget_users()
    file = ours.rig.folder / "ids"
    file.write_text("\n".join(ids))
    return str(file)


def drawn(ours: Ours, name: str, load: Callable[[], object]) -> None:
    """While the load is on, after a second of warming up."""
    loading = threading.Thread(target=load)
    loading.start()
    target = ["--pid", str(worker_of(ours)), "--duration", str(SECONDS - 3), "--rate", str(SAMPLES)]
    picture = FOLDER / f"{name}.svg"
    format_ = ["--format", "flamegraph", "--output", str(picture)]
    subprocess.run([rig.program("py-spy"), "record", *target, *format_], capture_output=True, check=True)
    picture.write_text(COMMENT.sub("", TITLE.sub(f">{name}<", picture.read_text())))
    loading.join()


def worker_of(ours: Ours) -> int:
    """The process that answers: the server's child."""
    return max(processes.children(ours.rig.pid(ours.name)))


if __name__ == "__main__":
    main()
