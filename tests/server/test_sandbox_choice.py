"""Choice of the sandbox if bubblewrap works, is missing, is denied by the kernel, or fails."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from beray.server.sandbox import bubblewrap, detection, probe
from beray.server.sandbox.probe import Decision
from beray.server.sandbox.sandbox import Sandbox, SandboxUnavailable
from beray.server.settings import Settings
from beray.testing import RunningServer
from beray.testing.server import FORKER
from tests.support import done, text, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap exists on Linux only")

BWRAP = shutil.which("bwrap")
DENIED = [
    "No permissions to creating new namespace, likely because the kernel does not allow "
    "non-privileged user namespaces. On e.g. debian this can be enabled with 'sysctl "
    "kernel.unprivileged_userns_clone=1'.",
    "No permissions to create new namespace, likely because the kernel does not allow "
    "non-privileged user namespaces.",
    "Creating new namespace failed, likely because the kernel does not support user namespaces. "
    "bwrap must be installed setuid on such systems.",
    "Creating new namespace failed: Operation not permitted",
    "Creating new namespace failed: Invalid argument",
    "setting up uid map: Permission denied",
    "loopback: Failed RTM_NEWADDR: Operation not permitted",
    "Can't mount proc on /newroot/proc: Operation not permitted",
    "Failed to make / slave: Permission denied",
    "pivot_root: Operation not permitted",
    "Unexpected capabilities but not setuid, old file caps config?",
]
FAILED = {
    "full disk": "echo 'bwrap: Can'\\''t mkdir /newroot/tmp: No space left on device' >&2; exit 1",
    "open files": "echo 'bwrap: eventfd(): Too many open files' >&2; exit 1",
    "memory": "echo 'bwrap: Creating new namespace failed: Cannot allocate memory' >&2; exit 1",
    "processes": "echo 'bwrap: Creating new namespace failed: Resource temporarily unavailable'"
    " >&2; exit 1",
    "namespaces": "echo 'bwrap: Creating new namespace failed: nesting depth or"
    " /proc/sys/user/max_*_namespaces exceeded (ENOSPC)' >&2; exit 1",
    "a path": "echo 'bwrap: Can'\\''t bind mount /oldroot/usr on /newroot/usr: Permission denied'"
    " >&2; exit 1",
    "a library": "echo 'bwrap: error while loading shared libraries: libcap.so.2' >&2; exit 127",
    "a message of another program": "echo 'setting up uid map: Permission denied'; exit 1",
    "an earlier line": "echo 'bwrap: setting up uid map: Permission denied'; echo 'bwrap: EIO';"
    " exit 1",
    "a signal": "kill -9 $$",
    "silence": "exit 0",
    "a hang": "exec sleep 600",
}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "RETRY_SECONDS", 0.01)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a program that is found as ``bwrap``, and that the test writes.

    It runs as the user of the tests, so that it can write to their directories.
    """
    monkeypatch.setattr(detection, "own_uids", lambda _settings: None)
    # The result is cached for the process. It must not come from the fake program.
    bubblewrap.can_disable_userns()
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "bwrap"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def settings_of(tmp_path: Path, setting: str, *, shared: bool) -> Settings:
    settings = Settings.model_validate({"data_dir": tmp_path / "data", "sandbox": setting})
    settings.set_listener("0.0.0.0" if shared else "127.0.0.1", embedded=False)
    return settings


async def decisions(tmp_path: Path) -> dict[str, Decision]:
    found = {}
    for setting in ("auto", "bubblewrap"):
        for shared in (False, True):
            settings = settings_of(tmp_path, setting, shared=shared)
            kind = "shared" if shared else "personal"
            found[f"{setting} {kind}"] = await detection.decide(settings)
    return found


def only_personal_without_isolation(found: dict[str, Decision]) -> bool:
    kinds = {name: decision.kind for name, decision in found.items()}
    return kinds.pop("auto personal") == "none" and set(kinds.values()) == {None}


@pytest.mark.parametrize("message", DENIED)
async def test_a_denial_of_the_kernel_selects_none_on_a_personal_server_only(
    message: str, fake: Path, tmp_path: Path
) -> None:
    write(fake, f"cat >&2 <<'END'\nbwrap: {message}\nEND\nexit 1")
    found = await decisions(tmp_path)
    assert only_personal_without_isolation(found)
    problems = {decision.problem or "" for decision in found.values()}
    assert all(message in problem and "user namespaces" in problem for problem in problems)
    assert "BERAY_SANDBOX=none" in (found["auto shared"].problem or "")


