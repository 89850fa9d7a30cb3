"""Calls of prefabs by functions of prefabs: their access to the gateway, and their slots.

A function that calls another one waits for it while it holds a slot. If the inner call needed
a slot of its own, functions that wait for each other's slots would block the server. Inner
calls therefore run in the slot of the outer one, one at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from beray.server.accounts.principals import Principal
from beray.server.accounts.run_token import RunTokens
from beray.server.api.dependencies import secret_digest
from beray.server.prefabs.call_request import Prepared
from beray.server.prefabs.protocol import RunFailed
from beray.server.runners.base import GatewayAccess
from beray.server.runtime.fair_queue import FairSlots

MAX_DEPTH: Final = 4
"""Functions with access to the gateway that may be under way inside each other."""
WHAT: Final = "prefab calls"


@dataclass(frozen=True, slots=True)
class _Outer:
    """A call whose function has access to the gateway."""

    slots: FairSlots
    depth: int


class Nesting:
    """The calls under way that may make other calls. Used on one event loop.

    Args:
        slots: Slots of calls that are not made by another call.
        waiting: Calls that may wait for one outer call; ``None``: any number.
    """

    def __init__(self, access: RunTokens, slots: FairSlots, waiting: int | None) -> None:
        self._access = access
        self._slots = slots
        self._waiting = waiting
        self._outer: dict[str, _Outer] = {}

    def slots_of(self, caller: Principal) -> FairSlots:
        """Return the slots that the calls of ``caller`` take."""
        outer = self._outer.get(caller.run or "")
        return self._slots if outer is None else outer.slots

    @asynccontextmanager
    async def access(
        self, caller: Principal, call: Prepared
    ) -> AsyncIterator[GatewayAccess | None]:
        """Give a function its access for the block; ``None`` if it does not ask for any.

        Raises:
            RunFailed: The calls are nested too deep, or the server does not listen.
        """
        if not call.function.gateway or caller.user_id is None:
            yield None
            return
        outer = self._outer.get(caller.run or "")
        depth = 1 if outer is None else outer.depth + 1
        if depth > MAX_DEPTH:
            raise RunFailed(
                "NESTED_TOO_DEEP",
                f"{call.prefab.id} was called by a function that was called by a function, and so "
                f"on: at most {MAX_DEPTH} functions with gateway access may wait for each other",
            )
        async with self._access.grant(caller.user_id, f"prefab-{call.prefab.id}") as access:
            if access is None:
                raise RunFailed("CRASHED", "the server does not listen, so it has no gateway")
            name = secret_digest(access.token)
            slots = FairSlots(1, subject_waiting=self._waiting, item_noun=WHAT)
            self._outer[name] = _Outer(slots, depth)
            try:
                yield access
            finally:
                del self._outer[name]
