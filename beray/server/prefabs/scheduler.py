"""Scheduling of prefab calls: slots and nested calls.

A function that calls another function waits for it while it holds a slot. If the inner call
needed a slot of its own, functions that wait for each other's slots would block the server.
Inner calls therefore run in the slot of the outer call, one at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from beray.server.accounts.principals import Principal
from beray.server.prefabs.call_request import PreparedCall
from beray.server.prefabs.protocol import RunFailed
from beray.server.runners.base import GatewayAccess
from beray.server.runners.run_token import RunTokens
from beray.server.runtime.fair_queue import FairSlots
from beray.server.storage.digests import secret_digest

MAX_NESTED_CALLS: Final = 4
"""Maximum number of functions with gateway access that run inside each other."""
QUEUED_ITEMS: Final = "prefab calls"
"""Name of the queued items in messages."""


@dataclass(frozen=True, slots=True)
class _OuterCall:
    """A running call whose function has access to the gateway."""

    slots: FairSlots
    depth: int


class CallScheduler:
    """Slots and gateway access of running calls. Used on one event loop.

    Args:
        slots: Slots of calls that are not made by another call.
        waiting: Maximum number of calls that wait for one outer call; None: unlimited.
    """

    def __init__(self, *, access: RunTokens, slots: FairSlots, waiting: int | None) -> None:
        self._access = access
        self._slots = slots
        self._waiting = waiting
        self._outer: dict[str, _OuterCall] = {}

    def slots_of(self, caller: Principal) -> FairSlots:
        """Return the slots that the calls of ``caller`` take."""
        outer = self._outer.get(caller.run or "")
        return self._slots if outer is None else outer.slots

    @asynccontextmanager
    async def access(
        self, caller: Principal, call: PreparedCall
    ) -> AsyncIterator[GatewayAccess | None]:
        """Give a function access to the gateway for the block.

        Yields:
            The access, or None if the function does not request any.

        Raises:
            RunFailed: The calls are nested too deeply, or the server does not listen.
        """
        if not call.function.gateway or caller.user_id is None:
            yield None
            return
        outer = self._outer.get(caller.run or "")
        depth = 1 if outer is None else outer.depth + 1
        if depth > MAX_NESTED_CALLS:
            raise RunFailed(
                "NESTED_TOO_DEEP",
                f"{call.prefab.id} cannot be called here: the calls are nested too deeply. At "
                f"most {MAX_NESTED_CALLS} functions with gateway access may wait for each other.",
            )
        async with self._access.grant(caller.user_id, f"prefab-{call.prefab.id}") as access:
            if access is None:
                raise RunFailed(
                    "CRASHED", "the gateway is not available: the server does not listen"
                )
            name = secret_digest(access.token)
            slots = FairSlots(1, subject_waiting=self._waiting, item_noun=QUEUED_ITEMS)
            self._outer[name] = _OuterCall(slots, depth)
            try:
                yield access
            finally:
                del self._outer[name]
