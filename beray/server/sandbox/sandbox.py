"""Run commands: in bubblewrap, or merely supervised where no sandbox is possible.

Either way a small supervisor stands between the server and the command. It holds one
end of a pipe; when the server closes the other, or dies, the whole process tree of
the command goes.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.config import home
from beray.exceptions import ConfigurationError
from beray.server import folders
from beray.server.disk_usage import USAGE_FILE, DiskLimits
from beray.server.quota import DiskSpace
from beray.server.sandbox import bubblewrap, masking, probe
from beray.server.sandbox.bubblewrap import INSIDE, PATH, Bind
from beray.server.sandbox.interpreter import interpreter_binds, python_paths
from beray.server.sandbox.launcher import cgroup
from beray.server.sandbox.masking import PrivatePath, UnmaskableLayout
from beray.server.sandbox.probe import Decision, Failure, Kind
from beray.server.settings import Settings

PROBE_SECONDS: Final = 10.0
SWEEP_SECONDS: Final = 10.0
ARGUMENT_BYTES: Final = 128 * 1024
"""Limit of one argument, with its final NUL: MAX_ARG_STRLEN of execve(2) on Linux."""
FEWEST_PROCESSES: Final = 4096
"""The kernel counts the processes of a user, not of a command, and is told no less."""
FILE_MARGIN_BYTES: Final = 1024**2
"""How far one file may exceed the disk quota: the quota, not the file size, is to be reported."""
DESCRIPTORS_FACTOR: Final = 16
"""All processes of a command may have so many times as many open files as one process."""
HOME: Final = os.path.expanduser("~")
"""Where the agents of the owner have their own settings."""
_LAUNCHER: Final = Path(__file__).with_name("launcher")

log = structlog.get_logger("beray.sandbox")


class SandboxUnavailable(Exception):
    """Commands cannot be isolated as configured; the message names the cause and the next step."""


class Sandbox:
    """Starts commands.

    Attributes:
        kind: the isolation of commands.
        problem: the reason why it is not bubblewrap, with the next step.
    """

    def __init__(self, kind: Kind, settings: Settings, problem: str | None = None) -> None:
        self.kind = kind
        self.problem = problem
        self._settings = settings
        self._scratch = settings.data_dir / "scratch"

    @classmethod
    async def detect(cls, settings: Settings) -> Sandbox:
        """Return the sandbox for this server, with an empty ``scratch`` directory.

        Raises:
            SandboxUnavailable: commands cannot be isolated as ``settings`` require.
            OSError: the ``scratch`` directory cannot be emptied.
        """
        decision = await cls.decide(settings)
        if decision.kind is None:
            raise SandboxUnavailable(decision.problem)
        sandbox = cls(decision.kind, settings, decision.problem)
        await run_in_threadpool(folders.make_empty, sandbox._scratch)
        try:
            group = cgroup.prepare()
        except OSError as error:
            log.warning("the delegated cgroup cannot be used", problem=error.strerror)
        else:
            if group is not None:
                log.info("commands are limited by cgroups, too", folder=group)
        if decision.problem is None:
            log.info("sandbox: bubblewrap", network=settings.sandbox_network)
        else:
            reason = decision.problem
            log.warning("sandbox: none; commands have the rights of the server", reason=reason)
        return sandbox

    @classmethod
    async def decide(cls, settings: Settings) -> Decision:
        """Return which sandbox this server would use. Nothing is changed on disk."""
        if settings.sandbox == "none":
            return Decision(
                "none", "BERAY_SANDBOX=none turns it off. Unset it to isolate commands."
            )
        failure = probe.not_installed()
        if failure is None:
            try:
                check_layout(settings)
                failure = await cls("bubblewrap", settings)._failure()
            except UnmaskableLayout as error:
                return Decision(None, str(error))
        return probe.decide(settings, failure)

    async def _failure(self) -> Failure | None:
        """Run a command in each kind of sandbox, repeatedly if needed; None if that works.

        Raises:
            UnmaskableLayout: private data cannot be hidden from commands.
        """
        failure = await self._first_failure()
        for attempt in range(1, probe.ATTEMPTS):
            if failure is None or failure.permanent:
                break
            await asyncio.sleep(attempt * probe.RETRY_SECONDS)
            failure = await self._first_failure()
        return failure

    async def _first_failure(self) -> Failure | None:
        private = private_paths(self._settings)
        wrappers = [bubblewrap.arguments(None, None, network=False, private=private)]
        for binds in (self._settings.agent_binds(), interpreter_binds()):
            plain = bubblewrap.arguments(None, None, network=False, binds=binds)
            masked = bubblewrap.arguments(None, None, network=False, binds=binds, private=private)
            # Without masks of its own, this sandbox works if the first one does.
            if masked != plain:
                wrappers.append(masked)
        for wrapper in wrappers:
            failure = await self._probe(wrapper)
            if failure is not None:
                return failure
        return None

    async def _probe(self, wrapper: list[str]) -> Failure | None:
        """Run one command that needs no disk; None if it works."""
        command = [*wrapper, "/bin/sh", "-c", "echo works"]
        environ = _environment("/tmp") | {"PATH": PATH}
        try:
            async with self._supervised(command, Path("/"), environ, DEVNULL, STDOUT) as process:
                assert process.stdout is not None
                async with asyncio.timeout(PROBE_SECONDS):
                    output = await process.stdout.read()
                    status = await process.wait()
        except TimeoutError:
            return Failure(f"bubblewrap could not be tested: no answer in {PROBE_SECONDS:g} s")
        except OSError as error:
            return Failure(f"bubblewrap could not be tested: {error.strerror}")
        if status == 0 and output == b"works\n":
            return None
        return probe.classify(status, output.decode(errors="replace"))

    def inside(self, work_dir: Path) -> str:
        """The path of ``work_dir`` as a command sees it."""
        return INSIDE if self.kind == "bubblewrap" else str(work_dir)

    def scratch_of(self, work_dir: Path) -> list[Path]:
        """Where the commands that run for a work_dir have their ``/tmp``."""
        return list(self._scratch.glob(f"{work_dir.name}-*"))

    def disk_space(self, work_dir: Path) -> DiskSpace:
        """Return the quota of a work_dir, which its commands' scratch folders count against."""
        limits = DiskLimits(self._settings.work_dir_bytes, self._settings.work_dir_files)
        return DiskSpace(work_dir, limits, lambda: self.scratch_of(work_dir))

    def reaches_network(self, *, asked: bool) -> bool:
        """Whether a shell command does; ``asked``: its task wants it to."""
        policy = self._settings.sandbox_network
        return self.kind == "none" or policy == "always" or (policy == "task" and asked)

    @asynccontextmanager
    async def process(
        self, command: Sequence[str], work_dir: Path, *, network: bool = False
    ) -> AsyncIterator[Process]:
        """Run ``command`` with its output, both streams as one, on ``stdout``.

        On leaving, whatever of its process tree is left is dead.
        """
        async with self._new_scratch(work_dir) as folder:
            wrapped, environ = self._confined(command, work_dir, folder, network)
            async with self._supervised(
                wrapped, work_dir, environ, DEVNULL, STDOUT, scratch=folder
            ) as process:
                yield process

    @asynccontextmanager
    async def agent(
        self, command: Sequence[str], work_dir: Path, binds: Sequence[Bind]
    ) -> AsyncIterator[Process]:
        """Run an agent of the owner's, with pipes for its three streams.

        It has the network and the variables that the owner gives to agents, and ``binds``.
        On leaving, whatever of its process tree is left is dead.
        """
        settings = self._settings
        async with self._new_scratch(work_dir) as folder:
            environ = _environment("/tmp" if self.kind == "bubblewrap" else folder)
            environ |= settings.agent_environ()
            if self.kind == "bubblewrap":
                given = bubblewrap.arguments(
                    work_dir,
                    Path(folder),
                    network=settings.agent_network,
                    binds=binds,
                    private=private_paths(settings),
                )
                command = [*given, *command]
                if any((bind.inside or bind.path).startswith(HOME + "/") for bind in binds):
                    environ["HOME"] = HOME
            else:
                environ["HOME"] = HOME
            async with self._supervised(
                command, work_dir, environ, PIPE, PIPE, scratch=folder
            ) as process:
                yield process

    @asynccontextmanager
    async def function(
        self,
        command: Sequence[str],
        work_dir: Path,
        binds: Sequence[Bind],
        limits: Mapping[str, int],
        *,
        network: bool,
    ) -> AsyncIterator[Process]:
        """Run a program that calls a function of somebody's, with pipes for its three streams.

        It finds the system's programs, ``binds`` and the work_dir. On leaving, whatever of its
        process tree is left is dead.

        Args:
            limits: as the supervisor takes them, instead of those of tasks.
            network: it asks for the network, which it has where the policy for tasks says so.
        """
        async with self._new_scratch(work_dir) as folder:
            wrapped, environ = self._confined(command, work_dir, folder, network, binds)
            async with self._supervised(
                wrapped, work_dir, environ, PIPE, PIPE, limits, scratch=folder
            ) as process:
                yield process

    @asynccontextmanager
    async def program(
        self, command: Sequence[str], work_dir: Path, environ: dict[str, str]
    ) -> AsyncIterator[Process]:
        """Run a program of the owner's beside a task, with pipes for its three streams.

        It has the rights of the server, but of its variables only ``PATH``; its folder
        and its home are empty. On leaving, whatever is left of its process tree is dead.
        """
        async with self._new_scratch(work_dir) as folder:
            given = _environment(folder) | environ
            async with self._supervised(
                command, Path(folder), given, PIPE, PIPE, scratch=folder
            ) as process:
                yield process

    @asynccontextmanager
    async def user_program(
        self, command: Sequence[str], work_dir: Path, environ: Mapping[str, str], *, network: bool
    ) -> AsyncIterator[Process]:
        """Run a program that a user supplies, with pipes for its three streams.

        It is confined as the task's commands are, and starts in the work_dir. When the block is
        left, its whole process tree has ended.

        Args:
            environ: further variables. They are set inside the sandbox: what starts it must not
                see variables such as ``LD_PRELOAD``.
            network: whether it asks for the network.
        """
        async with self._new_scratch(work_dir) as folder:
            inner, given = _with_variables(command, environ)
            wrapped, outer = self._confined(inner, work_dir, folder, network)
            async with self._supervised(
                wrapped, work_dir, outer | given, PIPE, PIPE, scratch=folder
            ) as process:
                yield process

    @asynccontextmanager
    async def _new_scratch(self, work_dir: Path) -> AsyncIterator[str]:
        folder = tempfile.mkdtemp(dir=self._scratch, prefix=f"{work_dir.name}-")
        try:
            yield folder
        finally:
            # Whoever is cancelled meanwhile leaves it to its thread.
            await asyncio.shield(run_in_threadpool(_removed, Path(folder)))

    def _confined(
        self,
        command: Sequence[str],
        work_dir: Path,
        scratch: str,
        network: bool,
        binds: Sequence[Bind] = (),
    ) -> tuple[Sequence[str], dict[str, str]]:
        """The command line and the variables of a command that is not the owner's."""
        if self.kind == "none":
            return command, _environment(scratch)
        networked = self.reaches_network(asked=network)
        given = bubblewrap.arguments(
            work_dir,
            Path(scratch),
            network=networked,
            binds=binds,
            private=private_paths(self._settings),
        )
        return [*given, *command], _environment("/tmp") | {"PATH": PATH}

    @asynccontextmanager
    async def _supervised(
        self,
        command: Sequence[str],
        work_dir: Path,
        environ: dict[str, str],
        stdin: int,
        stderr: int,
        limits: Mapping[str, int] | None = None,
        *,
        scratch: str | None = None,
    ) -> AsyncIterator[Process]:
        if any(len(os.fsencode(argument)) >= ARGUMENT_BYTES for argument in command):
            # The launcher would find this out too late for a caller to use standard input.
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        bounds = _limits(self._settings) | dict(limits or {})
        theirs, ours = socket.socketpair()
        try:
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_LAUNCHER), str(theirs.fileno()),
                stdin=stdin, stdout=PIPE, stderr=stderr,
                cwd=work_dir, env=environ, start_new_session=True, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            report = None if scratch is None else os.path.join(scratch, USAGE_FILE)
            spec: dict[str, object] = {
                "command": list(command),
                "limits": bounds,
                "report": report,
                "cgroup": cgroup.commands_folder(),
            }
            await _send_spec(ours, spec)
            yield process
        finally:
            ours.close()
            await _end(process)


