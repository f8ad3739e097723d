"""What the service's code does without: calls that turn input into code, commands, markup or objects; and
packages that nobody vouched for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("users", "users_domain") for path in (ROOT / folder).rglob("*.py"))
FUNCTIONS = {"eval", "exec", "compile", "__import__", "mark_safe", "RawSQL", "SafeString"}
METHODS = {"system", "popen", "extra", "from_string", "md5"}
MODULES = {"pickle", "marshal", "shelve", "yaml", "xml", "lxml", "subprocess"}
SCRIPTS = sorted((ROOT / "users" / "static").rglob("*.js"))


def dangers(code: ast.AST) -> Iterator[str]:
    for node in ast.walk(code):
        match node:
            case ast.Import(names=aliases):
                yield from MODULES & {part for alias in aliases for part in alias.name.split(".")}
            case ast.ImportFrom(module=str(module)):
                yield from MODULES & set(module.split("."))
            case ast.Call(func=ast.Name(id=name)) if name in FUNCTIONS:
                yield name
            case ast.Call(func=ast.Attribute(attr=name)) if name in METHODS:
                yield name


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_input_becomes_code_a_command_markup_or_an_object(source: Path) -> None:
    assert list(dangers(ast.parse(source.read_text()))) == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(x)",
        "import pickle",
        "from xml.etree import ElementTree",
        "os.system(x)",
        "mark_safe(x)",
        "hashlib.md5()",
    ],
)
def test_the_reader_of_code_sees_it(code: str) -> None:
    assert list(dangers(ast.parse(code)))


def test_sql_is_put_together_from_constants_alone() -> None:
    """Values travel apart from it; names of tables and columns are ours. f-strings are ruff's (S608)."""
    formatted = [
        f"{source.relative_to(ROOT)}:{node.lineno}"
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"execute", "executemany"}
        and node.args
        and isinstance(node.args[0], ast.BinOp | ast.Call)
        and "format" in ast.unparse(node.args[0])
    ]
    assert formatted == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_the_pages_write_text_and_keep_nothing(script: Path) -> None:
    words = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "__proto__",
    )
    kept = ("localStorage", "sessionStorage", "indexedDB", "document.cookie", "postMessage", "importScripts")
    text = script.read_text()
    assert [word for word in (*words, *kept) if word in text] == []


@pytest.mark.parametrize("lock", ["run.txt", "dev.txt", "soak.txt"])
def test_every_package_is_locked_by_hash_and_comes_from_the_index_of_the_machine(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    packages = re.split(r"(?m)^(?=[\w.-]+(?:\[[\w,-]+\])?==)", text)[1:]
    assert len(packages) > 15
    assert [package for package in packages if "--hash=sha256:" not in package] == []
    assert re.findall(r"https?://|--index-url|--find-links| @ ", text) == []
