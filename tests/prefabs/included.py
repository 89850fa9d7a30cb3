"""Access to the included prefabs, which are loaded by path as in a call."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import beray
from beray.prefab import Call, Progress

INCLUDED = Path(beray.__file__).parent / "prefabs"
DIRECTORIES = sorted(manifest.parent for manifest in INCLUDED.glob("*/*/prefab.toml"))


def manifest(directory: Path) -> dict[str, Any]:
    """Return the parsed manifest of a prefab."""
    return tomllib.loads((directory / "prefab.toml").read_text(encoding="utf-8"))


def module(directory: Path) -> ModuleType:
    """Import the module of a prefab, with its directory on ``sys.path`` as in a call."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    return importlib.import_module(manifest(directory)["prefab"]["module"])


def prefab(name: str) -> ModuleType:
    """Import the module of the newest version of the prefab ``name``."""
    return module(max(directory for directory in DIRECTORIES if directory.parent.name == name))


def make_call(tmp_path: Path, **files: Path | Sequence[Path]) -> Call:
    """Return a call with input files, whose outputs are in ``tmp_path / "outputs"``."""
    by_key: Mapping[str, Sequence[Path]] = {
        key: [paths] if isinstance(paths, Path) else list(paths) for key, paths in files.items()
    }
    return Call(outputs=tmp_path / "outputs", files=by_key)


def run_streaming(
    generator: Generator[Any, None, dict[str, Any]],
) -> tuple[dict[str, Any], list[Any], list[Progress]]:
    """Run a streaming function; return its result, its pieces of content, and its progress."""
    content: list[Any] = []
    progress: list[Progress] = []
    while True:
        try:
            piece = next(generator)
        except StopIteration as end:
            return end.value, content, progress
        (progress if isinstance(piece, Progress) else content).append(piece)
