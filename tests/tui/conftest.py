"""Fixtures of the command's tests that the dashboard's use too, and how tests wait for Textual."""

from __future__ import annotations

import pytest

from tests.cli.conftest import scripted
from tests.tui.dashboard_pilot import at_rest

__all__ = ["scripted"]


@pytest.fixture(autouse=True)
def exact_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual.app.wait_for_idle", at_rest)
    monkeypatch.setattr("textual.pilot.wait_for_idle", at_rest)
