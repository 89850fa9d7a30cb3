"""Start of commands through the launcher, the small program that supervises each of them.

The server holds one end of a socket. When it closes that end, or dies, the launcher ends the whole
process tree of the command.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from beray.server.sandbox import relay
from beray.server.sandbox.bubblewrap import PATH, CommandLine
from beray.server.sandbox.launcher import cgroup, framing
from beray.server.sandbox.launcher.excess import Excess
from beray.server.sandbox.network_policy import NO_NETWORK, CommandNetwork
from beray.server.storage.shortage import retry_on_shortage
from beray.server.workspace.disk_usage import USAGE_FILE

SWEEP_SECONDS: Final = 10.0
"""Time limit for the launcher to end all processes of a command."""
REPORT_SECONDS: Final = 1.0
"""Time limit for the launcher's last message after it has ended."""
ARGUMENT_BYTES: Final = 128 * 1024
"""Limit of one argument, including its final NUL: MAX_ARG_STRLEN of execve(2) on Linux."""
_LAUNCHER: Final = Path(__file__).with_name("launcher")
_STAGING: Final = ("/mnt", "/media", "/srv", "/run", "/sys")
"""Directories that every user may enter, and that no sandbox contains. The sources of a command's
binds are staged in the first one that exists, in a separate mount namespace."""

log = structlog.get_logger("beray.sandbox")


@dataclass(frozen=True, slots=True)
class SupervisedCommand:
    """Command under the supervision of its launcher.

    Attributes:
        process: Process of the launcher, with the streams and the exit status of the command.
        control: The server's end of the control socket.
    """

    process: Process
    control: socket.socket

    async def exceeded_limit(self) -> Excess | None:
        """Wait until the command ends; return the limit that ended it, or None."""
        message = await self._last_message()
        return Excess(message["limit"], message["problem"]) if "limit" in message else None

    async def left_running(self) -> list[str]:
        """Wait until the command ends; return the names of processes that it left running.

        These processes have been killed. The list is empty unless the command was started with
        ``report_leftovers``.
        """
        return [str(name) for name in (await self._last_message()).get("left", [])]

    async def _last_message(self) -> dict[str, Any]:
        """Return the launcher's last message on the control socket.

        The command cannot forge it, because it has no access to the socket.
        """
        await self.process.wait()
        loop = asyncio.get_running_loop()
        received = b""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(REPORT_SECONDS):
                while block := await loop.sock_recv(self.control, 4096):
                    received += block
        message = framing.decode(received)
        return {} if message is None else dict(json.loads(message))


@asynccontextmanager
async def run_supervised(
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    stdin: int,
    stderr: int,
    limits: Mapping[str, int],
    scratch: str | None = None,
    sandbox: CommandLine | None = None,
    network: CommandNetwork = NO_NETWORK,
    wait_for_resources: bool = True,
    report_leftovers: bool = False,
) -> AsyncIterator[SupervisedCommand]:
    """Run ``command`` with a pipe for its output; on leaving, its process tree has ended.

    Args:
        command: Program and arguments.
        cwd: Working directory of the launcher.
        environ: Environment variables of the launcher and the command.
        stdin: As for ``asyncio.create_subprocess_exec``.
        stderr: As for ``asyncio.create_subprocess_exec``.
        limits: Limits for the launcher; see its documentation.
        scratch: Directory of this command, for the report of its usage.
        sandbox: Command line of the sandbox; None runs the command without one.
        network: Network namespace and relays of the command.
        wait_for_resources: True to wait until a shortage of descriptors, processes or memory ends.
        report_leftovers: True to enable ``SupervisedCommand.left_running``. Then ``sandbox`` must
            have no init process of its own, and in a sandbox ``stdin`` is not used.

    Raises:
        OSError: An argument is too long (E2BIG), or the launcher cannot be started.
    """
    if any(len(os.fsencode(argument)) >= ARGUMENT_BYTES for argument in command):
        # The launcher would fail too late for the caller to pass the data by standard input.
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    spec = _spec(command, sandbox) | {"limits": limits, "cgroup": cgroup.commands_directory()}
    if report_leftovers:
        spec["leftovers"] = "descendants" if sandbox is None else "init"
    if scratch is not None:
        spec["report"] = str(Path(scratch) / USAGE_FILE)
    network_spec = network.launcher_spec()
    if network_spec is not None:
        spec["network"] = network_spec
    launch = partial(_launch, cwd=cwd, env=dict(environ), stdin=stdin, stdout=PIPE, stderr=stderr)
    process, control = await (retry_on_shortage(launch) if wait_for_resources else launch())
    try:
        await _send_spec(control, spec)
        if network_spec is None:
            yield SupervisedCommand(process, control)
        else:
            async with relay.relay_command(control, network):
                yield SupervisedCommand(process, control)
    finally:
        control.close()
        await _end(process)


def environment(home: str) -> dict[str, str]:
    """Return the variables of a command. The server's variables are left out as possible secrets.

    Args:
        home: Home directory, and directory of temporary files.
    """
    return {
        "PATH": os.environ.get("PATH", PATH),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def _spec(command: Sequence[str], sandbox: CommandLine | None) -> dict[str, object]:
    """Return the part of the launcher's message that describes the command and its sandbox."""
    if sandbox is None:
        return {"command": list(command)}
    data = [content.decode("latin-1") for content in sandbox.data]
    if sandbox.uid is None:
        return {"command": [*sandbox.arguments, *command], "data": data}
    directory = next(path for path in _STAGING if Path(path).is_dir())
    arguments, sources = sandbox.staged(directory)
    user = {"uid": sandbox.uid, "directory": directory, "sources": sources}
    return {"command": [*arguments, *command], "data": data, "user": user}


async def _launch(**options: Any) -> tuple[Process, socket.socket]:
    """Start the launcher; return it with the server's end of its control socket.

    Args:
        options: Keyword arguments of ``asyncio.create_subprocess_exec``.
    """
    launcher_end, server_end = socket.socketpair()
    try:
        server_end.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_LAUNCHER), str(launcher_end.fileno()),
            start_new_session=True, pass_fds=[launcher_end.fileno()], **options,
        )  # fmt: skip
    except BaseException:
        server_end.close()
        raise
    finally:
        launcher_end.close()
    return process, server_end


async def _send_spec(control: socket.socket, spec: Mapping[str, object]) -> None:
    """Send the launcher its message.

    A launcher that has already ended is ignored here; its exit status is checked later.
    """
    # json escapes lone surrogates, so undecodable bytes of a path survive.
    data = json.dumps(spec).encode()
    with suppress(BrokenPipeError, ConnectionResetError):
        await asyncio.get_running_loop().sock_sendall(control, framing.encode(data))


async def _end(process: Process) -> None:
    """Wait until the launcher has ended all processes of the command; kill it if it does not."""
    waiting = asyncio.ensure_future(process.communicate())
    done, _ = await asyncio.wait([waiting], timeout=SWEEP_SECONDS)
    if not done:
        log.error("the processes of a command could not be ended in time", pid=process.pid)
        process.kill()
        await waiting
