"""Forms and runs of an account since the dashboard was started.

They outlive the screens: a run continues while other screens are shown, and a form keeps its
content when it is opened again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from beray.config import Target
from tui.prefabs import gateway
from tui.prefabs.call_draft import CallDraft, FormDraft
from tui.prefabs.run import Run
from tui.state.user_state import account_of

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

MAX_FORMS: Final = 50
"""Maximum number of forms that are kept; the least recently used one is dropped."""


@dataclass
class CallState:
    """Form of a function, and the last run that was started from it.

    Attributes:
        draft: Content of the form, or None if it was never opened.
        run: Last run, or None.
        changed: Called when the run has changed.
    """

    draft: FormDraft | None = None
    run: Run | None = None
    changed: Callable[[], None] = field(default=lambda: None)


class RunRegistry:
    """Registry of the forms and runs of one account.

    Args:
        target: Server and account.
        clock: Returns the current time.
        told: Called in a thread with a run that has received updates.
        connect: Creates the gateway client of a target.
    """

    def __init__(
        self,
        target: Target,
        clock: Callable[[], datetime],
        on_update: Callable[[Run], None],
        connect: Callable[[Target], GatewayClient] = gateway.connect,
    ) -> None:
        self.target = target
        self._clock = clock
        self._on_update = on_update
        self._connect = connect
        self.gateway = connect(target)
        self._calls: dict[tuple[str, str], CallState] = {}

    def call(self, prefab_id: str, function: str) -> CallState:
        """Return the form of a function with its last content."""
        key = prefab_id, function
        found = self._calls.pop(key, None) or CallState()
        self._calls[key] = found
        for other, call in list(self._calls.items())[:-MAX_FORMS]:
            if call.run is None or call.run.is_over:
                del self._calls[other]
        return found

    def begin(self, call: CallState, order: CallDraft) -> Run:
        """Start a run. An earlier run of the same form is stopped."""
        if call.run is not None:
            call.run.stop()
        # The run's thread may report updates before ``run`` is assigned.
        call.run = run = Run(self.gateway, order, self._clock, self._on_update)
        return run

    @property
    def running(self) -> list[Run]:
        """Runs that have not ended."""
        runs = [call.run for call in self._calls.values() if call.run is not None]
        return [run for run in runs if not run.is_over]

    def advance(self, run: Run) -> bool:
        """Process the updates of ``run``; return True if it has ended now."""
        over = run.advance()
        for call in self._calls.values():
            if call.run is run:
                call.changed()
        return over

    def go_to(self, target: Target) -> None:
        """Use another server, account or token. Runs of another account are stopped."""
        if (target.url, target.token) == (self.target.url, self.target.token):
            return
        if target.token is None or account_of(target) != account_of(self.target):
            self._leave()
        self.target = target
        before, self.gateway = self.gateway, self._connect(target)
        before.close()

    def close(self) -> None:
        """Stop all runs and remove all forms."""
        self._leave()
        self.gateway.close()

    def _leave(self) -> None:
        for call in self._calls.values():
            if call.run is not None:
                call.run.stop()
        self._calls.clear()
