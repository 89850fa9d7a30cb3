"""Run commands: in bubblewrap, or merely supervised where no sandbox is possible.

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

from beray.server.sandbox import bubblewrap, detection, network_policy, uids
from beray.server.sandbox.bubblewrap import INSIDE, PATH, Bind, CommandLine
from beray.server.sandbox.launcher import cgroup, leftovers
from beray.server.sandbox.launching import Supervised, environment, supervised
from beray.server.sandbox.layout import private_paths
from beray.server.sandbox.network_policy import CommandNetwork, GatewayRelay, NetworkState
from beray.server.sandbox.ownership import set_owner
from beray.server.sandbox.probe import Kind
from beray.server.sandbox.task_networks import NetworkRefused, TaskNetworks
from beray.server.settings import Settings
from beray.server.workspace import tree
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.disk_usage import DiskLimits

FEWEST_PROCESSES: Final = 4096
"""The kernel counts the processes of a user, not of a command, and is told no less."""
FILE_MARGIN_BYTES: Final = 1024**2
"""How far one file may exceed the disk quota: the quota, not the file size, is to be reported."""
DESCRIPTORS_FACTOR: Final = 16
"""All processes of a command may have so many times as many open files as one process."""
HOME: Final = os.path.expanduser("~")
"""Directory in which the operator's agents have their settings."""

log = structlog.get_logger("beray.sandbox")


class SandboxUnavailable(Exception):
    """Commands cannot be isolated as configured; the message names the cause and the next step."""


