"""Report for the operator at the start, and by ``beray serve --check``."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beray import local_server
from beray.server import startup_report
from beray.server.connections.open_files import OpenFiles
from beray.server.sandbox.network_policy import NetworkState
from beray.server.sandbox.probe import Decision
from beray.server.settings import Settings
from beray.server.startup_report import Finding, StartupReport
from beray.testing import RunningServer
from beray.testing.server import free_port
from tests.support import until

ISOLATED = Decision("bubblewrap")
OWN_NETWORK = NetworkState("own")
NAMES = ["user", "sandbox", "network", "data directory", "secrets", "registration",
         "mail", "proxy", "open files"]  # fmt: skip
MAIL = {"smtp_host": "smtp.example"}
PROXIED = {"public_url": "https://beray.example", "trusted_proxies": "192.0.2.1"}


def settings_of(tmp_path: Path, *, shared: bool, **values: Any) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", **values)
    settings.set_listener("192.0.2.7" if shared else "127.0.0.1", embedded=False)
    return settings


def warned(report: StartupReport) -> set[str]:
    """Return the names of findings with a warning, except for the user: tests may run as root."""
    return {found.name for found in report.findings if found.warning} - {"user"}


@pytest.mark.parametrize(
    ("shared", "values", "decision", "names"),
    [
        (False, {}, ISOLATED, set()),
        (False, {"sandbox": "none"}, Decision("none", "Off."), {"sandbox"}),
        (False, {}, Decision(None, "Broken."), {"sandbox"}),
        (True, {}, ISOLATED, {"mail", "proxy"}),
        (True, MAIL | PROXIED | {"sandbox_network": "never"}, ISOLATED, set()),
        (True, MAIL | PROXIED | {"sandbox_network": "always"}, ISOLATED, set()),
        (True, MAIL | {"public_url": "http://x", "sandbox_network": "never"}, ISOLATED, {"proxy"}),
        (
            True,
            MAIL | PROXIED | {"sandbox_network": "never", "smtp_security": "none"},
            ISOLATED,
            {"mail"},
        ),
    ],
)
def test_properties_that_should_be_changed(
    tmp_path: Path, shared: bool, values: dict[str, Any], decision: Decision, names: set[str]
) -> None:
    settings = settings_of(tmp_path, shared=shared, **values)
    report = startup_report.collect(settings, "http://192.0.2.7:8000", decision, OWN_NETWORK)
    assert [found.name for found in report.findings] == NAMES
    assert warned(report) == names
    assert report.heading.startswith("BeRay ")
    assert ("shared server" if shared else "personal server") in report.heading


def test_variables_that_count_as_secrets_are_listed() -> None:
    found = startup_report.secrets({"OPENAI_API_KEY": "sk-123456", "GIT_AUTHOR_NAME": "Ada"})
    assert found.value == "redacted in events: OPENAI_API_KEY"
    assert "no variable" in startup_report.secrets({"MODEL": "production"}).value


def test_a_server_of_root_gets_a_warning() -> None:
    assert "root" in (startup_report.user(0).warning or "")
    assert startup_report.user(65534).warning is None
    assert startup_report.user(2**31 - 7).value.startswith(f"{2**31 - 7} (")


@pytest.mark.parametrize(("limit", "warns"), [(4095, True), (4096, False)])
def test_a_low_open_file_limit_gets_a_warning(limit: int, warns: bool) -> None:
    found = startup_report.descriptors(OpenFiles(limit, 1000))
    assert (found.warning is not None) == warns


@pytest.mark.parametrize(
    ("state", "policy", "warns"),
    [
        (OWN_NETWORK, "task", False),
        (NetworkState("unavailable", "slirp4netns is not installed"), "task", True),
        (NetworkState("host", "slirp4netns is not installed"), "always", True),
        (NetworkState("unavailable", "slirp4netns is not installed"), "never", False),
    ],
)
def test_a_network_that_is_not_available_gets_a_warning(
    tmp_path: Path, state: NetworkState, policy: str, warns: bool
) -> None:
    settings = settings_of(tmp_path, shared=True, sandbox_network=policy)
    assert (startup_report.network(settings, ISOLATED, state).warning is not None) == warns


def test_a_proxy_on_this_host_that_is_not_trusted_gets_a_warning(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, shared=False, public_url="https://beray.example")
    assert settings.shared
    found = startup_report.proxy(settings, "http://127.0.0.1:8000")
    assert "BERAY_TRUSTED_PROXIES" in (found.warning or "")


def test_problems_of_the_data_directory(tmp_path: Path) -> None:
    missing = tmp_path / "a/b"
    assert startup_report.data_directory(missing, 0).value.endswith("does not exist yet")
    assert not (tmp_path / "a").exists()
    tmp_path.chmod(0o777)
    assert "chmod go-w" in (startup_report.data_directory(tmp_path, 16 * 1024**2).warning or "")
    tmp_path.chmod(0o700)
    assert startup_report.data_directory(tmp_path, 16 * 1024**2).warning is None
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        assert "not a directory" in (startup_report.data_directory(path, 0).warning or "")


def test_the_text_fits_a_terminal_and_has_no_control_characters() -> None:
    long = Finding("data directory", "/a\x1b[2J/" + "word " * 40, "change " * 30)
    lines = startup_report.as_text(
        StartupReport("BeRay", (long, Finding("mail", "none")))
    ).splitlines()
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    assert [line[18:].startswith(" ") for line in lines[1:-1]] == [False] * (len(lines) - 2)
    assert lines[-1] == "1 property should be changed (!)."
    good = StartupReport("BeRay", (Finding("mail", "none"),))
    assert startup_report.as_text(good).endswith("Nothing needs to be changed.")


def report_lines(log: str) -> list[str]:
    """Return the lines of the only report in a server's log."""
    assert log.count("BeRay 0.") == 1, log
    lines = log[log.index("BeRay 0.") :].splitlines()
    end = next(n for n, line in enumerate(lines) if "to be changed" in line or "(!)." in line)
    return lines[: end + 1]


