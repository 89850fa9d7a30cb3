"""Execution of commands in bubblewrap, or without a sandbox but supervised.

If the server is root, bubblewrap runs under the uid that owns the command's work_dir, which
is the uid of its user (``uid_of``). The launcher, which supervises it, stays root.
"""

from __future__ import annotations

import os
import tempfile
from asyncio import shield
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.sandbox import bubblewrap, detection, network_policy
from beray.server.sandbox.bubblewrap import INSIDE, PATH, CommandLine
from beray.server.sandbox.launcher import cgroup, leftovers
from beray.server.sandbox.launching import SupervisedCommand, environment, run_supervised
from beray.server.sandbox.layout import private_paths
from beray.server.sandbox.network_policy import CommandNetwork, GatewayRelay, NetworkState
from beray.server.sandbox.probe import Kind
from beray.server.sandbox.task_networks import NetworkUnavailable, TaskNetworks
from beray.server.setting_types import uids
from beray.server.setting_types.binds import Bind
from beray.server.settings import Settings
from beray.server.workspace import tree
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.disk_usage import DiskLimits
from beray.server.workspace.ownership import set_owner

MIN_NPROC: Final = 4096
"""Minimum value of RLIMIT_NPROC, because the kernel counts all processes of a user, not only those
of a command."""
FILE_MARGIN_BYTES: Final = 1024**2
"""Bytes by which one file may exceed the disk quota, so that the quota is reported instead of the
file size limit."""
DESCRIPTORS_FACTOR: Final = 16
"""Limit of open files of all processes of a command, as a multiple of that of one process."""
HOME: Final = os.path.expanduser("~")  # noqa: PTH111 - does not raise
"""Directory in which the operator's agents have their settings."""

log = structlog.get_logger("beray.sandbox")


class SandboxUnavailable(Exception):
    """Commands cannot be isolated as configured; the message names the cause and the next step."""


