"""Schemathesis over the committed OpenAPI document, with all its checks, for callers of every role: examples,
boundary values, random values, and chains of calls along the document's links.

What it may not complain about is only what no schema can say, and only where the service's own code names
it (`EXCUSED`). SCHEMATHESIS_SEED chooses other values, SCHEMATHESIS_SCALE more of them."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from django.conf import settings
from django.core.cache import caches
from schemathesis import HookContext
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import CheckNode
from schemathesis.generation.case import Case
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

from config.embedded import PROJECT
from tests.e2e.served import Served, database_url
from tests.fixtures import Api, People
from tests.yaml_text import read_yaml

DOCUMENT = PROJECT / "docs" / "openapi.yaml"
OFFLINE = PROJECT / "tests" / "e2e" / "offline"
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "20260701"))
SCALE = int(os.environ.get("SCHEMATHESIS_SCALE", "1"))

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300 * SCALE), pytest.mark.xdist_group("schemathesis")]

EXCUSED = {
    ("password", "common"),
    ("password", "personal"),
    ("password", "required"),
    ("new_password", "common"),
    ("new_password", "too_short"),
    ("token", "invalid_link"),
    ("until", "not_in_future"),
    ("cursor", "invalid"),
    ("after", "unknown"),
    ("url", "scheme"),
    ("url", "private_address"),
}
"""Rules that take a list, other fields, the caller, the clock, a signature, a setting, or how far the events
go: field and code of a detail."""
REFUSED_BY_STATE = ["401", "403", "404", "409", "412", "429"]
"""Of these a request may get either, be it well-formed or not: the check that refuses it came first."""
EXPECTED = {
    "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", "422", *REFUSED_BY_STATE]},
    "negative_data_rejection": {"expected-statuses": ["400", "405", "415", "422", "428", *REFUSED_BY_STATE]},
}

Json = dict[str, Any]
NOBODY = "01890000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def server(
    django_db_setup: None, redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The service in a process of its own, over our database and Redis, with our signing key. Webhooks lead
    wherever the values say, so it may call nobody: private addresses are refused as in production, and of all
    others OFFLINE knows none."""
    served = Served(
        tmp_path_factory.mktemp("served"),
        DATABASE_URL=database_url(),
        REDIS_URL=str(caches.settings["default"]["LOCATION"]),
        LOCAL_DIR=str(settings.LOCAL_DIR),
        BCRYPT_COST="4",
        RATE_LIMITS="off",
        WEB_WORKERS="1",
        FEED_WAITS="0",  # whoever would wait is answered at once
        DRAIN_SECONDS="0",
        WEBHOOK_PRIVATE_ADDRESSES="false",
        WEBHOOK_TIMEOUT_SECONDS="0.5",
        PYTHONPATH=str(OFFLINE),
    )
    try:
        served.until_it_answers()
        yield f"http://127.0.0.1:{served.port}"
    finally:
        served.stop()


def document() -> Json:
    """As committed, but for If-Match. Its pattern test_openapi holds against the service: given one,
    schemathesis 4.32 believes that no header may hold a quote, and sends `0` for a valid value; without one
    it has its own grammar of entity tags. And an example that every version meets lets calls through to the
    rules behind it."""
    committed: Json = read_yaml(DOCUMENT.read_text())
    committed["components"]["parameters"]["If-Match"] |= {"schema": {"type": "string"}, "example": "*"}
    _nobody_erases_himself(committed)
    return committed


def _nobody_erases_himself(described: Json) -> None:
    """He would be refused everything from then on, and test nothing; so no run includes what logs out."""
    somebody = {"name": "user_id", "in": "path", "required": True, "schema": {"enum": [NOBODY]}}
    erase = described["paths"]["/users/{user_id}"]["delete"]
    erase["parameters"] = [
        somebody if each["$ref"].endswith("/user_id") else each for each in erase["parameters"]
    ]


class Run:
    """One run of the engine over `described`, for this caller, and what it came to."""

    def __init__(
        self, address: str, caller: Api, *, described: Json, examples: int, only: str | None = None
    ) -> None:
        self.failures: list[str] = []
        self.phases: set[tuple[str, str]] = set()
        self.statuses: Counter[int] = Counter()
        configuration = SchemathesisConfig.from_dict(
            {
                "seed": SEED,
                "base-url": address,
                "headers": {"Authorization": f"Bearer {caller.token}"},
                "generation": {"max-examples": examples, "database": "none"},
                # What it learns from error messages is no part of the document.
                "phases": {"fuzzing": {"error-feedback": {"enabled": False}}},
                "checks": EXPECTED,
                "continue-on-failure": True,
            }
        )
        schema = schemathesis.openapi.from_dict(described, config=configuration)
        schema.hook("filter_failure")(_counts)
        schema.hook("filter_case")(_leaves_his_roles(caller))
        lasting = schema.exclude(operation_id=["log_out_everywhere", "end_session"])
        for event in from_schema(schema.include(operation_id=only) if only else lasting).execute():
            self._note(event)

    def _note(self, event: events.EngineEvent) -> None:
        match event:
            case events.PhaseFinished():
                self.phases.add((event.phase.name.value, event.status.value))
            case events.NonFatalError():
                self.failures.append(f"--- {event.label}\n{event.info}")
            case events.FatalError():
                raise event.exception
            case events.ScenarioFinished():
                for case_id, checks in event.recorder.checks.items():
                    self.failures += [
                        _describe(event, case_id, check) for check in checks if check.failure_info
                    ]
                answered = (one.response for one in event.recorder.interactions.values())
                self.statuses.update(response.status_code for response in answered if response)


