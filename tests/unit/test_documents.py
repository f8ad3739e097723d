"""The documents say what the code says."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from users_domain.events import USER_EVENTS, UserEvent

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

READ_FROM_ENVIRONMENT = re.compile(
    r"""(?:env\.\w+|mail_(?:setting|link)|words|required|positive|seconds|server_address|rate_limit|os\.environ\.(?:get|setdefault)|os\.environ\[?)\(?\[?"([A-Z][A-Z_]+)\""""
)
OURS_ALONE = {"DJANGO_SETTINGS_MODULE", "SUPERVISOR_PID", "PATH"}
"""What our own processes tell each other, and what every process has."""


def environment_variables() -> set[str]:
    sources = [path for folder in ("config", "users") for path in (ROOT / folder).rglob("*.py")]
    return {name for path in sources for name in READ_FROM_ENVIRONMENT.findall(path.read_text())} - OURS_ALONE


def table_rows(document: str, first_column: str) -> list[list[str]]:
    """The cells of the table whose head begins with `first_column`."""
    lines = (ROOT / document).read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_readme_lists_every_setting_and_no_other() -> None:
    documented = {
        name
        for row in table_rows("README.md", "variable")
        for name in re.findall(r"`([A-Z][A-Z_]+)`", row[0])
    }
    assert documented == environment_variables()


def test_the_documents_list_every_event_with_its_data() -> None:
    documented = {
        row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in table_rows("docs/events.md", "event")
    }
    envelope = {field.name for field in fields(UserEvent)}
    assert documented == {
        event.event_type: [field.name for field in fields(event) if field.name not in envelope]
        for event in USER_EVENTS
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
