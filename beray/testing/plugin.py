"""Pytest fixtures ``beray_server`` and ``beray_client``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from beray.client import BeRayClient
from beray.exceptions import BeRayException
from beray.schema import TERMINAL_STATUSES
from beray.testing.server import RunningServer


@pytest.fixture(scope="session")
def beray_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Yield a real server on a free port of the loopback interface, for the whole session."""
    with RunningServer.start(tmp_path_factory.mktemp("beray-server")) as server:
        yield server


@pytest.fixture
def beray_client(beray_server: RunningServer) -> Iterator[BeRayClient]:
    """Yield a client that is signed in to a new account of ``beray_server``.

    Tasks that still run at the end are stopped, because other tests need their slots.
    """
    with beray_server.sign_up() as client:
        yield client
        # The test may have signed out or stopped the server.
        with suppress(BeRayException):
            for task in client.list_tasks():
                if task["status"] not in TERMINAL_STATUSES:
                    client.stop_task(task["id"])
