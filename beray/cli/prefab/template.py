"""What ``beray prefab new`` writes: a prefab that works, and a test that shows it."""

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
description = "Counts what is in a text."
module = "{module}"

[functions.count]
description = "Counts words, lines or characters of a text file."
seconds = 60

[functions.count.parameters]
required = ["unit"]

[functions.count.parameters.properties.unit]
description = "What to count."
enum = ["words", "lines", "characters"]
default = "words"

[functions.count.returns]
required = ["count"]
properties.count.type = "integer"

[functions.count.files.inputs.document]
description = "The text, in UTF-8."
types = [".txt", ".md"]

[functions.count.files.outputs.report]
description = "The result in words."
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
"""Runs the functions as the server does, with files and without a server: ``pytest``."""

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


_OF_THE_TEST: Final = frozenset({"call", "count", "document", "report", "unit", "conftest"})
"""What the test calls by these names would hide the module, or be hidden by it."""
_RESERVED: Final = frozenset(
    ["aux", "con", "nul", "prn", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))]
)


def is_reserved(prefab_id: str) -> bool:
    """Return whether the module's name is a device on Windows, where it could not be saved."""
    return prefab_id in _RESERVED


def _module(prefab_id: str) -> str:
    """A name for the module by which nothing else can be imported."""
    name = prefab_id.replace("-", "_")
    taken = keyword.iskeyword(name) or name in sys.stdlib_module_names or name in _OF_THE_TEST
    # Python's test runner would look for tests in it.
    taken = taken or name.startswith("test_") or _is_installed(name)
    return f"{name}_prefab" if taken else name


def _is_installed(name: str) -> bool:
    found = find_spec(name)
    # A folder that happens to have the name is no package.
    return found is not None and found.origin is not None


def files(prefab_id: str) -> dict[str, str]:
    """The files of a new prefab, by name."""
    module = _module(prefab_id)
    title = prefab_id.replace("-", " ").capitalize()
    names = {"id": prefab_id, "title": title, "module": module}
    return {
        "prefab.toml": MANIFEST.format(**names),
        f"{module}.py": MODULE.format(**names),
        f"test_{module}.py": TEST.format(**names),
    }
