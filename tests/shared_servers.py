"""Servers that tests share: one per configuration in each test process.

Accounts isolate the tests of a shared server. Tests that stop, crash, fill, lock or measure a
server, or that depend on the order or number of its tasks, start their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from beray.server.prefabs import archives
from beray.testing import RunningServer
from tests.server.agents.model_server import ModelServer, model_server
from tests.server.gateway.prefab_calls import COUNT, MANIFEST, add
from tests.server.gateway.prefab_folders import write_prefab


class ServerPool:
    """Running servers by their settings.

    Args:
        new_directory: Creates a directory with a name that begins with its argument.
    """

    def __init__(self, new_directory: Callable[[str], Path]) -> None:
        self._new_directory = new_directory
        self._running = ExitStack()
        self._servers: dict[frozenset[tuple[str, str]], RunningServer] = {}

    def server(self, **settings: str) -> RunningServer:
        """Return the server with these settings, which is started on first use."""
        key = frozenset(settings.items())
        if key not in self._servers:
            server = RunningServer.start(self._new_directory("pool") / "data", settings)
            self._servers[key] = self._running.enter_context(server)
        return self._servers[key]

    def close(self) -> None:
        """Stop all servers."""
        self._running.close()


@pytest.fixture(scope="session")
def server_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPool]:
    """Servers of the session by their settings."""
    pool = ServerPool(tmp_path_factory.mktemp)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    """Server with default settings and a scripted model."""
    with model_server(tmp_path_factory.mktemp("models") / "data") as found:
        yield found


@pytest.fixture(scope="session")
def probe_server(
    server_pool: ServerPool, tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    """Server to which every user may add prefabs, with the prefab ``probe`` of ``prefab_calls``."""
    server = server_pool.server(BERAY_PREFAB_AUTHORS="*")
    folder = write_prefab(tmp_path_factory.mktemp("probe") / "probe", COUNT, MANIFEST)
    with server.sign_up() as author:
        added = add(author, archives.pack(folder))
    assert added.status_code == 201, added.text
    return server