@pytest.mark.parametrize("how", FAILED)
async def test_no_other_failure_selects_none(
    how: str, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "a hang":
        monkeypatch.setattr(detection, "PROBE_SECONDS", 0.2)
    calls = tmp_path / "calls"
    write(fake, f"echo called >> {calls}\n{FAILED[how]}")
    settings = settings_of(tmp_path, "auto", shared=False)
    decision = await detection.decide(settings)
    assert decision.kind is None
    assert "bubblewrap could not be tested: " in (decision.problem or "")
    assert "BERAY_SANDBOX=none" in (decision.problem or "")
    if how != "a hang":
        assert calls.read_text() == "called\n" * probe.ATTEMPTS
    with pytest.raises(SandboxUnavailable, match="could not be tested"):
        await Sandbox.detect(settings)


async def test_a_missing_program_selects_none_on_a_personal_server_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await decisions(tmp_path)
    assert only_personal_without_isolation(found)
    problem = found["auto shared"].problem or ""
    assert "bwrap is not installed" in problem
    assert "Install the package bubblewrap, or set BERAY_SANDBOX=none" in problem


@pytest.mark.parametrize("shared", [False, True])
async def test_an_operator_can_disable_the_sandbox(
    shared: bool, fake: Path, tmp_path: Path
) -> None:
    write(fake, f"touch {tmp_path}/called")
    decision = await detection.decide(settings_of(tmp_path, "none", shared=shared))
    assert decision.kind == "none"
    assert not (tmp_path / "called").exists()


needs_bubblewrap = pytest.mark.skipif(BWRAP is None, reason="bubblewrap is not installed")


@needs_bubblewrap
async def test_a_temporary_failure_is_ignored(fake: Path, tmp_path: Path) -> None:
    fails_twice = (
        f"echo called >> {tmp_path}/calls; [ $(wc -l < {tmp_path}/calls) -gt 2 ] || exit 1"
    )
    write(fake, f'{fails_twice}\nexec {BWRAP} "$@"')
    decision = await detection.decide(settings_of(tmp_path, "auto", shared=True))
    assert decision == Decision("bubblewrap")


@needs_bubblewrap
@pytest.mark.parametrize("limit", ["-n 4", "-v 3000"])
async def test_real_bubblewrap_without_resources_does_not_select_none(
    limit: str, fake: Path, tmp_path: Path
) -> None:
    write(fake, f'ulimit {limit}; exec {BWRAP} "$@"')
    decision = await detection.decide(settings_of(tmp_path, "auto", shared=False))
    assert decision.kind is None, decision


@pytest.fixture
def without_proc() -> str:
    """Return a command line in which /proc cannot be mounted because a part of it is covered.

    This is the case in many containers.
    """
    cover = 'mount -t tmpfs t /proc/irq && exec "$@"'
    wrapper = f"unshare --user --map-root-user --mount sh -c '{cover}' sh"
    if subprocess.run(f"{wrapper} true", shell=True, capture_output=True).returncode:
        pytest.skip("no mount namespace can be created here")
    return wrapper


@needs_bubblewrap
async def test_real_bubblewrap_that_the_kernel_denies_selects_none(
    without_proc: str, fake: Path, tmp_path: Path
) -> None:
    write(fake, f'exec {without_proc} {BWRAP} "$@"')
    assert only_personal_without_isolation(await decisions(tmp_path))


@needs_bubblewrap
async def test_a_server_without_free_descriptors_does_not_select_none(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    settings = settings_of(tmp_path, "auto", shared=False)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    kinds = set()
    with ExitStack() as closing:
        # No descriptor below the limit is free.
        while (filler := os.open(os.devnull, os.O_RDONLY)) < highest:
            closing.callback(os.close, filler)
        os.close(filler)
        for more in range(1, 24):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, limits[1]))
            try:
                kinds.add((await detection.decide(settings)).kind)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert kinds == {None, "bubblewrap"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    with pytest.raises(OSError):
        (disk / "more").mkdir()
        (disk / "more/file").write_bytes(bytes(4096))


@needs_bubblewrap
async def test_a_full_disk_does_not_affect_the_choice(small_disk: Path) -> None:
    fill(small_disk)
    settings = settings_of(small_disk, "auto", shared=False)
    assert await detection.decide(settings) == Decision("bubblewrap")


@needs_bubblewrap
def test_a_server_on_a_full_disk_isolates_commands_or_does_not_start(
    small_disk: Path, tmp_path: Path
) -> None:
    goal = "!ls / | grep -c workspace"
    with RunningServer.start(small_disk / "data", BERAY_RESERVE_BYTES="1048576") as server:
        client = server.sign_up()
        assert text(done(client, goal)) == "1\n"
        server.stop()
        fill(small_disk)
        log = tmp_path / "log"
        options = ["--port", "0", "--data-dir", str(server.data_dir)]
        process = FORKER.start(options, dict(os.environ), log)
        try:
            until(lambda: process.poll() is not None or '"serving"' in log.read_text())
            assert '"sandbox: bubblewrap"' in log.read_text() or process.poll() == 1
            assert "sandbox: none" not in log.read_text()
        finally:
            process.kill()
            process.wait()
        (small_disk / "filler").unlink()
        server.restart()
        assert text(done(client, goal)) == "1\n"
