"""The server's Python interpreter as a sandboxed program finds it."""

from __future__ import annotations

import os
import sys
from typing import Final

from beray.server.sandbox.bubblewrap import Bind

_SYSTEM: Final = ("/usr", "/bin", "/lib", "/opt")


def interpreter_binds() -> list[Bind]:
    """Return where this Python and the packages installed for it are."""
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    roots |= {os.path.realpath(root) for root in roots}
    # With links on the way from one name of it to the other.
    roots |= {os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))}
    return [
        Bind(root)
        for root in sorted(roots)
        if not any(root == path or root.startswith(path + "/") for path in _SYSTEM)
    ]
