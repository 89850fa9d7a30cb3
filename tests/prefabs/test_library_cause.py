"""Exceptions of libraries are reported as causes; exceptions of a prefab's own code are defects."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable

import pytest

from beray.prefab import library_cause


def cause_of(function: Callable[[], object]) -> str | None:
    """Return the cause of the exception that ``function`` raises."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the subject of the tests
        return library_cause(error, __file__)
    raise AssertionError("no error")


def own_defect() -> None:
    """Raise an exception from this directory."""
    raise KeyError("own code")


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda: json.loads("{"), "Expecting property name enclosed in double quotes: line 1"),
        (own_defect, None),
        (lambda: os.makedirs("/dev/null/a/b"), None),
    ],
)
def test_causes(function: Callable[[], object], cause: str | None) -> None:
    found = cause_of(function)
    assert found is None if cause is None else (found or "").startswith(cause)


def in_library(error: Exception) -> str | None:
    """Return the cause of an error that is raised by code outside of this directory."""
    code = compile("def call(f):\n    raise f", "/library/code.py", "exec")
    names: dict[str, Callable[[Exception], None]] = {}
    exec(code, {}, names)
    return cause_of(lambda: names["call"](error))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("bad  header\nin line 2"), "bad header in line 2"),
        (ValueError("no file at '/srv/data/run-1/a.pdf'"), "no file at 'a.pdf'"),
        (ValueError("see https://example.com/a/b now"), "see https://example.com/a/b now"),
        (KeyError("Root"), "KeyError: 'Root'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (MemoryError(), "reading it exceeds the memory limit of the call"),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (OSError("image file is truncated"), "image file is truncated"),
        (ValueError("x " * 1000), ("x " * 100)),
    ],
)
def test_messages_of_causes(error: Exception, cause: str | None) -> None:
    assert in_library(error) == cause
