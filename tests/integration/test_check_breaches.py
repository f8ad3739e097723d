"""check_breaches as from a shell, and the setting that names its file."""

import gzip
import hashlib
import io
import subprocess
import sys

import pytest
from django.core.management import ManagementUtility

from config.embedded import PROJECT
from tests.e2e.served import clean_environment

LISTED = "".join(
    f"{hashlib.sha1(word.encode()).hexdigest()}:{count}\n" for word, count in [("one", 1), ("ten", 10)]
)


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs it as from a shell, in this process: exit code, stdout and stderr."""
    # Once more, it would lead the log to what pytest has put into the place of stdout for one test.
    monkeypatch.setattr("django.setup", lambda: None)

    def run(*arguments, stdin=""):
        fed = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(fed)))
        code = 0
        try:
            ManagementUtility(["manage.py", "check_breaches", *map(str, arguments)]).execute()
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def breach_file(tmp_path, run):
    (tmp_path / "list.gz").write_bytes(gzip.compress(LISTED.encode()))
    code, said, _ = run("build", "--from", tmp_path / "list.gz", "--to", tmp_path / "set")
    assert code == 0
    assert said.startswith("2 passwords, 524,")
    return tmp_path / "set"


def test_a_password_is_asked_for_on_stdin_and_told_by_the_exit_code(run, breach_file):
    assert run("check", "--file", breach_file, stdin="ten\n")[0] == 1
    assert run("check", "--file", breach_file, stdin="ten")[0] == 1
    assert run("check", "--file", breach_file, stdin="eleven\nten\n")[:2] == (
        0,
        "this password is not in the set\n",
    )
    code, _, complaint = run("check", "--file", breach_file, stdin=b"\xff\n")
    assert (code, complaint) == (1, "CommandError: the password on stdin is not UTF-8\n")


def test_a_password_is_never_an_argument_nor_said_again(run, breach_file):
    assert run("check", "--file", breach_file, "ten")[0] == 2
    assert "ten" not in "".join(run("check", "--file", breach_file, stdin="ten\n")[1:]).split()


def test_the_file_is_that_of_the_settings_unless_another_is_named(run, breach_file, settings):
    assert run("check", stdin="ten\n")[0] == 2
    settings.BREACHED_PASSWORDS_FILE = str(breach_file)
    assert run("check", stdin="ten\n")[0] == 1
    assert run("info")[0] == 0


def test_info_says_what_is_in_it(run, breach_file, tmp_path):
    run("build", "--from", tmp_path / "list.gz", "--to", breach_file, "--min-count", "2")
    code, said, _ = run("info", "--file", breach_file)

    assert code == 0
    assert said.startswith(
        f"1 passwords, {breach_file.stat().st_size:,} bytes\nseen 2 times or more; built 2"
    )
    assert "1.4e-17" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "--from", "/nonexistent/list", "--to", "/nonexistent/set"),
        ("info", "--file", "/nonexistent/set"),
        ("info", "--file", __file__),
        ("build", "--from", __file__, "--to", "never"),
    ],
)
def test_a_file_that_will_not_do_is_an_error_in_one_line(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, said, complaint = run(*arguments)

    assert (code, said, complaint.count("\n")) == (1, "", 1)
    assert complaint.startswith("CommandError: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["nothing", "", "list.gz"])
def test_the_service_does_not_start_with_a_set_that_it_cannot_read(breach_file, tmp_path, name):
    for path, starts in [(tmp_path / name, False), (breach_file, True)]:
        done = subprocess.run(
            [sys.executable, "-c", "import config.settings"],
            cwd=PROJECT,
            env=clean_environment() | {"BREACHED_PASSWORDS_FILE": str(path), "LOCAL_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode == 0) == starts
        if not starts:
            assert "ImproperlyConfigured: BREACHED_PASSWORDS_FILE: " in done.stderr.splitlines()[-1]