def _counts(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    if isinstance(failure, UseAfterFree):  # an erased user's id stays, and his history
        return not case.operation.path.startswith("/users/{user_id}")
    return not (isinstance(failure, RejectedPositiveData) and _is_excused(json.loads(response.content)))


def _is_excused(problem: Json) -> bool:
    details = problem.get("details")
    return isinstance(details, list) and all((at["field"], at["code"]) in EXCUSED for at in details)


def _leaves_his_roles(caller: Api) -> Callable[[HookContext, Case], bool]:
    """Who has deposed himself is refused everything from then on, and tests nothing."""
    own = {"me", caller("GET", "/users/me").json()["id"]}

    def filter_case(context: HookContext, case: Case) -> bool:
        target = str((case.path_parameters or {}).get("user_id")).lower()
        return not (target in own and case.operation.path.endswith("/roles"))

    return filter_case


def _describe(event: events.ScenarioFinished, case_id: str, check: CheckNode) -> str:
    assert check.failure_info
    response = event.recorder.interactions[case_id].response
    lines = [
        f"--- {check.name} [{event.phase.value}] {event.recorder.label}",
        check.failure_info.failure.message,
        check.failure_info.code_sample,
        f"{response.status_code} {response.content.decode(errors='replace')[:500]}" if response else "",
    ]
    return "\n".join(lines)


def _report(run: Run) -> str:
    return f"seed {SEED}: {len(run.failures)} failures\n" + "\n".join(run.failures)


@pytest.mark.parametrize(
    "call", ["socket.getaddrinfo('example.com', 443)", "socket.create_connection(('192.0.2.1', 443), 1)"]
)
def test_nobody_is_called_but_this_machine(call: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import socket; {call}"],
        env=os.environ | {"PYTHONPATH": str(OFFLINE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert "nobody is called but this machine" in ran.stderr


@pytest.mark.parametrize(("role", "examples"), [("admin", 4), (None, 2)])
def test_the_service_is_what_its_document_says(
    people: People, server: str, role: str | None, examples: int
) -> None:
    """As who may everything and as who may least; `make soak` goes on with the other roles."""
    _ = people.staff(role, "Caller") if role else people.user("Caller")
    caller = people.log_in("Caller")
    described = document()
    if role != "admin":  # whoever registers somebody may not look him up, unlike what a link promises
        _drop_links(described)
    run = Run(server, caller, described=described, examples=examples * SCALE)
    print(f"seed {SEED}: {sum(run.statuses.values())} calls, {dict(run.statuses)}")
    assert not run.failures, _report(run)
    ran = {phase for phase, status in run.phases if status == "success"}
    assert {"examples", "coverage", "fuzzing"} | ({"stateful"} if role == "admin" else set()) <= ran
    assert {200, 201, 400, 401, 404, 405, 409, 415} <= run.statuses.keys()
    assert caller("GET", "/users/me").json()["roles"] == ([role] if role else []), (
        "lost his rights on the way"
    )


def _drop_links(described: Json) -> None:
    for item in described["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                response.pop("links", None)


def _only_me(described: Json) -> None:
    """So that every call meets a user."""
    described["components"]["parameters"]["user_id"] |= {"schema": {"enum": ["me"]}, "examples": {}}


def _one_letter_is_a_name(described: Json) -> None:
    name = {"type": "string", "minLength": 1, "maxLength": 1}
    described["components"]["schemas"]["RenameBody"]["properties"]["name"] = name


def _no_long_name(described: Json) -> None:
    name = {"type": "string", "minLength": 2, "maxLength": 10}
    described["components"]["schemas"]["RenameBody"]["properties"]["name"] = name


def _never_not_found(described: Json) -> None:
    del described["paths"]["/users/{user_id}"]["patch"]["responses"]["404"]


def _version_is_a_text(described: Json) -> None:
    described["components"]["schemas"]["User"]["properties"]["version"]["type"] = "string"


@pytest.mark.parametrize(
    ("lie", "found_by"),
    [
        (_one_letter_is_a_name, "positive_data_acceptance"),
        (_no_long_name, "negative_data_rejection"),
        (_never_not_found, "status_code_conformance"),
        (_version_is_a_text, "response_schema_conformance"),
    ],
)
def test_a_document_that_lies_is_found_out(
    admin: Api, server: str, lie: Callable[[Json], None], found_by: str
) -> None:
    described = document()
    _drop_links(described)
    _only_me(described)
    lie(described)
    run = Run(server, admin, described=described, examples=10, only="rename")
    assert any(failure.startswith(f"--- {found_by}") for failure in run.failures), _report(run)
