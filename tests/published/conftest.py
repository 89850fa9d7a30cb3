"""Fixtures that install published packages from the index, each into its own directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beray.testing import RunningServer
from tests.published.packages import (
    DAILY_CALLS,
    Install,
    Package,
    install_package,
    server_with_probe,
)


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Install a requirement once; skip the test if the index is unreachable."""
    installed: dict[str, Package] = {}

    def package(requirement: str) -> Package:
        if requirement not in installed:
            folder = tmp_path_factory.mktemp("package")
            install_package(requirement, folder)
            installed[requirement] = Package(folder)
        return installed[requirement]

    return package


@pytest.fixture(scope="session")
def probe_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Run a server with ``probe``, a daily limit, and access for loopback without credentials."""
    environ = {
        "BERAY_DAILY_PREFAB_CALLS": str(DAILY_CALLS),
        "BERAY_GATEWAY_ALLOW": "127.0.0.1",
    }
    with server_with_probe(tmp_path_factory.mktemp("server"), **environ) as server:
        yield server