class Sandbox:
    """Starts commands.

    Args:
        kind: the isolation of commands.
        problem: the reason why it is not bubblewrap, with the next step.
        network: what ``detection.find_network`` found; None: as far as files of this host tell.
    """

    def __init__(
        self,
        kind: Kind,
        settings: Settings,
        problem: str | None = None,
        *,
        network: NetworkState | None = None,
    ) -> None:
        self.kind = kind
        self.problem = problem
        sandboxed = kind == "bubblewrap"
        network = network or network_policy.find(
            sandboxed=sandboxed, shared=settings.shared, allow=settings.network_destinations()
        )
        self.networks = TaskNetworks(settings, network, sandboxed=sandboxed)
        self._settings = settings
        self._scratch = settings.data_dir / "scratch"
        self._uids = detection.own_uids(settings) if sandboxed else None

    @classmethod
    async def detect(cls, settings: Settings) -> Sandbox:
        """Return the sandbox for this server, with an empty ``scratch`` directory.

        Raises:
            SandboxUnavailable: commands cannot be isolated as ``settings`` require.
            OSError: the ``scratch`` directory cannot be emptied.
        """
        decision = await detection.decide(settings)
        if decision.kind is None:
            raise SandboxUnavailable(decision.problem)
        sandboxed = decision.kind == "bubblewrap"
        network = await detection.find_network(settings, sandboxed=sandboxed)
        sandbox = cls(decision.kind, settings, decision.problem, network=network)
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
                log.info("commands are limited by cgroups, too", folder=group)
        if self._uids is None:
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            try:
                set_owner(Path(folder), self.uid_of(None))
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
        """Return the host uid for a user's commands; None: they run under the server's.

        The work_dirs of a user must belong to it.

        Args:
            user_id: None: callers without an account.

        Raises:
            NoSandboxUid: the configured range has none for this user.
        """
        return None if self._uids is None else self._uids.of_user(user_id)

    def inside(self, work_dir: Path) -> str:
        """Return the path of ``work_dir`` as a command sees it."""
        return INSIDE if self.kind == "bubblewrap" else str(work_dir)

    def scratch_of(self, work_dir: Path) -> list[Path]:
        """Return the directories that commands of a work_dir have as their ``/tmp``."""
        return list(self._scratch.glob(f"{work_dir.name}-*"))

    def disk_space(self, work_dir: Path) -> DiskQuota:
        """Return the quota of a work_dir, which its commands' scratch folders count against."""
        limits = DiskLimits(self._settings.work_dir_bytes, self._settings.work_dir_files)
        return DiskQuota(work_dir, limits, lambda: self.scratch_of(work_dir))

    # Each of these runs a command with its output on ``stdout``; when the block is left, its
    # whole process tree has ended.

    @asynccontextmanager
    async def process(
        self,
        command: Sequence[str],
        work_dir: Path,
        *,
        network: bool = False,
        gateway: GatewayRelay | None = None,
    ) -> AsyncIterator[Process]:
        """Run a command of a task, with both of its output streams as one.

        Args:
            network: whether it asks for a network; the policy for tasks decides.
            gateway: access to the gateway, also without a network; the command finds it in
                ``BERAY_GATEWAY_URL`` and ``X_INTERNAL_TOKEN``.

        Raises:
            NetworkRefused: it cannot have the network that it asks for.
        """
        connected = self.networks.of_command(asked=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            environ = self._environment(scratch, connected)
            box = self._box(work_dir, scratch, connected)
            async with self._supervised(
                command, work_dir, environ, scratch, connected, box, stdin=DEVNULL, stderr=STDOUT
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
    ) -> AsyncIterator[Supervised]:
        """Run a command as ``process`` does; ``left_running`` of the result can be used.

        Raises:
            NetworkRefused: it cannot have the network that it asks for.
        """
        connected = self.networks.of_command(asked=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            environ = self._environment(scratch, connected)
            box = self._box(work_dir, scratch, connected, init=False)
            inner = [*leftovers.INIT, *command] if box is not None else command
            async with self._supervised(
                inner,
                work_dir,
                environ,
                scratch,
                connected,
                box,
                stdin=DEVNULL,
                stderr=STDOUT,
                observed=True,
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
        """Run an agent of the operator's, with pipes for its three streams.

        It has the network and the variables that the operator gives to agents, and ``binds``.

        Args:
            network: whether its task asks for a network, where agents have none.
            gateway: as for ``process``.

        Raises:
            NetworkRefused: it cannot have a network.
        """
        connected = self.networks.of_agent(asked=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            sandboxed = self.kind == "bubblewrap"
            environ = environment("/tmp" if sandboxed else scratch)
            environ |= self._settings.agent_environ() | connected.environ()
            has_home = any((bind.inside or bind.path).startswith(HOME + "/") for bind in binds)
            if has_home or not sandboxed:
                environ["HOME"] = HOME
            box = self._box(work_dir, scratch, connected, binds)
            async with self._supervised(
                command, work_dir, environ, scratch, connected, box
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
    ) -> AsyncIterator[Supervised]:
        """Run a program that calls a function of a prefab, with pipes for its three streams.

        It finds the system's programs, ``binds`` and the work_dir.

        Args:
            limits: as the launcher takes them, instead of those of tasks.
            network: whether it asks for a network.
            gateway: as for ``process``.

        Raises:
            NetworkRefused: it cannot have the network that it asks for.
        """
        if (problem := self.networks.problem("shell", asked=network)) is not None:
            raise NetworkRefused(problem)
        connected = self.networks.of_command(asked=network, gateway=gateway)
        async with self._new_scratch(work_dir) as scratch:
            environ = self._environment(scratch, connected)
            box = self._box(work_dir, scratch, connected, binds)
            async with self._supervised(
                command, work_dir, environ, scratch, connected, box, limits=limits
            ) as function:
                yield function

    @asynccontextmanager
    async def program(
        self, command: Sequence[str], work_dir: Path, environ: dict[str, str]
    ) -> AsyncIterator[Process]:
        """Run a program of the operator's beside a task, with pipes for its three streams.

        It has the rights of the server, but of its variables only ``PATH``; its directory
        and its home are empty.
        """
        async with self._new_scratch(work_dir) as scratch:
            given = environment(scratch) | environ
            async with self._supervised(
                command, Path(scratch), given, scratch, network_policy.NO_NETWORK, None
            ) as running:
                yield running.process

    @asynccontextmanager
    async def user_program(
        self, command: Sequence[str], work_dir: Path, environ: Mapping[str, str], *, network: bool
    ) -> AsyncIterator[Process]:
        """Run a program that a user supplies, with pipes for its three streams.

        It is confined as the task's commands are, and starts in the work_dir.

        Args:
            environ: further variables. They are set inside the sandbox: what starts it must not
                see variables such as ``LD_PRELOAD``.
            network: whether it asks for the network.

        Raises:
            NetworkRefused: it cannot have the network that it asks for.
        """
        connected = self.networks.of_command(asked=network)
        async with self._new_scratch(work_dir) as scratch:
            inner, carried = _with_variables(command, environ)
            given = self._environment(scratch, connected) | carried
            box = self._box(work_dir, scratch, connected)
            async with self._supervised(inner, work_dir, given, scratch, connected, box) as running:
                yield running.process

    @asynccontextmanager
    async def _new_scratch(self, work_dir: Path) -> AsyncIterator[str]:
        folder = tempfile.mkdtemp(dir=self._scratch, prefix=f"{work_dir.name}-")
        try:
            yield folder
        finally:
            # If this is cancelled meanwhile, the thread still removes it.
            await shield(run_in_threadpool(_removed, Path(folder)))

    def _environment(self, scratch: str, network: CommandNetwork) -> dict[str, str]:
        """Return the variables of a command that is not the operator's."""
        if self.kind == "none":
            return environment(scratch) | network.environ()
        return environment("/tmp") | {"PATH": PATH} | network.environ()

    def _box(
        self,
        work_dir: Path,
        scratch: str,
        network: CommandNetwork,
        binds: Sequence[Bind] = (),
        *,
        init: bool = True,
    ) -> CommandLine | None:
        """Return the sandbox of a command; None if there is none."""
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

    def _supervised(
        self,
        command: Sequence[str],
        cwd: Path,
        environ: Mapping[str, str],
        scratch: str,
        network: CommandNetwork,
        box: CommandLine | None,
        *,
        stdin: int = PIPE,
        stderr: int = PIPE,
        limits: Mapping[str, int] | None = None,
        observed: bool = False,
    ) -> AbstractAsyncContextManager[Supervised]:
        return supervised(
            command,
            cwd=cwd,
            environ=environ,
            stdin=stdin,
            stderr=stderr,
            limits=_limits(self._settings) | dict(limits or {}),
            scratch=scratch,
            box=box,
            network=network,
            observed=observed,
        )


def _removed(folder: Path) -> None:
    try:
        tree.remove(folder)
    except OSError as error:
        log.error("the scratch folder of a command is left over", exc_info=error)


def _limits(settings: Settings) -> dict[str, int]:
    """Return the limits that the launcher enforces for a command."""
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


__all__ = ["INSIDE", "Bind", "Kind", "NetworkRefused", "Sandbox", "SandboxUnavailable"]
