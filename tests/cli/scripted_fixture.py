"""Fixture with a scripted server, for tests of the command and of the dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.cli_support import ScriptedServer


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """Scripted server, configured for the command."""
    with ScriptedServer() as server:
        monkeypatch.setenv("BERAY_URL", server.url)
        monkeypatch.setenv("BERAY_TOKEN", "a-token")
        yield server