class Sandbox:
    """Starts commands, isolated as this server and its host allow.

    Each method that runs a command is a context manager. The command has a pipe for its output;
    on leaving, its whole process tree has ended.

    Args:
        kind: Isolation of commands.
        settings: Settings of the server.
        problem: Reason why ``kind`` is not ``bubblewrap``, with the next step.
        network: Result of ``detection.find_network``; None determines it without a probe.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        settings: Settings,
        problem: str | None = None,
        network: NetworkState | None = None,
    ) -> None:
        self.kind = kind
        self.problem = problem
        sandboxed = kind == "bubblewrap"
        network = network or network_policy.find_state(
            sandboxed=sandboxed, shared=settings.shared, allow=settings.network_destinations()
        )
        self.networks = TaskNetworks(settings=settings, state=network, sandboxed=sandboxed)
        self._settings = settings
        self._scratch = settings.data_dir / "scratch"
        self._uids = detection.own_uids(settings) if sandboxed else None

    @classmethod
    async def detect(cls, settings: Settings) -> Sandbox:
        """Return the sandbox for this server, with an empty ``scratch`` directory.

        Raises:
            SandboxUnavailable: Commands cannot be isolated as ``settings`` require.
            OSError: The ``scratch`` directory cannot be emptied.
        """
        decision = await detection.decide(settings)
        if decision.kind is None:
            raise SandboxUnavailable(decision.problem)
        sandboxed = decision.kind == "bubblewrap"
        network = await detection.find_network(settings, sandboxed=sandboxed)
        sandbox = cls(decision.kind, settings=settings, problem=decision.problem, network=network)
        await run_in_threadpool(sandbox._prepare)
        if decision.problem is not None:
            reason = decision.problem
            log.warning("sandbox: none; commands have the rights of the server", reason=reason)
        else:
            log.info("sandbox: bubblewrap", network=settings.sandbox_network)
        if network.mode != "own":
            log.warning(f"task network: {network}")
        return sandbox

    def _prepare(self) -> None:
        tree.make_empty(self._scratch)
        try:
            group = cgroup.prepare()
        except OSError as error:
            log.warning("the delegated cgroup cannot be used", problem=error.strerror)
        else:
            if group is not None:
                log.info("commands are also limited by cgroups", directory=group)
        if self._uids is None:
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            try:
                set_owner(Path(directory), self.uid_of(None))
            except OSError as error:
                raise SandboxUnavailable(
                    f"root cannot change owners in {self._scratch} ({error.strerror}); choose a "
                    "data directory on another file system, or run the server as another user"
                ) from error
        if others := self._uids.shared_with():
            log.warning(
                "commands have the rights of other accounts of this host; choose another range",
                setting=f"{uids.SETTING}={self._settings.sandbox_uids}",
                accounts=others,
            )

    @property
    def has_own_uids(self) -> bool:
        """True if commands run under other uids than the server."""
        return self._uids is not None

    def uid_of(self, user_id: int | None) -> int | None:
        """Return the host uid of a user's commands, or None if it is the server's.

        The work_dirs of a user must belong to this uid.

        Args:
            user_id: Id of the user; None for callers without an account.

        Raises:
            NoSandboxUid: The configured range has no uid for this user.
        """
        return None if self._uids is None else self._uids.of_user(user_id)

    def inside(self, work_dir: Path) -> str:
        """Return the path under which commands see ``work_dir``."""
        return INSIDE if self.kind == "bubblewrap" else str(work_dir)

    def scratch_of(self, work_dir: Path) -> list[Path]:
        """Return the scratch directories of a work_dir's commands, which contain their ``/tmp``."""
        return list(self._scratch.glob(f"{work_dir.name}-*"))

    def disk_space(self, work_dir: Path) -> DiskQuota:
        """Return the disk quota of a work_dir and its commands' scratch directories."""
        limits = DiskLimits(self._settings.work_dir_bytes, self._settings.work_dir_files)
        return DiskQuota(work_dir, limits, lambda: self.scratch_of(work_dir))

    @asynccontextmanager
    async def process(
        self,
        command: Sequence[str],
        work_dir: Path,
        *,
        network: bool = False,
        gateway: GatewayRelay | None = None,
    ) -> AsyncIterator[Process]:
        """Run a command of a task, with its standard error merged into its output.

        Args:
            command: Program and arguments.
            work_dir: Working directory.
            network: True if the command requests a network; the policy for tasks decides.
            gateway: Access to the gateway, also without a network. The command receives it as
                ``BERAY_GATEWAY_URL`` and ``X_INTERNAL_TOKEN``.

        Raises:
            NetworkUnavailable: The requested network is not available.
        """
        command_network = self.networks.of_command(requested=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            environ = self._environment(scratch, command_network)
            sandbox = self._command_line(work_dir, scratch, command_network)
            async with self._run(
                command,
                work_dir,
                environ,
                scratch,
                command_network,
                sandbox,
                stdin=DEVNULL,
                stderr=STDOUT,
            ) as running:
                yield running.process

    @asynccontextmanager
    async def observed(
        self,
        command: Sequence[str],
        work_dir: Path,
        *,
        network: bool = False,
        gateway: GatewayRelay | None = None,
    ) -> AsyncIterator[SupervisedCommand]:
        """Run a command like ``process``, and report the processes that it left running.

        The result's ``left_running`` returns their names.

        Raises:
            NetworkUnavailable: The requested network is not available.
        """
        command_network = self.networks.of_command(requested=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            environ = self._environment(scratch, command_network)
            sandbox = self._command_line(work_dir, scratch, command_network, init=False)
            inner = [*leftovers.INIT, *command] if sandbox is not None else command
            async with self._run(
                inner,
                work_dir,
                environ,
                scratch,
                command_network,
                sandbox,
                stdin=DEVNULL,
                stderr=STDOUT,
                report_leftovers=True,
            ) as running:
                yield running

    @asynccontextmanager
    async def agent(
        self,
        command: Sequence[str],
        work_dir: Path,
        binds: Sequence[Bind],
        *,
        network: bool = False,
        gateway: GatewayRelay | None = None,
    ) -> AsyncIterator[Process]:
        """Run an agent that the operator configured, with pipes for its three streams.

        It has the network and the environment variables that the operator configured for agents.

        Args:
            command: Program and arguments.
            work_dir: Working directory.
            binds: Further paths that the agent sees.
            network: True if the task requests a network. Used if agents have no network by the
                operator's settings.
            gateway: As for ``process``.

        Raises:
            NetworkUnavailable: The agent's network is not available.
        """
        agent_network = self.networks.of_agent(requested=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            sandboxed = self.kind == "bubblewrap"
            environ = environment("/tmp" if sandboxed else scratch)
            environ |= self._settings.agent_environ() | agent_network.environ()
            has_home = any((bind.inside or bind.path).startswith(HOME + "/") for bind in binds)
            if has_home or not sandboxed:
                environ["HOME"] = HOME
            sandbox = self._command_line(work_dir, scratch, agent_network, binds)
            async with self._run(
                command, work_dir, environ, scratch, agent_network, sandbox
            ) as running:
                yield running.process

    @asynccontextmanager
    async def function(
        self,
        command: Sequence[str],
        work_dir: Path,
        binds: Sequence[Bind],
        limits: Mapping[str, int],
        *,
        network: bool,
        gateway: GatewayRelay | None = None,
    ) -> AsyncIterator[SupervisedCommand]:
        """Run a program that calls a function of a prefab, with pipes for its three streams.

        It sees the system's programs, ``binds`` and the work_dir.

        Args:
            command: Program and arguments.
            work_dir: Working directory.
            binds: Further paths that the program sees.
            limits: Limits for the launcher, which take precedence over those of tasks.
            network: True if the function requests a network.
            gateway: As for ``process``.

        Raises:
            NetworkUnavailable: The requested network is not available.
        """
        if (problem := self.networks.problem("shell", requested=network)) is not None:
            raise NetworkUnavailable(problem)
        command_network = self.networks.of_command(requested=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            environ = self._environment(scratch, command_network)
            sandbox = self._command_line(work_dir, scratch, command_network, binds)
            async with self._run(
                command, work_dir, environ, scratch, command_network, sandbox, limits=limits
            ) as function:
                yield function

    @asynccontextmanager
    async def program(
        self, command: Sequence[str], work_dir: Path, environ: dict[str, str]
    ) -> AsyncIterator[Process]:
        """Run a program that the operator configured for a task, with pipes for its three streams.

        It has the rights of the server, but of the server's variables only ``PATH``. Its working
        directory, which is also its home directory, is empty at the start.
        """
        async with self._new_scratch(work_dir) as scratch:
            variables = environment(scratch) | environ
            async with self._run(
                command, Path(scratch), variables, scratch, network_policy.NO_NETWORK, None
            ) as running:
                yield running.process

    @asynccontextmanager
    async def user_program(
        self, command: Sequence[str], work_dir: Path, environ: Mapping[str, str], *, network: bool
    ) -> AsyncIterator[Process]:
        """Run a program that a user supplies, with pipes for its three streams.

        It is isolated like the task's commands.

        Args:
            command: Program and arguments.
            work_dir: Working directory.
            environ: Further variables. They are set inside the sandbox, because the launcher and
                bubblewrap must not see variables such as ``LD_PRELOAD``.
            network: True if the program requests a network.

        Raises:
            NetworkUnavailable: The requested network is not available.
        """
        command_network = self.networks.of_command(requested=network)
        async with self._new_scratch(work_dir) as scratch:
            inner, encoded = _with_variables(command, environ)
            variables = self._environment(scratch, command_network) | encoded
            sandbox = self._command_line(work_dir, scratch, command_network)
            async with self._run(
                inner, work_dir, variables, scratch, command_network, sandbox
            ) as running:
                yield running.process

    @asynccontextmanager
    async def _new_scratch(self, work_dir: Path) -> AsyncIterator[str]:
        """Create the scratch directory of one command; remove it on leaving."""
        directory = tempfile.mkdtemp(dir=self._scratch, prefix=f"{work_dir.name}-")
        try:
            yield directory
        finally:
            # If this task is cancelled meanwhile, the thread still removes the directory.
            await shield(run_in_threadpool(_remove, Path(directory)))

    def _environment(self, scratch: str, network: CommandNetwork) -> dict[str, str]:
        """Return the variables of a command that the operator did not configure."""
        if self.kind == "none":
            return environment(scratch) | network.environ()
        return environment("/tmp") | {"PATH": PATH} | network.environ()

    def _command_line(
        self,
        work_dir: Path,
        scratch: str,
        network: CommandNetwork,
        binds: Sequence[Bind] = (),
        *,
        init: bool = True,
    ) -> CommandLine | None:
        """Return the command line of a command's sandbox, or None without a sandbox."""
        if self.kind == "none":
            return None
        return bubblewrap.command_line(
            work_dir,
            Path(scratch),
            network=network.mode != "none",
            etc=network.etc_files(),
            binds=binds,
            private=private_paths(self._settings),
            uid=None if self._uids is None else self._uids.require(work_dir),
            init=init,
        )

    def _run(
        self,
        command: Sequence[str],
        cwd: Path,
        environ: Mapping[str, str],
        scratch: str,
        network: CommandNetwork,
        sandbox: CommandLine | None,
        *,
        stdin: int = PIPE,
        stderr: int = PIPE,
        limits: Mapping[str, int] | None = None,
        report_leftovers: bool = False,
    ) -> AbstractAsyncContextManager[SupervisedCommand]:
        return run_supervised(
            command,
            cwd=cwd,
            environ=environ,
            stdin=stdin,
            stderr=stderr,
            limits=_limits(self._settings) | dict(limits or {}),
            scratch=scratch,
            sandbox=sandbox,
            network=network,
            report_leftovers=report_leftovers,
        )


def _remove(directory: Path) -> None:
    try:
        tree.remove(directory)
    except OSError as error:
        log.error("the scratch directory of a command could not be removed", exc_info=error)


def _limits(settings: Settings) -> dict[str, int]:
    """Return the limits that the launcher enforces for a command."""
    return {
        "core": 0,
        # A file above the quota ends the task anyway.
        "fsize": min(settings.task_max_file_bytes, settings.work_dir_bytes + FILE_MARGIN_BYTES),
        "nofile": settings.task_max_open_files,
        "nproc": max(settings.task_max_processes, MIN_NPROC),
        "processes": settings.task_max_processes,
        "memory": settings.task_max_memory_bytes,
        "disk": settings.work_dir_bytes,
        "descriptors": DESCRIPTORS_FACTOR * settings.task_max_open_files,
    }


def _with_variables(
    command: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return a command that sets variables itself, and the environment from which it reads them.

    Each assignment is passed as the value of a variable with a harmless name. Arguments would be
    visible to other users of the host.
    """
    if not environ:
        return list(command), {}
    encoded = {
        f"BERAY_VARIABLE_{number}": f"{name}={value}"
        for number, (name, value) in enumerate(environ.items())
    }
    script = "; ".join([f'export "${name}"; unset {name}' for name in encoded] + ['exec "$@"'])
    return ["/bin/sh", "-c", script, "sh", *command], encoded


__all__ = ["INSIDE", "Kind", "NetworkUnavailable", "Sandbox", "SandboxUnavailable"]
