"""The README's five minutes with curl answer as printed."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded import PROJECT
from tests.e2e.test_running import Process

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("running")]

README = (PROJECT / "README.md").read_text()
ADMIN_PASSWORD = re.search(r"ADMIN_PASSWORD='([^']+)' make run", README)[1]


def steps() -> list[tuple[str, str]]:
    """Each `$ command` of the README's console blocks with what is printed below it."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [tuple(part.split("\n", 1)) for part in parts]


def as_pattern(printed: str) -> re.Pattern[str]:
    """`…` stands for whatever differs from run to run."""
    return re.compile(".+?".join(map(re.escape, printed.strip().split("…"))), re.DOTALL)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("tour")
    command = [sys.executable, "-m", "config.devserver"]
    process = Process(command, folder, ADMIN_PASSWORD=ADMIN_PASSWORD, WEB_WORKERS=1, DRAIN_SECONDS=0)
    try:
        yield process.until_it_answers("/health/ready")
        process.signal(signal.SIGTERM)
        assert process.exit_code() == 0
    finally:
        process.end()


def test_every_step_of_the_tour_answers_as_printed(running: Process, tmp_path: Path) -> None:
    script, expected = [], []
    for number, (command, printed) in enumerate(steps()):
        script += [
            f"echo '--- {number}'",
            command.replace("localhost:8000", f"localhost:{running.port}"),
            "echo",
        ]
        expected.append(printed)

    told = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=True,
    )

    answers = re.split(r"^--- \d+\n", told.stdout.replace("\r", ""), flags=re.MULTILINE)[1:]
    assert len(answers) == len(expected) > 10
    for (command, printed), answer in zip(steps(), answers, strict=True):
        assert as_pattern(printed).fullmatch(answer.strip()), f"$ {command}\n{answer}"
