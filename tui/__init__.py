"""Textual dashboard: screens, widgets, and a stylesheet next to each screen.

The dashboard accesses the server only through ``BeRayClient`` and ``GatewayClient``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from beray.config import Profiles, Target

__all__ = ["run"]


def run(target: Target, profiles: Profiles, *, renew: Callable[[], Target] | None = None) -> int:
    """Run the dashboard on this terminal until the user quits; return the exit status.

    SIGTERM, SIGHUP and SIGQUIT end it with the terminal restored and status 128 + number.

    Args:
        target: Server and account to connect to.
        profiles: Stored profiles; a sign-in is saved there.
        renew: Returns the current target of a server that may be replaced, such as the
            embedded one. It runs in a background thread and may raise a ``BeRayException``.
    """
    import gc
    import threading

    from tui.app import BeRayApp
    from tui.ending_signals import EndingSignals

    # Imported modules are never freed; scanning them in every collection would delay key presses.
    app = BeRayApp(target, profiles, renew=renew, on_ready=gc.freeze)
    gc.freeze()
    gc.enable()
    before = threading.excepthook
    threading.excepthook = app.handle_thread_exception
    try:
        with EndingSignals(app) as ending:
            app.run()
    finally:
        threading.excepthook = before
    app.finish_transfers()
    return 128 + ending.received if ending.received else app.return_code or 0
