"""Folders of prefabs for tests."""

from __future__ import annotations

import textwrap
from pathlib import Path


def write_prefab(
    folder: Path,
    module: str,
    functions: str = "[functions.main]\nparameters.additionalProperties = true",
    *,
    prefab_id: str = "probe",
    version: str = "1.0.0",
    more: str = "",
) -> Path:
    """A prefab's folder: ``module`` is Python, ``functions`` and ``more`` are TOML."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prefab.toml").write_text(
        f'[prefab]\nid = "{prefab_id}"\nversion = "{version}"\ntitle = "A probe"\n'
        f'module = "probe"\n{more}\n{functions}\n'
    )
    (folder / "probe.py").write_text(textwrap.dedent(module))
    return folder
