"""The screens of prefabs, as a user goes to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tests.tui import gateway_stub
from tests.tui.dashboard_pilot import main, until
from tests.tui.gateway_stub import StubGateway, function_of
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.list_screen import PrefabsScreen
from tui.screens.main import MainScreen


@asynccontextmanager
async def prefabs(
    gateway: StubGateway, folder: Path, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Pilot[None]]:
    """The screen of the prefabs, opened from that of the tasks."""
    app = gateway_stub.prefab_app(gateway, folder)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen) and online(pilot))
        await pilot.press("P")
        await until(pilot, lambda: isinstance(pilot.app.screen, PrefabsScreen))
        yield pilot


def online(pilot: Pilot[None]) -> bool:
    return main(pilot).task_state.loaded


async def call(pilot: Pilot[None], *keys: str) -> CallScreen:
    """Go to a function by ``keys``, and open it."""
    browsing = pilot.app.screen
    assert isinstance(browsing, PrefabsScreen)
    await until(pilot, lambda: browsing.rows and pilot.app.focused)
    await pilot.press(*keys)
    await until(pilot, lambda: browsing.spec is not None)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, CallScreen))
    await until(pilot, lambda: pilot.app.focused is not None)
    found = pilot.app.screen
    assert isinstance(found, CallScreen)
    return found


CONVERT = ("down", "down", "down", "down")


def simple_gateway(function: dict[str, Any] | None = None) -> StubGateway:
    """With one prefab of one function, which needs nothing."""
    gateway = StubGateway()
    gateway.prefabs = [gateway_stub.info("p", functions=["f"], is_official=True)]
    gateway.specs = {"p": gateway_stub.spec_of("p", function or function_of("f"))}
    gateway.events = [gateway_stub.done({"ok": True})]
    return gateway


def over(call_screen: CallScreen) -> bool:
    run = call_screen.call.run
    return run is not None and run.is_over
