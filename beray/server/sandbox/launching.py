"""Start commands through the launcher, the small program that supervises each of them.

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

from beray.server.runtime.shortage import patiently
from beray.server.sandbox import relay
from beray.server.sandbox.bubblewrap import PATH, CommandLine
from beray.server.sandbox.launcher import cgroup
from beray.server.sandbox.network_policy import NO_NETWORK, CommandNetwork
from beray.server.workspace.disk_usage import USAGE_FILE

SWEEP_SECONDS: Final = 10.0
REPORT_SECONDS: Final = 1.0
ARGUMENT_BYTES: Final = 128 * 1024
"""Limit of one argument, with its final NUL: MAX_ARG_STRLEN of execve(2) on Linux."""
_LAUNCHER: Final = Path(__file__).with_name("launcher")
_STAGING: Final = ("/mnt", "/media", "/srv", "/run", "/sys")
"""Directories that every user may enter, and that no sandbox contains. One of them becomes the
place of a command's bind sources, in a mount namespace of its own."""

log = structlog.get_logger("beray.sandbox")


@dataclass(frozen=True, slots=True)
class Supervised:
    """A command under the supervision of its launcher."""

    process: Process
    control: socket.socket

    async def exceeded_limit(self) -> str | None:
        """Wait for the end of the command; return the limit that ended it, or None."""
        problem = (await self._last_message()).get("problem")
        return None if problem is None else str(problem)

    async def left_running(self) -> list[str]:
        """Wait for the end of the command; return the names of processes that it left running.

        They have ended, too. Only of commands that were started with ``observed``.
        """
        return [str(name) for name in (await self._last_message()).get("left", [])]

    async def _last_message(self) -> dict[str, Any]:
        """Return what the launcher sends on the control socket, which the command does not have."""
        await self.process.wait()
        loop = asyncio.get_running_loop()
        message = b""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(REPORT_SECONDS):
                while block := await loop.sock_recv(self.control, 4096):
                    message += block
        return dict(json.loads(message)) if message else {}


@asynccontextmanager
async def supervised(
    command: Sequence[str],
    *,
    cwd: Path,
    environ: Mapping[str, str],
    stdin: int,
    stderr: int,
    limits: Mapping[str, int],
    scratch: str | None = None,
    box: CommandLine | None = None,
    network: CommandNetwork = NO_NETWORK,
    patient: bool = True,
    observed: bool = False,
) -> AsyncIterator[Supervised]:
    """Run ``command`` with a pipe for its output; at the end, its process tree is gone.

    Args:
        stdin, stderr: as ``asyncio.create_subprocess_exec`` takes them.
        limits: as the launcher takes them.
        scratch: directory of this command, for the report of its usage.
        box: sandbox around the command.
        network: network namespace and relays of the command.
        patient: whether to wait for the end of a shortage of descriptors, processes or memory.
        observed: whether ``Supervised.left_running`` is wanted. In a sandbox ``box`` has to have
            no init of its own, and ``stdin`` is not used.

    Raises:
        OSError: E2BIG, an argument is too long; or the launcher cannot be started.
    """
    if any(len(os.fsencode(argument)) >= ARGUMENT_BYTES for argument in command):
        # The launcher would find this out too late for a caller to use standard input.
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    spec = _spec(command, box) | {"limits": limits, "cgroup": cgroup.commands_folder()}
    if observed:
        spec["leftovers"] = "descendants" if box is None else "init"
    if scratch is not None:
        spec["report"] = os.path.join(scratch, USAGE_FILE)
    connecting = network.launcher_spec()
    if connecting is not None:
        spec["network"] = connecting
    launch = partial(_launched, cwd=cwd, env=dict(environ), stdin=stdin, stdout=PIPE, stderr=stderr)
    process, control = await (patiently(launch) if patient else launch())
    try:
        await _send_spec(control, spec)
        if connecting is None:
            yield Supervised(process, control)
        else:
            async with relay.of_command(control, network):
                yield Supervised(process, control)
    finally:
        control.close()
        await _end(process)


def environment(home: str) -> dict[str, str]:
    """Return the variables of a command; nothing of the server's, which may hold secrets."""
    return {
        "PATH": os.environ.get("PATH", PATH),
        "HOME": home,
        "TMPDIR": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


def _spec(command: Sequence[str], box: CommandLine | None) -> dict[str, object]:
    """Return the part of the launcher's message that describes the command and its sandbox."""
    if box is None:
        return {"command": list(command)}
    data = [content.decode("latin-1") for content in box.data]
    if box.uid is None:
        return {"command": [*box.arguments, *command], "data": data}
    directory = next(path for path in _STAGING if os.path.isdir(path))
    arguments, sources = box.staged(directory)
    user = {"uid": box.uid, "directory": directory, "sources": sources}
    return {"command": [*arguments, *command], "data": data, "user": user}


async def _launched(**options: Any) -> tuple[Process, socket.socket]:
    """Start the launcher; return it with the server's end of its control socket.

    Args:
        options: of ``asyncio.create_subprocess_exec``.
    """
    theirs, ours = socket.socketpair()
    try:
        ours.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_LAUNCHER), str(theirs.fileno()),
            start_new_session=True, pass_fds=[theirs.fileno()], **options,
        )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


async def _send_spec(control: socket.socket, spec: Mapping[str, object]) -> None:
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
