"""The prefabs that come with the server, loaded as a run loads them: by path."""

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
FOLDERS = sorted(manifest.parent for manifest in INCLUDED.glob("*/*/prefab.toml"))


def manifest(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "prefab.toml").read_text(encoding="utf-8"))


def module(folder: Path) -> ModuleType:
    """Its module. The folder is where its imports look first, as in a run."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(manifest(folder)["prefab"]["module"])


def prefab(name: str) -> ModuleType:
    """The module of the newest version there is of the prefab ``name``."""
    return module(max(folder for folder in FOLDERS if folder.parent.name == name))


def call_with(tmp_path: Path, **files: Path | Sequence[Path]) -> Call:
    given: Mapping[str, Sequence[Path]] = {
        key: [paths] if isinstance(paths, Path) else list(paths) for key, paths in files.items()
    }
    return Call(outputs=tmp_path / "outputs", files=given)


def finished(
    generator: Generator[Any, None, dict[str, Any]],
) -> tuple[dict[str, Any], list[Any], list[Progress]]:
    """What a function that streams returned, its content, and its progress."""
    content: list[Any] = []
    progress: list[Progress] = []
    while True:
        try:
            piece = next(generator)
        except StopIteration as end:
            return end.value, content, progress
        (progress if isinstance(piece, Progress) else content).append(piece)
