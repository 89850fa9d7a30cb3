"""The Textual dashboard: screens, widgets, and a stylesheet beside each screen.

It talks to the server through ``BeRayClient`` and ``GatewayClient`` alone, as any user's script
would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from beray.config import Profiles, Target

__all__ = ["run"]


def run(target: Target, profiles: Profiles, *, renew: Callable[[], Target] | None = None) -> int:
    """Run the dashboard on this terminal until the user leaves; return the exit status.

    SIGTERM, SIGHUP and SIGQUIT end it with the terminal restored and status 128 + number.

    Args:
        renew: says where the server is now, for one that may have a successor. It is
            called in a thread of its own, and may raise a ``BeRayException``.
    """
    import gc
    import threading

    from tui.app import BeRayApp
    from tui.ending_signals import EndingSignals

    # What was imported stays: to look through it again and again would delay keys.
    app = BeRayApp(target, profiles, renew=renew, settled=gc.freeze)
    gc.freeze()
    gc.enable()
    before = threading.excepthook
    threading.excepthook = app.thread_failed
    try:
        with EndingSignals(app) as ending:
            app.run()
    finally:
        threading.excepthook = before
    app.finish_transfers()
    return 128 + ending.received if ending.received else app.return_code or 0
