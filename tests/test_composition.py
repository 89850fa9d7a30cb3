"""Test that classes are composed of objects instead of chains of base classes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import beray
import tui

# The launcher and the workers import their neighbours by name, alembic runs the environment of the
# migrations, and prefabs are not in a package.
SEPARATE_PROGRAMS = (
    ".launcher", ".__main__", ".migrations.env", "beray.server.prefabs.worker", "beray.prefabs.",
)  # fmt: skip


def classes() -> Iterator[type]:
    """Yield the classes that the modules of the project define."""
    for package in (beray, tui):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if any(part in module.name for part in SEPARATE_PROGRAMS):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name:
                    yield value


def is_ancestor_that_counts(base: type) -> bool:
    return base.__module__.split(".")[0] in ("beray", "tui") and not getattr(
        base, "_is_protocol", False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the server runs on POSIX")
def test_no_class_has_more_than_one_ancestor_in_the_project() -> None:
    found = list(classes())
    assert len(found) > 500
    chains = {
        f"{cls.__module__}.{cls.__qualname__}": [base.__qualname__ for base in ancestors]
        for cls in found
        if not issubclass(cls, (BaseException, BaseModel))
        and len(ancestors := [*filter(is_ancestor_that_counts, cls.__mro__[1:])]) > 1
    }
    assert not chains
