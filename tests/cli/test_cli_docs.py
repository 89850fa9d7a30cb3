"""beray docs, with copies of the package outside of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import beray as package


class Installation:
    """Copy of the package in a directory, as an installation or a checkout has it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ignored = shutil.ignore_patterns("__pycache__", "prefabs", "server", "documentation")
        shutil.copytree(Path(package.__file__).parent, directory / "beray", ignore=ignored)
        self.packaged = directory / "beray" / "documentation" / "index.html"
        self.built = directory / "site" / "index.html"

    def docs(self, *options: str, browser: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``beray docs`` without any browser but ``browser``."""
        environ = {
            name: value for name, value in os.environ.items() if not name.endswith("DISPLAY")
        }
        environ |= {"PYTHONPATH": str(self.directory), "PATH": "", "BROWSER": browser}
        return subprocess.run(
            [sys.executable, "-m", "beray", "docs", *options], cwd=self.directory, env=environ,
            capture_output=True, text=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "a b")


def write(page: Path) -> None:
    page.parent.mkdir(parents=True)
    page.write_text("<h1>BeRay</h1>")


def test_without_a_site_the_command_names_how_to_build_it(installation: Installation) -> None:
    write(installation.built)  # of another project: there is no mkdocs.yml
    done = installation.docs("--print")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`uv run --group docs mkdocs build`" in done.stderr
    assert done.stderr.startswith("beray: ")
    assert done.stderr.count("\n") == 1


def test_an_installation_has_the_site_in_the_package(installation: Installation) -> None:
    write(installation.packaged)
    done = installation.docs("--print")
    assert (done.returncode, done.stdout) == (0, f"{installation.packaged}\n"), done.stderr


def test_a_checkout_has_the_site_beside_the_package(installation: Installation) -> None:
    write(installation.packaged)
    write(installation.built)
    (installation.directory / "mkdocs.yml").touch()
    done = installation.docs("--print")
    assert (done.returncode, done.stdout) == (0, f"{installation.built}\n"), done.stderr


@pytest.mark.skipif(os.name != "posix", reason="the browser is a shell script")
def test_the_site_is_opened_in_the_browser(installation: Installation) -> None:
    write(installation.packaged)
    browser = installation.directory / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{installation.directory}/opened"\n')
    browser.chmod(0o755)
    link = Path("/tmp") / f"beray-browser-{os.getpid()}"  # the variable splits at spaces
    link.symlink_to(browser)
    try:
        done = installation.docs(browser=f"{link} %s")
    finally:
        link.unlink()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    opened = (installation.directory / "opened").read_text()
    assert opened == f"{installation.packaged.as_uri()}\n"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these always have a browser")
def test_without_a_browser_the_path_is_printed(installation: Installation) -> None:
    write(installation.packaged)
    done = installation.docs()
    assert (done.returncode, done.stdout) == (0, f"{installation.packaged}\n"), done.stderr
