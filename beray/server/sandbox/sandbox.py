"""Where commands run: in bubblewrap where it works, else merely supervised.

Either way a small supervisor stands between the server and the command. It holds one
end of a pipe; when the server closes the other, or dies, the whole process tree of
the command goes.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server import folders
from beray.server.disk_usage import USAGE_FILE, DiskLimits
from beray.server.quota import DiskSpace
from beray.server.sandbox import bubblewrap, network_policy, relay
from beray.server.sandbox.bubblewrap import INSIDE, PATH, Bind
from beray.server.sandbox.launcher import cgroup
from beray.server.sandbox.network_policy import (
    NO_NETWORK,
    CommandNetwork,
    GatewayRelay,
    NetworkState,
)
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
NOT_PERMITTED: Final = 126
"""Exit status of the launcher if this user may not create network namespaces."""
_LAUNCHER: Final = Path(__file__).with_name("launcher")

_TASK_RUNNERS: Final = ("shell", "model", "acp", "command")
"""Runners whose commands have the network that the task asks for."""

Kind = Literal["bubblewrap", "none"]

log = structlog.get_logger("beray.sandbox")


class SandboxUnavailable(Exception):
    """The owner wants bubblewrap, and it does not work here."""


class NetworkRefused(OSError):
    """A command needs a network that it cannot have; ``strerror`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)


class Sandbox:
    """Starts commands. ``kind`` says what holds them, ``network`` how they are connected.

    Args:
        network: state that ``detect`` has found; None: as far as files of this host tell it.
    """

    def __init__(self, kind: Kind, settings: Settings, network: NetworkState | None = None) -> None:
        self.kind = kind
        self.network = network or network_policy.find(
            sandboxed=kind == "bubblewrap",
            shared=settings.shared,
            allow=settings.network_destinations(),
        )
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
        try:
            group = cgroup.prepare()
        except OSError as error:
            log.warning("the delegated cgroup cannot be used", problem=error.strerror)
        else:
            if group is not None:
                log.info("commands are limited by cgroups, too", folder=group)
        wanted = settings.sandbox
        problem = "turned off by the owner" if wanted == "none" else await sandboxed._problem()
        if problem is None:
            await sandboxed._detect_network()
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

    async def _detect_network(self) -> None:
        """Find out whether this user may create network namespaces; log what commands have."""
        if self.network.mode == "own":
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                async with self._supervised(
                    ["/bin/sh", "-c", ":"], Path(folder), _environment(folder), DEVNULL, PIPE,
                    network=CommandNetwork("own", public=True), scratch=folder,
                ) as process:  # fmt: skip
                    _, errors = await process.communicate()
            if process.returncode == NOT_PERMITTED:
                problem = errors.decode(errors="replace").strip()
                self.network = network_policy.not_permitted(problem, self._settings.shared)
            elif process.returncode:
                log.error(
                    "a command with a network could not be started",
                    problem=errors.decode(errors="replace").strip(),
                )
        if self.network.mode != "own":
            log.warning(f"task network: {self.network}")

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
        """Return True if a shell command has a network.

        Args:
            asked: whether its task asks for it.
        """
        if self.kind == "none":
            return True
        policy = self._settings.sandbox_network
        only_allowed = policy == "never" and bool(self._settings.network_destinations())
        return policy == "always" or (asked and (policy == "task" or only_allowed))

    def network_problem(self, runner: str | None, *, asked: bool) -> str | None:
        """Return why a task is refused because of its network, or None if it can run.

        Args:
            asked: whether the task asks for a network for its commands.
        """
        settings = self._settings
        forbidden = settings.sandbox_network == "never" and not settings.network_destinations()
        if asked and forbidden:
            return (
                "the task asks for network access (limits.network), which the operator of this "
                "server does not permit (BERAY_SANDBOX_NETWORK=never); create it without"
            )
        if self.network.mode != "refused":
            return None
        if runner in ("acp", "command") and settings.agent_network:
            return f"the agent needs a network. {self.network.reason}"
        if runner in _TASK_RUNNERS and self._is_public(asked):
            return f"the task needs a network. {self.network.reason}"
        return None

    def uses_host_network(self, runner: str | None, *, asked: bool) -> bool:
        """Return True if sandboxed commands of a task reach the services of this host."""
        if self.kind == "none" or self.network.mode != "host":
            return False
        if runner in ("acp", "command") and self._settings.agent_network:
            return True
        return runner in _TASK_RUNNERS and self._is_public(asked)

    def _is_public(self, asked: bool) -> bool:
        return self._settings.sandbox_network != "never" and self.reaches_network(asked=asked)

    def _command_network(
        self, *, wanted: bool, public: bool, gateway: GatewayRelay | None
    ) -> CommandNetwork:
        """Return the network of a command.

        Raises:
            NetworkRefused: it wants a network that it cannot have.
        """
        if self.kind == "none":
            return CommandNetwork("host", gateway=gateway)
        allow = tuple(self._settings.network_destinations()) if wanted else ()
        if wanted and public:
            if self.network.mode == "refused":
                raise NetworkRefused(self.network.reason)
            if self.network.mode == "host":
                return CommandNetwork("host", gateway=gateway)
            return CommandNetwork("own", True, allow, gateway)
        if allow or gateway is not None:
            return CommandNetwork("own", False, allow, gateway)
        return NO_NETWORK

    @asynccontextmanager
    async def process(
        self,
        command: Sequence[str],
        work_dir: Path,
        *,
        network: bool = False,
        gateway: GatewayRelay | None = None,
    ) -> AsyncIterator[Process]:
        """Run ``command`` with its output, both streams as one, on ``stdout``.

        On leaving, whatever of its process tree is left is dead.

        Args:
            network: whether it asks for a network; the policy for tasks decides.
            gateway: what it reaches the gateway by, also without a network. It finds the URL in
                ``BERAY_GATEWAY_URL`` and has to send the token.

        Raises:
            NetworkRefused: it cannot have the network that it asks for.
        """
        async with self._new_scratch(work_dir) as folder:
            connected = self._task_network(network, gateway)
            wrapped, environ = self._confined(command, work_dir, folder, connected)
            async with self._supervised(
                wrapped, work_dir, environ, DEVNULL, STDOUT, network=connected, scratch=folder
            ) as process:
                yield process

    @asynccontextmanager
    async def agent(
        self,
        command: Sequence[str],
        work_dir: Path,
        binds: Sequence[Bind],
        *,
        network: bool = False,
    ) -> AsyncIterator[Process]:
        """Run an agent of the owner's, with pipes for its three streams.

        It has the network and the variables that the owner gives to agents, and ``binds``.
        On leaving, whatever of its process tree is left is dead.

        Args:
            network: whether its task asks for a network, where agents have none.

        Raises:
            NetworkRefused: it cannot have a network.
        """
        settings = self._settings
        if settings.agent_network or not network:
            connected = self._command_network(
                wanted=settings.agent_network, public=True, gateway=None
            )
        else:
            connected = self._task_network(True, None)
        async with self._new_scratch(work_dir) as folder:
            environ = _environment("/tmp" if self.kind == "bubblewrap" else folder)
            environ |= settings.agent_environ()
            if self.kind == "bubblewrap":
                given = _bubblewrap(work_dir, folder, connected, binds)
                command = [*given, *command]
                if any((bind.inside or bind.path).startswith(HOME + "/") for bind in binds):
                    environ["HOME"] = HOME
            else:
                environ["HOME"] = HOME
            async with self._supervised(
                command, work_dir, environ, PIPE, PIPE, network=connected, scratch=folder
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
            network: whether it asks for a network.

        Raises:
            NetworkRefused: it cannot have the network that it asks for.
        """
        if (problem := self.network_problem("shell", asked=network)) is not None:
            raise NetworkRefused(problem)
        async with self._new_scratch(work_dir) as folder:
            connected = self._task_network(network, None)
            wrapped, environ = self._confined(command, work_dir, folder, connected, binds)
            async with self._supervised(
                wrapped, work_dir, environ, PIPE, PIPE, limits, network=connected, scratch=folder
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
            connected = self._task_network(network, None)
            wrapped, outer = self._confined(inner, work_dir, folder, connected)
            async with self._supervised(
                wrapped, work_dir, outer | given, PIPE, PIPE, network=connected, scratch=folder
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
        network: CommandNetwork,
        binds: Sequence[Bind] = (),
    ) -> tuple[Sequence[str], dict[str, str]]:
        """The command line and the variables of a command that is not the owner's."""
        if self.kind == "none":
            return command, _environment(scratch) | network.environ()
        given = _bubblewrap(work_dir, scratch, network, binds)
        return [*given, *command], _environment("/tmp") | {"PATH": PATH} | network.environ()

    def _task_network(self, asked: bool, gateway: GatewayRelay | None) -> CommandNetwork:
        wanted = self.reaches_network(asked=asked)
        return self._command_network(wanted=wanted, public=self._is_public(asked), gateway=gateway)

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
        scratch: str,
        network: CommandNetwork = NO_NETWORK,
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
            report = os.path.join(scratch, USAGE_FILE)
            spec: dict[str, object] = {
                "command": list(command),
                "limits": bounds,
                "report": report,
                "cgroup": cgroup.commands_folder(),
            }
            connecting = network.launcher_spec()
            if connecting is None:
                await _send_spec(ours, spec)
                yield process
            else:
                await _send_spec(ours, spec | {"network": connecting})
                async with relay.of_command(ours, network):
                    yield process
        finally:
            ours.close()
            await _end(process)


def _bubblewrap(
    work_dir: Path, scratch: str, network: CommandNetwork, binds: Sequence[Bind]
) -> list[str]:
    return bubblewrap.arguments(
        work_dir,
        Path(scratch),
        network=network.mode != "none",
        etc=network.etc_files(),
        binds=binds,
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
