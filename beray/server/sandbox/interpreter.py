"""The server's Python interpreter as a sandboxed program finds it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import beray
from beray.server.sandbox import masking
from beray.server.sandbox.bubblewrap import SYSTEM, Bind

PACKAGE: Final = Path(beray.__file__).parent
_ORIGIN: Final = "the Python installation that runs prefabs"


def python_paths() -> list[Bind]:
    """Return where this Python, the packages installed for it and BeRay itself are."""
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    roots |= {os.path.realpath(root) for root in roots}
    # With links on the way from one name of it to the other.
    roots |= {os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))}
    return [Bind(path, origin=_ORIGIN) for path in (*sorted(roots), str(PACKAGE))]


def interpreter_binds() -> list[Bind]:
    """Return those of ``python_paths`` that a sandbox does not contain as part of the system."""
    return [
        bind
        for bind in python_paths()
        if not any(masking.is_at_or_below(bind.path, path) for path in SYSTEM)
    ]
