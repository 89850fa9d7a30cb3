"""Incomplete installations, and installations mixed with the client 0.1.x of the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

import beray
from beray import installation
from beray.version import __version__

OLD_FILES = {
    "__init__.py": "",
    "client.py": "class BeRayClient:\n    pass\n",
    "exceptions.py": "class BeRayException(Exception):\n    pass\n",
}
"""Stand-ins for the three files of the older package."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a directory with a copy of the installed package."""
    site = tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__", "prefabs", "migrations")
    shutil.copytree(Path(beray.__file__).parent, site / "beray", ignore=ignored)
    (site / f"beray-{__version__}.dist-info").mkdir()
    return site


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=site, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_complete_installation(site: Path) -> None:
    for arguments in (["-m", "beray", "--version"], ["-m", "beray.cli", "--version"]):
        done = run(site, *arguments)
        assert (done.stdout, done.stderr) == (f"beray {__version__}\n", "")
    assert run(site, "-c", "import beray.agent, beray.gateway, beray.testing").stderr == ""
    assert installation.replaced_files() == ()
    assert installation.version_warning() is None


@pytest.mark.parametrize("names", [list(OLD_FILES), *([name] for name in OLD_FILES)])
def test_files_of_the_older_client_are_detected(site: Path, names: list[str]) -> None:
    for name in names:
        (site / "beray" / name).write_text(OLD_FILES[name])
    done = run(site, "-m", "beray", "tasks")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"beray: two packages named beray are mixed in {site}/beray: ")
    assert f"replaced or removed {', '.join(names)} of BeRay" in done.stderr
    assert "pip uninstall -y beray" in done.stderr and "pip install ." in done.stderr
    assert "Traceback" not in done.stderr
    for module in ("gateway", "agent", "testing"):
        assert (
            "ImportError: two packages named beray"
            in run(site, "-c", f"import beray.{module}").stderr
        )
    if "__init__.py" not in names:
        done = run(site, "-c", "from beray import BeRayClient")
        assert "ImportError: two packages named beray are mixed" in done.stderr


def test_remains_of_the_older_client_are_detected(site: Path) -> None:
    for name in OLD_FILES:
        (site / "beray" / name).unlink()
    # Without site-packages, which contain this checkout.
    done = run(site, "-S", "-m", "beray", "--version")
    assert done.returncode == 1 and "two packages named beray" in done.stderr


def test_two_recorded_versions_cause_a_warning(site: Path) -> None:
    (site / "beray-0.1.2.dist-info").mkdir()
    (site / "beray_other-0.1.2.dist-info").mkdir()
    done = run(site, "-m", "beray", "--version")
    assert (done.returncode, done.stdout) == (0, f"beray {__version__}\n")
    assert f"0.1.2 and {__version__} of beray are recorded as installed in {site}" in done.stderr


def test_a_missing_extra_is_named(site: Path) -> None:
    script = "import sys; sys.modules['websockets'] = None; sys.path_importer_cache.clear()\n"
    script += "import importlib.util as u; find = u.find_spec\n"
    script += "u.find_spec = lambda name, *more: None if name == 'websockets' else find(name)\n"
    done = run(site, "-c", f"{script}import beray.agent")
    assert "ModuleNotFoundError: beray.agent needs the package websockets" in done.stderr
    assert "pip install '.[agent]'" in done.stderr


def test_a_missing_server_is_named(site: Path) -> None:
    script = "import importlib.util as u; find = u.find_spec\n"
    script += "u.find_spec = lambda name, *more: None if name == 'fastapi' else find(name)\n"
    done = run(site, "-c", f"{script}import beray; beray.BeRayClient.local()")
    assert "the server is not installed" in done.stderr
    assert "pip install '.[server]'" in done.stderr and "BERAY_URL" in done.stderr


def test_the_version_is_above_that_of_the_older_client() -> None:
    assert Version(__version__) > Version("0.1.2")


def test_no_message_names_the_package_index() -> None:
    """Check instructions, because ``pip install beray`` installs the older client."""
    root = Path(__file__).parent.parent
    paths = [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").glob("*.md")]
    paths += [path for top in ("beray", "tui", "examples") for path in (root / top).rglob("*.py")]
    wrong = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in paths
        for line in path.read_text("utf-8").splitlines()
        if "pip install" in line and "beray[" in line and "@ git+" not in line
    ]
    assert not wrong