def check_layout(settings: Settings) -> None:
    """Reject settings with which private data would be visible to sandboxed commands.

    Raises:
        UnmaskableLayout: the message names the path, the reason and the next step.
    """
    if settings.sandbox == "none" or probe.not_installed() is not None:
        return
    private = private_paths(settings)
    masking.check(python_paths(), private)
    for binds in ([], settings.agent_binds(), interpreter_binds()):
        bubblewrap.arguments(None, None, network=True, binds=binds, private=private)


def private_paths(settings: Settings) -> list[PrivatePath]:
    """Return the paths that no command may see, apart from its own directories.

    These are the data directory, and the user's own directory with sign-ins and the data of
    other servers. If commands need something from the latter, only the data directories in it
    are private.
    """
    try:
        user_dir = home()
    except ConfigurationError:  # the server's user has no home
        user_dir = settings.data_dir
    needed = [*bubblewrap.NEEDED, *settings.agent_binds(), *python_paths()]
    real = masking.real_path(user_dir)
    is_needed = any(masking.is_at_or_below(masking.real_path(bind.path), real) for bind in needed)
    others = [user_dir / "server", user_dir / "serve"] if is_needed else [user_dir]
    remedy = "choose another data directory (--data-dir, BERAY_HOME)"
    own = (settings.data_dir, "the data directory", remedy)
    remedy = "set BERAY_HOME to another directory"
    return masking.private_paths(
        [own, *((path, "the user's BeRay directory", remedy) for path in others)]
    )


