"""Where a task's commands run: in bubblewrap where it works, else merely supervised.

Either way a small supervisor stands between the server and the command. It holds one
end of a pipe; when the server closes the other, or dies, the whole process tree of
the command goes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server import folders
from beray.server.settings import Settings

INSIDE: Final = "/workspace"
"""The work_dir as a sandboxed command sees it."""
PROBE_SECONDS: Final = 10.0
SWEEP_SECONDS: Final = 10.0
_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix")
_ETC: Final = (
    "alternatives", "ca-certificates", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "nsswitch.conf", "passwd", "pki", "ssl",
)  # fmt: skip
_ETC_NETWORK: Final = ("hosts", "resolv.conf", "services", "gai.conf")

log = structlog.get_logger("beray.sandbox")


class SandboxUnavailable(Exception):
    """The owner wants bubblewrap, and it does not work here."""


class Sandbox:
    """Starts commands. ``kind`` says what holds them: ``bubblewrap`` or ``none``."""

    def __init__(self, kind: Literal["bubblewrap", "none"], settings: Settings) -> None:
        self.kind = kind
        self._settings = settings
        self._scratch = settings.data_dir / "scratch"

    @classmethod
    async def detect(cls, settings: Settings) -> Sandbox:
        """Take bubblewrap if a real sandboxed command works.

        Whatever earlier runs have left in ``scratch/`` is removed.

        Raises:
            SandboxUnavailable: ``bubblewrap`` was wanted and does not work.
        """
        sandboxed = cls("bubblewrap", settings)
        await run_in_threadpool(folders.make_empty, sandboxed._scratch)
        wanted = settings.sandbox
        problem = "turned off by the owner" if wanted == "none" else await sandboxed._problem()
        if problem is None:
            log.info("sandbox: bubblewrap", network=settings.sandbox_network)
            return sandboxed
        if wanted == "bubblewrap":
            raise SandboxUnavailable(f"bubblewrap does not work here: {problem}")
        log.warning("sandbox: none; commands have the rights of the server", reason=problem)
        return cls("none", settings)

    async def _problem(self) -> str | None:
        """Why a command does not work in here; ``None`` where it does."""
        if shutil.which("bwrap") is None:
            return "bwrap is not installed"
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            command = ["/bin/sh", "-c", "echo works > probe && cat probe"]
            async with self.process(command, Path(folder)) as process:
                assert process.stdout is not None
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        said = await process.stdout.read()
                        await process.wait()
                except TimeoutError:
                    return f"no answer within {PROBE_SECONDS:g} s"
            if process.returncode == 0 and said == b"works\n":
                return None
            lines = said.decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else f"exit status {process.returncode}"

    @asynccontextmanager
    async def process(self, command: Sequence[str], work_dir: Path) -> AsyncIterator[Process]:
        """Run ``command`` with its output, both streams as one, on ``stdout``.

        On leaving, whatever of its process tree is left is dead.
        """
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as scratch:
            inner = (
                [*_bubblewrap(work_dir, network=self._settings.sandbox_network), *command]
                if self.kind == "bubblewrap"
                else list(command)
            )
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_SUPERVISOR), _limits(self._settings), *inner,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=work_dir,
                env=_environment(scratch),
                start_new_session=True,
            )  # fmt: skip
            try:
                yield process
            finally:
                await _end(process)


async def _end(process: Process) -> None:
    """Have the supervisor sweep, and wait until it has."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    waiting = asyncio.ensure_future(process.communicate())
    done, _ = await asyncio.wait([waiting], timeout=SWEEP_SECONDS)
    if not done:
        log.error("a command's processes could not be swept in time", pid=process.pid)
        process.kill()
        await waiting


def _limits(settings: Settings) -> str:
    """What the supervisor binds a command by."""
    limits = {
        "core": 0,
        "fsize": settings.task_max_file_bytes,
        "nofile": settings.task_max_open_files,
        "nproc": settings.task_max_processes,
    }
    return ",".join(f"{name}={value}" for name, value in limits.items())


def _environment(scratch: str) -> dict[str, str]:
    """Nothing of the server's own environment: it may hold secrets."""
    return {
        "PATH": os.environ.get("PATH", _PATH),
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def _bubblewrap(work_dir: Path, *, network: bool) -> list[str]:
    arguments = [
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
        "--hostname", "beray", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
        *_system_mounts(network),
        "--bind", str(work_dir), INSIDE, "--chdir", INSIDE,
        "--setenv", "PATH", _PATH, "--setenv", "HOME", "/tmp", "--setenv", "TMPDIR", "/tmp",
    ]  # fmt: skip
    if network:
        arguments.insert(2, "--share-net")
    return [*arguments, "--"]


def _system_mounts(network: bool) -> Iterator[str]:
    """The system's programs, read-only. Home folders and the server's data are not there."""
    for path in _SYSTEM:
        # Today's /bin is a link to usr/bin, and must be one inside as well.
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif os.path.isdir(path):
            yield from ("--ro-bind", path, path)
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
        if os.path.exists(f"/etc/{name}"):
            yield from ("--ro-bind", f"/etc/{name}", f"/etc/{name}")
