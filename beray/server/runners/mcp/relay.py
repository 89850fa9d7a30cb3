"""Relay between ACP agents and MCP programs.

ACP agents start the programs of their MCP servers themselves. A program that a user supplies must
not run inside the agent's sandbox, which has the operator's credentials and the agent's network
access. A program of the operator must not run there either, because its environment contains the
operator's credentials. The agent therefore starts ``relay_client``; for each of its connections,
the relay starts the program by ``programs.running_program``.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from beray.server.runners.base import Job
from beray.server.runners.command_line import CHUNK_BYTES, Tail
from beray.server.runners.mcp import programs
from beray.server.runners.mcp.config import McpServer
from beray.server.sandbox.interpreter import interpreter_binds
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.settings import Settings

MAX_CONNECTIONS: Final = 32
"""Maximum number of simultaneous connections of one run."""
_INSIDE: Final = "/run/beray"
"""Directory of the sockets and of the client inside the sandbox."""
_CLIENT: Final = "relay_client.py"

log = structlog.get_logger("beray.mcp")


@dataclass(frozen=True, slots=True)
class Relay:
    """Commands with which an agent connects to MCP programs.

    Attributes:
        commands: Command for each MCP server, by the server's position in the list.
        binds: Paths that the commands need in the agent's sandbox.
    """

    commands: dict[int, list[str]] = field(default_factory=dict)
    binds: list[Bind] = field(default_factory=list)


@asynccontextmanager
async def relay_programs(
    servers: Sequence[McpServer], job: Job, settings: Settings, sandbox: Sandbox
) -> AsyncIterator[Relay]:
    """Relay the programs among ``servers``. On exit, all of them have ended."""
    positions = [
        number for number, server in enumerate(servers) if server.command and not server.problem
    ]
    if not positions:
        yield Relay()
        return
    directory = await asyncio.to_thread(_create_directory, settings.data_dir / "scratch", job)
    connections = _Connections(job=job, settings=settings, sandbox=sandbox)
    listeners: list[asyncio.Server] = []
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = _INSIDE if sandbox.kind == "bubblewrap" else str(directory)
        client_directory = Bind(
            str(directory), inside=_INSIDE, origin="the MCP relay", private=True
        )
        relay = Relay(binds=[*interpreter_binds(), client_directory])
        for number in positions:
            # Socket paths are limited to about 100 bytes; the descriptor gives a shorter path.
            short = f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else str(directory)
            path = f"{short}/{number}"
            serve = partial(connections.start, servers[number])
            listeners.append(await asyncio.start_unix_server(serve, path))
            await asyncio.to_thread(Path(path).chmod, 0o666)
            client = [sys.executable, "-I", "-S", f"{inside}/{_CLIENT}", f"{inside}/{number}"]
            relay.commands[number] = client
        yield relay
    finally:
        for listener in listeners:
            listener.close()
        await connections.close()
        os.close(descriptor)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def _create_directory(scratch: Path, job: Job) -> Path:
    """Create a directory with the client among the task's scratch directories.

    It is accessible to other users, because an agent may run as another user than the server.
    """
    directory = Path(tempfile.mkdtemp(dir=scratch, prefix=f"{job.work_dir.name}-"))
    shutil.copyfile(Path(__file__).with_name(_CLIENT), directory / _CLIENT)
    (directory / _CLIENT).chmod(0o644)
    directory.chmod(0o711)
    return directory


class _Connections:
    """Connections of one run, each to a process of its own."""

    def __init__(self, *, job: Job, settings: Settings, sandbox: Sandbox) -> None:
        self._job = job
        self._settings = settings
        self._sandbox = sandbox
        self._open: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(
        self, server: McpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Relay a new connection, or close it if the limit is reached."""
        if self._closed or len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        connection = asyncio.create_task(self._relay(server, reader, writer))
        self._open.add(connection)
        connection.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """End all connections and their programs, and reject new ones."""
        self._closed = True
        while self._open:
            for connection in self._open:
                connection.cancel()
            await asyncio.wait(set(self._open))

    async def _relay(
        self, server: McpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            program = programs.running_program(server, self._job, self._settings, self._sandbox)
            async with program as process:
                await _pump(server, process, reader, writer)
        except OSError as error:
            log.warning("an MCP program cannot be started", server=server.name, exc_info=error)
        finally:
            writer.close()


async def _pump(
    server: McpServer,
    process: Process,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Forward bytes until the program closes its output or the agent disconnects."""
    assert process.stdin and process.stdout and process.stderr
    errors = Tail()
    responses = asyncio.create_task(_copy(process.stdout, writer))
    requests = asyncio.create_task(_copy(reader, process.stdin))
    draining = asyncio.create_task(errors.drain(process.stderr))
    try:
        await asyncio.wait([responses])
        if errors.text:
            stderr = server.redacted_line(errors.text)
            log.info("an MCP program ended", server=server.name, stderr=stderr)
    finally:
        for pump in (responses, requests, draining):
            pump.cancel()
        await asyncio.wait([responses, requests, draining])


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            await target.drain()
        target.close()


__all__ = ["Relay", "relay_programs"]
