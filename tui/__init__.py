"""The Textual dashboard: screens, widgets, and a stylesheet beside each screen.

It talks to the server through ``BeRayClient`` alone, as any user's script would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beray.config import Profiles, Target

__all__ = ["run"]


def run(target: Target, profiles: Profiles) -> int:
    """Run the dashboard on this terminal until the user leaves; return the exit status."""
    import threading

    from tui.app import BeRayApp

    app = BeRayApp(target, profiles)
    before = threading.excepthook
    threading.excepthook = app.thread_failed
    try:
        app.run()
    finally:
        threading.excepthook = before
    app.finish_transfers()
    return app.return_code or 0
