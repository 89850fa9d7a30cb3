"""Support modules of tests: shared code is in them, and not in test modules or ``conftest.py``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def is_test_module(module: str) -> bool:
    path = TESTS.parent / f"{module.replace('.', '/')}.py"
    return path.name.startswith(("test_", "conftest.")) and path.is_file()


def test_no_module_imports_a_test_module() -> None:
    found = [
        f"{path.relative_to(TESTS)}: {module}"
        for path in sorted(TESTS.rglob("*.py"))
        for module in imported_modules(ast.parse(path.read_text(encoding="utf-8")))
        if module.startswith("tests.") and is_test_module(module)
    ]
    assert found == []
