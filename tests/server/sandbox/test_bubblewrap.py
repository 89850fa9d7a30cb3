"""Command lines of bubblewrap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beray.server.sandbox import bubblewrap
from beray.server.sandbox.bubblewrap import CommandLine
from beray.server.setting_types.binds import Bind


def values_of(arguments: list[str], option: str) -> list[str]:
    return [arguments[i + 1] for i, argument in enumerate(arguments) if argument == option]


def test_sources_of_binds_are_staged_in_order() -> None:
    line = CommandLine(
        ["bwrap", "--ro-bind", "/usr", "/usr", "--tmpfs", "/a", "--bind", "b", "/b"], [], 1
    )
    arguments, sources = line.staged("/mnt")
    assert arguments == [
        "/mnt/0", "--ro-bind", "/mnt/1", "/usr", "--tmpfs", "/a", "--bind", "/mnt/2", "/b",
    ]  # fmt: skip
    assert sources == ["bwrap", "/usr", "b"]
    assert "/usr" in line.arguments


def test_settings_of_the_host_are_read_only_for_every_uid_of_the_server(tmp_path: Path) -> None:
    arguments = bubblewrap.command_line(tmp_path, tmp_path, network=False, etc={}).arguments
    assert {"/proc/sys", "/proc/irq"} <= set(values_of(arguments, "--ro-bind"))
    # They are mounted over the procfs of the sandbox, and therefore after it.
    assert arguments.index("--proc") < arguments.index("/proc/sys")
    assert not any(path.startswith("/sys") for path in arguments)


def test_a_command_with_its_own_uid_sees_no_accounts_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "set_owner", lambda _path, _uid: None)
    line = bubblewrap.command_line(tmp_path, tmp_path, network=True, etc={}, uid=70001)
    assert "/etc/passwd" not in values_of(line.arguments, "--ro-bind")
    numbers = [int(number) for option in ("--ro-bind-data", "--seccomp")
               for number in values_of(line.arguments, option)]  # fmt: skip
    assert sorted(numbers) == list(range(3, 3 + len(line.data)))
    assert any(b"beray:x:70001:70001:" in content for content in line.data)


def test_a_missing_path_is_not_bound(tmp_path: Path) -> None:
    bind = Bind(str(tmp_path / "nothing"))
    line = bubblewrap.command_line(tmp_path, tmp_path, network=False, etc={}, binds=[bind])
    assert bind.path not in line.arguments


def test_files_of_etc_are_written_instead_of_bound(tmp_path: Path) -> None:
    line = bubblewrap.command_line(tmp_path, tmp_path, network=True, etc={"resolv.conf": "x"})
    assert b"x" in line.data
    assert "/etc/resolv.conf" not in values_of(line.arguments, "--ro-bind")


def test_a_kernel_setting_that_restricts_user_namespaces_is_found(tmp_path: Path) -> None:
    assert bubblewrap.userns_restriction(tmp_path) is None
    (tmp_path / "kernel").mkdir()
    setting = tmp_path / "kernel/apparmor_restrict_unprivileged_userns"
    setting.write_text("0\n")
    assert bubblewrap.userns_restriction(tmp_path) is None
    setting.write_text("1\n")
    found = bubblewrap.userns_restriction(tmp_path)
    assert found == "kernel.apparmor_restrict_unprivileged_userns=1"


def test_user_namespaces_are_not_disabled_with_an_old_bwrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho usage: bwrap --unshare-user\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert bubblewrap.can_disable_userns.__wrapped__() is False
