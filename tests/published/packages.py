"""Support for tests with published packages: their installation, and a server with a prefab."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from beray.server.prefabs import archives
from beray.testing import RunningServer
from tests.server.gateway.prefab_calls import COUNT, MANIFEST, add
from tests.server.gateway.prefab_folders import write_prefab

PROGRAMS = Path(__file__).with_name("programs")
INSTALL_SECONDS = 300
DAILY_CALLS = 40
UNREACHABLE = re.compile(
    r"error sending request|failed to fetch|dns error|failed to lookup|name resolution|"
    r"timed out|connection (refused|reset)|network is unreachable|failed to establish|proxy",
    re.IGNORECASE,
)
"""Output of uv and pip if the index is unreachable."""


@dataclass(frozen=True)
class Package:
    """An installed package with its dependencies."""

    folder: Path

    def run(self, program: str, *arguments: str) -> Any:
        """Run one of ``programs`` with the package; return the JSON that it prints."""
        environ = {name: value for name, value in os.environ.items() if name[:6] != "BERAY_"}
        done = subprocess.run(
            [sys.executable, str(PROGRAMS / program), *arguments],
            env=environ | {"PYTHONPATH": str(self.folder), "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


Install = Callable[[str], Package]


def install_package(requirement: str, folder: Path) -> None:
    """Install a requirement into a directory; skip the test if the index is unreachable."""
    uv = shutil.which("uv")
    if uv is not None:
        command = [uv, "pip", "install", "--python", sys.executable]
    else:
        command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--quiet", "--target", str(folder), requirement],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the package index did not respond in time")
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip("the package index is unreachable")
    assert done.returncode == 0, done.stderr


@contextmanager
def server_with_probe(folder: Path, **environ: str) -> Iterator[RunningServer]:
    """Run a server with the prefab ``probe``."""
    folder = write_prefab(folder / "probe", COUNT, MANIFEST)
    environ |= {"BERAY_PREFAB_AUTHORS": "author@example.test"}
    with RunningServer.start(folder.parent / "data", environ) as server:
        with server.sign_up("author@example.test") as author:
            added = add(author, archives.pack(folder))
        assert added.status_code == 201, added.text
        yield server
