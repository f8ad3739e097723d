"""The arrows of the house: the contracts of pyproject.toml hold, name real things, and can be broken."""

import ast
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sysconfig.get_path("scripts")) / "lint-imports"

RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
DOMAIN_MAY_IMPORT = sys.stdlib_module_names | {"email_validator", "uuid_utils", "users_domain"}


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache", "--no-logo"], cwd=tree, capture_output=True, text=True, check=False
    )


def named_modules() -> Iterator[str]:
    for contract in RULES["contracts"]:
        for layer in contract.get("layers", []):
            yield from (module.strip() for module in layer.split("|"))
        for kind in ("modules", "source_modules", "forbidden_modules"):
            yield from contract.get(kind, [])


def imported_by(source: str) -> set[str]:
    """Top-level names of all imports, those inside functions and `if TYPE_CHECKING` too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(level=0):
                names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_every_arrow_of_the_house_is_kept():
    report = lint_imports(ROOT)

    assert report.returncode == 0, report.stdout + report.stderr
    assert f"{len(RULES['contracts'])} kept, 0 broken" in report.stdout


@pytest.mark.parametrize("module", sorted({*named_modules(), *RULES["root_packages"]}))
def test_a_contract_names_only_what_exists(module):
    """A ban on a package that nobody could import would hold for ever."""
    path = ROOT / module.replace(".", "/")
    ours = path.is_dir() or path.with_suffix(".py").is_file()

    assert ours or ("." not in module and find_spec(module))


def test_no_arrow_has_an_exception():
    softening = {"ignore_imports", "exclude_type_checking_imports", "allow_indirect_imports", "as_packages"}

    for part in (RULES, *RULES["contracts"]):
        assert not softening & part.keys()
    assert not [
        layer for contract in RULES["contracts"] for layer in contract.get("layers", []) if "(" in layer
    ]


@pytest.mark.parametrize("module", sorted((ROOT / "users_domain").rglob("*.py")), ids=lambda path: path.name)
def test_the_domain_imports_the_standard_library_and_two_packages_nothing_else(module):
    assert imported_by(module.read_text()) <= DOMAIN_MAY_IMPORT


def test_the_reader_of_imports_sees_hidden_ones():
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from rest_framework.views import APIView
def late():
    import orjson, redis.client as client
"""
    assert imported_by(source) == {"typing", "rest_framework", "orjson", "redis"}


@pytest.mark.parametrize(
    ("contract", "module", "offence"),
    [
        ("free-domain", "users_domain/user.py", "import django"),
        ("free-domain", "users_domain/user.py", "import users.application.commands"),
        ("free-domain", "users_domain/events.py", "def late():\n    import redis"),
        (
            "free-domain",
            "users_domain/repository.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import psycopg",
        ),
        ("free-application", "users/application/ports.py", "from django.conf import settings"),
        ("free-application", "users/application/queries.py", "import users.models"),
        ("cqrs", "users/application/commands.py", "import users.application.queries"),
        ("cqrs", "users/application/queries.py", "from users.application.commands import UserCommands"),
        ("one-direction", "users/application/commands.py", "import users.infrastructure"),
        ("one-direction", "users/infrastructure/__init__.py", "import users.wiring"),
        ("one-direction", "users/wiring.py", "import users.api"),
        ("one-direction", "users/admin/site.py", "import users.api"),
        ("one-direction", "users_domain/errors.py", "def late():\n    import users.application"),
    ],
)
def test_one_bad_import_breaks_its_contract(tmp_path, contract, module, offence):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in RULES["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    offender = tmp_path / module
    offender.write_text(f"{offender.read_text()}\n\n{offence}\n")

    report = lint_imports(tmp_path)

    [name] = [each["name"] for each in RULES["contracts"] if each["id"] == contract]
    assert report.returncode == 1, report.stdout + report.stderr
    assert f"{name} BROKEN" in " ".join(report.stdout.split())
