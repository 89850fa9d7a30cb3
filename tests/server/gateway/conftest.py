"""Stores on disk, and agents of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_support import Agent

from beray.server.gateway.local_objects import BUCKET, LocalObjects
from beray.server.gateway.signing import Signer
from beray.server.store import Store
from beray.testing import RunningServer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "db.sqlite3")
    yield store
    store.close()


@pytest.fixture
def local(tmp_path: Path, store: Store) -> LocalObjects:
    return LocalObjects(tmp_path / "objects", store, Signer(b"k" * 32, BUCKET))


@pytest.fixture
def agent(beray_server: RunningServer) -> Iterator[Agent]:
    agent = Agent.new(beray_server)
    with agent.account:
        yield agent
