"""`make mutation`: changes the code a little, in one place at a time, and sees whether a test notices.

`make mutation ARGS=domain` for one of TARGETS. Works on a copy under `.local/mutation`, with servers of its
own, and fails when less than the wanted share is noticed. What was not is listed; `mutmut show NAME`, in the
copy, shows it.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from config import embedded
from config.embedded import PROJECT

TOOLS = PROJECT / ".local" / "tools" / "bin"
FOLDER = PROJECT / ".local" / "mutation"
SITE_PACKAGES = next((PROJECT / ".venv" / "lib").glob("python*/site-packages"), Path())
COPIED = ("config", "users", "users_domain", "tests", "scripts", "manage.py", "pyproject.toml")
PROFILE = '''"""Mutants share one process, whose state hypothesis must not take for its own."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutation",
    suppress_health_check=list(HealthCheck),
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
)
settings.load_profile("mutation")
'''


@dataclass(frozen=True)
class Target:
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    percent: int


def _infrastructure(*names: str) -> tuple[str, ...]:
    return tuple(f"users/infrastructure/{name}.py" for name in names)


def _tests(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/{name}.py" for name in names)


DOMAIN_TESTS = ("user", "value_objects", "user_machine", "errors", "refusals", "commands")
TARGETS = {
    "domain": Target(
        ("users_domain/*",),
        _tests(*(f"unit/test_{name}" for name in DOMAIN_TESTS)),
        90,
    ),
    "tokens": Target(
        _infrastructure("tokens"),
        (
            *_tests("e2e/test_tokens", "e2e/test_token_attacks", "e2e/test_sessions_http"),
            *_tests("integration/test_refresh_tokens", "integration/test_keyring"),
        ),
        80,
    ),
    "keyring": Target(
        _infrastructure("keyring"),
        (
            *_tests("unit/test_keyring", "integration/test_keyring"),
            *_tests("e2e/test_tokens", "e2e/test_token_attacks"),
        ),
        80,
    ),
    "cache": Target(
        _infrastructure("cache"), _tests("integration/test_cache", "integration/test_effects"), 80
    ),
    "outbox": Target(
        _infrastructure("outbox"),
        _tests(*(f"integration/test_{name}" for name in ("outbox", "relay", "set_aside", "unit_of_work"))),
        80,
    ),
}


def copy_to(folder: Path, target: Target) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / "conftest.py").write_text(PROFILE)
    keep_the_database(folder / "tests" / "conftest.py")
    package = target.sources[0].split("/")[0]
    with (folder / "pyproject.toml").open("a") as settings:
        settings.write(
            "\n[tool.mutmut]\n"
            f'source_paths = ["{package}"]\n'
            f"only_mutate = {list(target.sources)}\n"
            f"also_copy = {[*COPIED, 'conftest.py']}\n"
            f"pytest_add_cli_args_test_selection = {list(target.tests)}\n"
            'pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist", "-m", ""]\n'
        )


def keep_the_database(conftest: Path) -> None:
    """Migrated once and not once for each mutant; tests sweep it out themselves."""
    text = conftest.read_text()
    for call in ("interactive=False)", "teardown_databases(made, verbosity=0)"):
        assert call in text, f"{conftest} does not say {call} any more"
        text = text.replace(call, f"{call.removesuffix(')')}, keepdb=True)")
    conftest.write_text(text)


def run(name: str, target: Target, environment: dict[str, str]) -> bool:
    folder = FOLDER / name
    copy_to(folder, target)
    mutmut = str(TOOLS / "mutmut")
    done = subprocess.run([mutmut, "run", "--max-children", "1"], cwd=folder, env=environment, check=False)
    results = [mutmut, "results", "--all", "true"]
    listed = subprocess.run(
        results, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    outcomes = re.findall(r"^\s+(\S+): (.+)$", listed.stdout, re.MULTILINE)
    counted = Counter(outcome for _, outcome in outcomes)
    noticed = counted["killed"] + counted["timeout"]
    share = 100 * noticed / max(1, len(outcomes))
    for mutant, outcome in outcomes:
        if outcome != "killed":
            print(f"  {outcome}: {mutant}")
    print(
        f"{name}: {noticed} of {len(outcomes)} noticed, {share:.1f} %; wanted {target.percent} %", flush=True
    )
    return done.returncode == 0 and share >= target.percent


def main(names: list[str]) -> int:
    shutil.rmtree(FOLDER / "servers", ignore_errors=True)  # a run that was killed leaves rows behind
    servers = embedded.start(FOLDER / "servers")
    environment = os.environ | {
        "PYTHONPATH": str(SITE_PACKAGES),
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
    }
    try:
        passed = [run(name, TARGETS[name], environment) for name in names or TARGETS]
    finally:
        embedded.stop(FOLDER / "servers")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - TARGETS.keys()
    if unknown:
        sys.exit(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    sys.exit(main(sys.argv[1:]))
