"""docs/security.md answers every requirement of ASVS 5.0, levels 1 and 2, by tests that exist, or says that
it is open or does not apply."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
ASVS = dict(
    line.split() for line in (ROOT / "tests" / "data" / "asvs-5.0-l1-l2.txt").read_text().splitlines()
)
"""Level by id."""
NODE = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under this heading, without its head."""
    lines = DOCUMENT.split(f"\n{heading}\n", 1)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| --- |"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


APPLICABLE = table("## OWASP ASVS 5.0")
NOT_APPLICABLE = table("### What does not apply")
API_TOP_10 = table("## OWASP API Security Top 10, 2023")


@cache
def defined_in(path: str) -> set[str]:
    """`test_x`, or `TestClass::test_x`."""
    code = ast.parse((ROOT / path).read_text())
    found = {node.name for node in code.body if isinstance(node, ast.FunctionDef)}
    for class_ in code.body:
        if isinstance(class_, ast.ClassDef):
            found |= {
                f"{class_.name}::{each.name}" for each in class_.body if isinstance(each, ast.FunctionDef)
            }
    return found


def ids(text: str) -> list[str]:
    """Those that `1.2.6, 1.2.7` or `10.5.1 to 10.5.5` mean."""
    found = []
    for first, last in re.findall(r"(\d+\.\d+\.\d+)(?: to (\d+\.\d+\.\d+))?", text):
        section, _, start = first.rpartition(".")
        end = (last or first).rpartition(".")[2]
        found += [f"{section}.{number}" for number in range(int(start), int(end) + 1)]
    return found


def missing(text: str) -> list[str]:
    """The tests that `text` names and that are not there."""
    return [
        f"{path}::{name}"
        for path, name in NODE.findall(text)
        if not (ROOT / path).exists() or name not in defined_in(path)
    ]


def test_there_are_70_requirements_of_level_1_and_183_of_level_2() -> None:
    assert (list(ASVS.values()).count("1"), list(ASVS.values()).count("2")) == (70, 183)


def test_each_requirement_is_answered_once_or_does_not_apply() -> None:
    answered = [row[0] for row in APPLICABLE]
    foreign = [each for row in NOT_APPLICABLE for each in ids(row[0])]
    assert sorted(answered + foreign) == sorted(ASVS)


@pytest.mark.parametrize("row", APPLICABLE, ids=lambda row: row[0])
def test_an_answer_names_tests_that_exist_or_says_that_it_is_open(row: list[str]) -> None:
    requirement, level, answer, tests = row
    assert level == ASVS[requirement]
    assert NODE.search(tests) or (answer.startswith("open: ") and tests == "-")
    assert NODE.sub("", tests).strip(" ,") in {"", "-"}, "not a test"
    assert missing(tests) == []


@pytest.mark.parametrize("row", API_TOP_10, ids=lambda row: row[0])
def test_so_does_one_about_the_ten_risks(row: list[str]) -> None:
    assert NODE.search(row[2])
    assert missing(row[2]) == []


def test_all_ten_risks_are_there() -> None:
    assert [row[0].partition(" ")[0] for row in API_TOP_10] == [f"API{number}" for number in range(1, 11)]


def test_what_does_not_apply_has_a_reason() -> None:
    assert all(len(row) == 2 and len(row[1]) > 8 for row in NOT_APPLICABLE)


def test_every_test_that_the_document_names_anywhere_exists() -> None:
    assert missing(DOCUMENT) == []


def test_the_numbers_of_the_document_are_those_of_its_table() -> None:
    opened = sum("open:" in row[2] for row in APPLICABLE)
    assert f"{len(APPLICABLE)} of the {len(ASVS)} requirements" in DOCUMENT
    assert f"{opened} of them are open, in part or as a whole" in DOCUMENT


@pytest.mark.parametrize(
    "text", ["`tests/nowhere.py::test_x`", "`tests/test_security_document.py::test_that_is_not_there`"]
)
def test_a_test_that_is_not_there_would_be_missed(text: str) -> None:
    assert missing(text)
