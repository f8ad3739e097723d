"""`make check`: everything that can be said about the code without running its tests.

Each check is a command that must succeed; its output is shown only when it does not.
`make check ARGS="ruff mypy"` runs those whose names contain one of the words.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config import embedded
from config.embedded import PROJECT

PYTHON = sys.executable
BIN = Path(PYTHON).parent
MANAGE = [PYTHON, "-W", "ignore", "manage.py"]
SCHEMA = PROJECT / "docs" / "openapi.yaml"


@dataclass(frozen=True)
class Check:
    name: str
    command: list[str | Path]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    check: Check
    passed: bool
    output: str
    seconds: float


def checks(scratch: Path) -> list[Check]:
    """Slow ones first, as two run at a time."""
    return [
        Check("mypy", [PYTHON, "-m", "mypy"]),
        Check("schema drift", [PYTHON, "-m", "scripts.check", "--schema", scratch / "openapi.yaml"]),
        Check("event schemas", [PYTHON, "-m", "scripts.event_schemas", "check"]),
        Check("migrations lint", [*MANAGE, "lintmigrations", "--warnings-as-errors", "--quiet", "ok"]),
        Check("migrations complete", [*MANAGE, "makemigrations", "--check", "--dry-run"]),
        Check("deploy check", [*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], production(scratch)),
        Check("imports", [BIN / "lint-imports", "--no-cache"]),
        Check("ruff", [PYTHON, "-m", "ruff", "check", "--quiet", "--output-format=concise"]),
        Check("format", [PYTHON, "-m", "ruff", "format", "--check", "--quiet"]),
        Check("Dockerfile", [BIN / "hadolint", "Dockerfile"]),
        Check("compose file", [PYTHON, "-m", "scripts.check", "--compose"]),
    ]


def production(scratch: Path) -> dict[str, str]:
    """What DJANGO_ENV=production demands, made up for one check."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = scratch / "jwt.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {
        "DJANGO_ENV": "production",
        "SECRET_KEY": secrets.token_urlsafe(64),
        "ALLOWED_HOSTS": "users.example.com",
        "JWT_SIGNING_KEY_FILE": str(pem),
        "TRUSTED_PROXIES": "1",
    }


def run(check: Check) -> Outcome:
    began = time.monotonic()
    done = subprocess.run(
        check.command,
        cwd=PROJECT,
        env=os.environ | check.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Outcome(check, done.returncode == 0, done.stdout, time.monotonic() - began)


def report(outcomes: Iterable[Outcome]) -> int:
    """Prints one line for each check, then what the failed ones said; answers how many failed."""
    failed = []
    for outcome in outcomes:
        word = "ok    " if outcome.passed else "FAILED"
        print(f"{word} {outcome.check.name:<20} {outcome.seconds:5.1f} s", flush=True)
        if not outcome.passed:
            failed.append(outcome)
    for outcome in failed:
        command = " ".join(map(str, outcome.check.command))
        print(f"\n--- {outcome.check.name}: {command}\n{outcome.output.rstrip()}")
    return len(failed)


def schema_drift(fresh: Path) -> int:
    """Compares the committed schema with the one the code gives."""
    command = [*MANAGE, "spectacular", "--validate", "--fail-on-warn", "--file", str(fresh)]
    if subprocess.run(command, cwd=PROJECT, check=False).returncode:
        return 1
    if SCHEMA.exists() and SCHEMA.read_text() == fresh.read_text():
        return 0
    subprocess.run(["diff", "-u", SCHEMA, fresh], check=False)
    print("docs/openapi.yaml is not what the code says: run `make schema`")
    return 1


def compose_faults() -> int:
    """Parses compose.yaml and resolves its references; Docker itself may not be at hand."""
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    services = compose["services"]
    faults = []
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy" and "test" not in services.get(needed, {}).get(
                "healthcheck", {}
            ):
                faults.append(f"{name} waits for the health of {needed}, which has no health check")
        faults += [f"{name}: unknown {kind}" for kind in unknown_references(service, compose)]
    print("\n".join(faults))
    return len(faults)


def unknown_references(service: dict[str, list[str]], compose: dict[str, dict[str, object]]) -> list[str]:
    wanted = {
        "services": set(service.get("depends_on", [])),
        "secrets": set(service.get("secrets", [])),
        "volumes": {volume.split(":")[0] for volume in service.get("volumes", [])},
    }
    return [f"{kind} {name}" for kind, names in wanted.items() for name in names - set(compose[kind])]


def main(words: list[str]) -> int:
    local_dir = PROJECT / ".local" / "check"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        chosen = [
            check for check in checks(Path(scratch)) if not words or any(word in check.name for word in words)
        ]
        try:
            servers = embedded.start(local_dir)
            os.environ |= {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
            with ThreadPoolExecutor(2) as pool:
                failed = report(pool.map(run, chosen))
        finally:
            embedded.stop(local_dir)
    print(f"\n{len(chosen) - failed} of {len(chosen)} checks passed in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--schema", path]:
            sys.exit(schema_drift(Path(path)))
        case ["--compose"]:
            sys.exit(compose_faults())
        case words:
            sys.exit(main(words))
