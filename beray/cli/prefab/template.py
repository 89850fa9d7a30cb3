"""Files that ``beray prefab new`` creates: an example prefab and its test."""

from __future__ import annotations

import keyword
import sys
from importlib.util import find_spec
from typing import Final

MANIFEST: Final = """\
[prefab]
id = "{id}"
version = "0.1.0"
title = "{title}"
description = "Counts words, lines or characters of a text file."
module = "{module}"

[functions.count]
description = "Count the words, lines or characters of a document."
seconds = 60

[functions.count.parameters]
required = ["unit"]

[functions.count.parameters.properties.unit]
description = "Unit to count."
enum = ["words", "lines", "characters"]
default = "words"

[functions.count.returns]
required = ["count"]
properties.count.type = "integer"

[functions.count.files.inputs.document]
description = "Document in UTF-8."
types = [".txt", ".md"]

[functions.count.files.outputs.report]
description = "Result as a sentence."
"""
MODULE: Final = '''\
"""{title}."""

from __future__ import annotations

from beray.prefab import Call


def count(call: Call, *, unit: str) -> dict[str, int]:
    text = call.file("document").read_text(encoding="utf-8")
    found = {{"words": text.split(), "lines": text.splitlines(), "characters": text}}[unit]
    report = f"{{call.file('document').name}} has {{len(found)}} {{unit}}.\\n"
    call.output("report", "report.txt").write_text(report, encoding="utf-8")
    return {{"count": len(found)}}
'''
TEST: Final = '''\
"""Tests of the functions, with files and without a server. Run them with ``pytest``."""

from __future__ import annotations

from pathlib import Path

import pytest
from beray.prefab import Call

import {module}


@pytest.mark.parametrize(("unit", "count"), [("words", 3), ("lines", 2), ("characters", 14)])
def test_count(tmp_path: Path, unit: str, count: int) -> None:
    document = tmp_path / "poem.txt"
    document.write_text("one two\\nthree\\n", encoding="utf-8")
    call = Call(outputs=tmp_path / "outputs", files={{"document": [document]}})
    assert {module}.count(call, unit=unit) == {{"count": count}}
    report = tmp_path / "outputs" / "report" / "report.txt"
    assert report.read_text(encoding="utf-8") == f"poem.txt has {{count}} {{unit}}.\\n"
'''


_TEST_NAMES: Final = frozenset({"call", "count", "document", "report", "unit", "conftest"})
"""Names in the test that would hide a module of the same name, or be hidden by it."""
_RESERVED: Final = frozenset(
    ["aux", "con", "nul", "prn", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)


def is_reserved(prefab_id: str) -> bool:
    """Return True if the name is a device on Windows, where no file can have this name."""
    return prefab_id in _RESERVED


def _module(prefab_id: str) -> str:
    """Return a module name that does not collide with another module."""
    name = prefab_id.replace("-", "_")
    in_use = keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _TEST_NAMES
    # pytest collects tests from modules whose names start with "test_".
    in_use = in_use or name.startswith("test_") or _is_installed(name)
    return f"{name}_prefab" if in_use else name


def _is_installed(name: str) -> bool:
    module_spec = find_spec(name)
    # A directory of the same name without __init__.py has no origin; it is not a package.
    return module_spec is not None and module_spec.origin is not None


def files(prefab_id: str) -> dict[str, str]:
    """Return the content of a new prefab's files, by name."""
    module = _module(prefab_id)
    title = prefab_id.replace("-", " ").capitalize()
    names = {"id": prefab_id, "title": title, "module": module}
    return {
        "prefab.toml": MANIFEST.format(**names),
        f"{module}.py": MODULE.format(**names),
        f"test_{module}.py": TEST.format(**names),
    }
