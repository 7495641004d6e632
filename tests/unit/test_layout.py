"""Tests share code by tests/support alone, and no module grows beyond what is quick to read."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support import HOME

MOST_LINES = 400


def modules(*folders: str) -> list[Path]:
    return sorted(path for name in folders for path in (HOME / name).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The dotted name of everything that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def is_test_module(name: str) -> bool:
    """Whether a module of tests/ that defines tests is part of a dotted name."""
    parts = name.split(".")
    return any(
        (HOME.joinpath(*parts[:end]).with_suffix(".py")).is_file() and part.startswith("test_")
        for end, part in enumerate(parts, start=1)
    )


def test_a_test_module_is_recognised_in_whatever_is_imported_of_it() -> None:
    assert is_test_module("tests.unit.test_layout")
    assert is_test_module("tests.unit.test_layout.modules")
    assert not is_test_module("tests.support.HOME")
    assert not is_test_module("tests.support.pretraining.settings")


def test_no_module_imports_a_test_module() -> None:
    found = {
        f"{path.relative_to(HOME)} imports {name}"
        for path in modules("tests")
        for name in imported(path)
        if is_test_module(name)
    }
    assert found == set()


def test_no_module_is_too_long() -> None:
    lengths = {
        path.relative_to(HOME).as_posix(): len(path.read_text().splitlines())
        for path in modules("decur", "tests")
    }
    assert {name for name, lines in lengths.items() if lines > MOST_LINES} == set()
