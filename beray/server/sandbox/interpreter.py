"""Paths of the server's Python interpreter that sandboxed programs need."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import beray
from beray.server.sandbox import masking
from beray.server.sandbox.bubblewrap import SYSTEM
from beray.server.setting_types.binds import Bind

PACKAGE: Final = Path(beray.__file__).parent
"""Directory of the package ``beray``."""
_ORIGIN: Final = "the Python installation that runs prefabs"


def python_paths() -> list[Bind]:
    """Return the directories of this Python, its installed packages and BeRay itself."""
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    roots |= {os.path.realpath(root) for root in roots}
    # The program itself may be reached through further symbolic links.
    roots |= {str(Path(os.path.realpath(sys.executable)).parent.parent)}
    return [Bind(path, origin=_ORIGIN) for path in (*sorted(roots), str(PACKAGE))]


def interpreter_binds() -> list[Bind]:
    """Return the ``python_paths`` that are not part of the system, which every sandbox contains."""
    return [
        bind
        for bind in python_paths()
        if not any(masking.is_at_or_below(bind.path, path) for path in SYSTEM)
    ]