async def _send_spec(control: socket.socket, spec: dict[str, object]) -> None:
    """Send the launcher its message; a launcher that has already ended is found by its status."""
    # json escapes lone surrogates, so undecodable bytes of a path survive.
    data = json.dumps(spec).encode()
    with suppress(BrokenPipeError, ConnectionResetError):
        await asyncio.get_running_loop().sock_sendall(control, len(data).to_bytes(4, "big") + data)


async def _end(process: Process) -> None:
    """Wait until the supervisor has swept."""
    waiting = asyncio.ensure_future(process.communicate())
    done, _ = await asyncio.wait([waiting], timeout=SWEEP_SECONDS)
    if not done:
        log.error("a command's processes could not be swept in time", pid=process.pid)
        process.kill()
        await waiting


def _removed(folder: Path) -> None:
    try:
        folders.remove(folder)
    except OSError as error:
        log.error("the scratch folder of a command is left over", exc_info=error)


def _limits(settings: Settings) -> dict[str, int]:
    """What the supervisor binds a command by."""
    return {
        "core": 0,
        # What one file takes by itself beyond the quota would be written for nothing.
        "fsize": min(settings.task_max_file_bytes, settings.work_dir_bytes + FILE_MARGIN_BYTES),
        "nofile": settings.task_max_open_files,
        "nproc": max(settings.task_max_processes, FEWEST_PROCESSES),
        "processes": settings.task_max_processes,
        "memory": settings.task_max_memory_bytes,
        "disk": settings.work_dir_bytes,
        "descriptors": DESCRIPTORS_FACTOR * settings.task_max_open_files,
    }


def _with_variables(
    command: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return a command that sets variables itself, and the environment it takes them from.

    Each assignment travels as the value of a variable with a harmless name. Arguments would be
    visible to other users of the host.
    """
    if not environ:
        return list(command), {}
    carried = {
        f"BERAY_VARIABLE_{number}": f"{name}={value}"
        for number, (name, value) in enumerate(environ.items())
    }
    script = "; ".join([f'export "${name}"; unset {name}' for name in carried] + ['exec "$@"'])
    return ["/bin/sh", "-c", script, "sh", *command], carried


def _environment(home: str) -> dict[str, str]:
    """Nothing of the server's own environment: it may hold secrets."""
    return {
        "PATH": os.environ.get("PATH", PATH),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


__all__ = ["INSIDE", "Bind", "Kind", "Sandbox", "SandboxUnavailable"]