def names_in(lines: list[str]) -> list[str]:
    return [found[1] for line in lines if (found := re.match(r"  (\w+(?: \w+)?)  ", line))]


def test_a_server_reports_once_when_it_starts(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        until(lambda: '"serving"' in server.log.read_text())
        until(lambda: "hanged" in server.log.read_text())
        lines = report_lines(server.log.read_text())
        assert f"personal server on {server.url}" in lines[0]
        assert names_in(lines) == NAMES


def test_the_embedded_server_writes_the_report_to_its_log(own_home: Path) -> None:
    local_server.ensure()
    lines = report_lines((own_home / "beray/server/server.log").read_text())
    assert "personal server" in lines[0] and names_in(lines) == NAMES


def check(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "beray.cli", "serve", "--check", *options],
        env=os.environ | environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): f"{path.lstat().st_mode} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in directory.rglob("*")
    }


def test_a_check_beside_a_running_server_changes_nothing(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        until(lambda: "hanged" in server.log.read_text())
        port = server.url.rpartition(":")[2]
        before = contents(tmp_path)
        found = check("--port", port, "--data-dir", str(server.data_dir))
        assert contents(tmp_path) == before
        assert found.stderr == ""
        assert names_in(found.stdout.splitlines()) == NAMES
        assert server.sign_up().list_tasks() == []


def test_a_check_does_not_create_the_data_directory(tmp_path: Path) -> None:
    check("--data-dir", str(tmp_path / "new/data"), "--port", str(free_port()))
    assert not (tmp_path / "new").exists()


def test_the_exit_status_of_a_check(tmp_path: Path) -> None:
    options = ("--data-dir", str(tmp_path / "data"))
    bad = check(*options, "--host", "0.0.0.0")
    assert bad.returncode == 1
    assert "BERAY_SMTP_HOST" in bad.stdout and "(!)." in bad.stdout
    wrong = check(*options, BERAY_SLOTS="none")
    assert wrong.returncode == 1 and "BERAY_SLOTS" in wrong.stderr
    without = check(*options, BERAY_SANDBOX="none")
    assert without.returncode == 1 and "BERAY_SANDBOX=none" in without.stdout
    good = check(*options)
    changes = os.geteuid() == 0 or shutil.which("bwrap") is None
    assert good.returncode == (1 if changes else 0), good.stdout


def test_a_check_reports_why_a_server_cannot_start(tmp_path: Path) -> None:
    found = check("--data-dir", str(tmp_path / "data"), "--host", "0.0.0.0", PATH=str(tmp_path))
    assert found.returncode == 1
    assert "does not start" in found.stdout
    assert "Install the package bubblewrap" in " ".join(found.stdout.split())
    assert "slirp4netns" not in found.stdout
    assert "not sandboxed" not in found.stdout
