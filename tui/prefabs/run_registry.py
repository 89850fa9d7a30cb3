"""What an account has filled in and called since the dashboard was started.

It outlives the screens: a run goes on while others are looked at, and a form that is
opened again is as it was left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from beray.config import Target
from tui.prefabs import gateway
from tui.prefabs.call_draft import Draft, Order
from tui.prefabs.run import Run
from tui.state.user_state import account_of

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

MOST_FORMS: Final = 50
"""Forms that are kept as they were left; the one that was left longest ago gives way."""


@dataclass
class Call:
    """The form of a function and the run that was made of it last.

    Attributes:
        draft: what stands in the form; ``None`` where it was never opened.
    """

    draft: Draft | None = None
    run: Run | None = None
    changed: Callable[[], None] = field(default=lambda: None)
    """Called when the run has something to show."""


class Desk:
    """Belongs to one account; the gateway is made when it is first needed.

    Args:
        connect: makes the client of a target's gateway.
        told: called in a thread with a run that has something to be taken over.
    """

    def __init__(
        self,
        target: Target,
        clock: Callable[[], datetime],
        told: Callable[[Run], None],
        connect: Callable[[Target], GatewayClient] = gateway.connect,
    ) -> None:
        self.target = target
        self._clock = clock
        self._told = told
        self._connect = connect
        self.gateway = connect(target)
        self._calls: dict[tuple[str, str], Call] = {}

    def call(self, prefab_id: str, function: str) -> Call:
        """The form of a function, as it was left."""
        key = prefab_id, function
        found = self._calls.pop(key, None) or Call()
        self._calls[key] = found
        for other, call in list(self._calls.items())[:-MOST_FORMS]:
            if call.run is None or call.run.is_over:
                del self._calls[other]
        return found

    def begin(self, call: Call, order: Order) -> Run:
        """Make the call; what was made of this form before is stopped."""
        if call.run is not None:
            call.run.stop()
        # The thread of the run may have something to tell before it is known here.
        call.run = run = Run(self.gateway, order, self._clock, self._told)
        return run

    @property
    def running(self) -> list[Run]:
        """The runs that are not over."""
        runs = [call.run for call in self._calls.values() if call.run is not None]
        return [run for run in runs if not run.is_over]

    def advance(self, run: Run) -> bool:
        """Take over what ``run`` has told; whether it is over by that."""
        over = run.advance()
        for call in self._calls.values():
            if call.run is run:
                call.changed()
        return over

    def go_to(self, target: Target) -> None:
        """The account has another token, or another one has taken its place."""
        if (target.url, target.token) == (self.target.url, self.target.token):
            return
        if target.token is None or account_of(target) != account_of(self.target):
            self._leave()
        self.target = target
        before, self.gateway = self.gateway, self._connect(target)
        before.close()

    def close(self) -> None:
        """Stop what runs, and forget everything."""
        self._leave()
        self.gateway.close()

    def _leave(self) -> None:
        for call in self._calls.values():
            if call.run is not None:
                call.run.stop()
        self._calls.clear()
