"""MCP programs for ACP agents, which start the programs of their MCP servers themselves.

A program that a user supplies must not run inside the agent's sandbox, which has the operator's
sign-in and the agent's network; a program of the operator must not run there either, as its
environment holds the operator's credentials. So the agent starts ``relay_client``, and every
connection of it is a process of the program, started as ``programs.process`` says.
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
from beray.server.sandbox.sandbox import Bind, Sandbox
from beray.server.settings import Settings

MAX_CONNECTIONS: Final = 32
"""Connections of one run at the same time."""
_INSIDE: Final = "/run/beray"
"""Directory of the sockets and of the client as a sandboxed agent sees it."""
_CLIENT: Final = "relay_client.py"

log = structlog.get_logger("beray.mcp")


@dataclass(frozen=True, slots=True)
class Relay:
    """Command lines for the agent.

    Attributes:
        commands: Command that connects to an MCP server, by the server's position in the list.
        binds: What the commands need in the agent's sandbox.
    """

    commands: dict[int, list[str]] = field(default_factory=dict)
    binds: list[Bind] = field(default_factory=list)


@asynccontextmanager
async def relaying(
    servers: Sequence[McpServer], job: Job, settings: Settings, sandbox: Sandbox
) -> AsyncIterator[Relay]:
    """Relay the programs among ``servers``; when the block is left, they have ended."""
    wanted = [
        number for number, server in enumerate(servers) if server.command and not server.problem
    ]
    if not wanted:
        yield Relay()
        return
    folder = await asyncio.to_thread(_new_folder, settings.data_dir / "scratch", job)
    connections = _Connections(job, settings, sandbox)
    listeners: list[asyncio.Server] = []
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = _INSIDE if sandbox.kind == "bubblewrap" else str(folder)
        client_folder = Bind(str(folder), inside=_INSIDE, origin="the MCP relay", private=True)
        relay = Relay(binds=[*interpreter_binds(), client_folder])
        for number in wanted:
            # The path of a socket has about 100 bytes at most, which Linux offers a way around.
            short = f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else str(folder)
            path = f"{short}/{number}"
            serve = partial(connections.start, servers[number])
            listeners.append(await asyncio.start_unix_server(serve, path))
            os.chmod(path, 0o666)
            client = [sys.executable, "-I", "-S", f"{inside}/{_CLIENT}", f"{inside}/{number}"]
            relay.commands[number] = client
        yield relay
    finally:
        for listener in listeners:
            listener.close()
        await connections.close()
        os.close(descriptor)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _new_folder(scratch: Path, job: Job) -> Path:
    """Return a directory with the client, among the task's scratch directories.

    An agent may run as another user than the server, so it is not private to the server's user.
    """
    folder = Path(tempfile.mkdtemp(dir=scratch, prefix=f"{job.work_dir.name}-"))
    shutil.copyfile(Path(__file__).with_name(_CLIENT), folder / _CLIENT)
    (folder / _CLIENT).chmod(0o644)
    folder.chmod(0o711)
    return folder


class _Connections:
    """The connections of one run."""

    def __init__(self, job: Job, settings: Settings, sandbox: Sandbox) -> None:
        self._job = job
        self._settings = settings
        self._sandbox = sandbox
        self._open: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(
        self, server: McpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._closed or len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        connection = asyncio.create_task(self._relay(server, reader, writer))
        self._open.add(connection)
        connection.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """End all connections and their programs; later connections are refused."""
        self._closed = True
        while self._open:
            for connection in self._open:
                connection.cancel()
            await asyncio.wait(set(self._open))

    async def _relay(
        self, server: McpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            program = programs.process(server, self._job, self._settings, self._sandbox)
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
    """Pass bytes on until the program closes its output or the agent is gone."""
    assert process.stdin and process.stdout and process.stderr
    errors = Tail()
    answers = asyncio.create_task(_copy(process.stdout, writer))
    requests = asyncio.create_task(_copy(reader, process.stdin))
    draining = asyncio.create_task(errors.drain(process.stderr))
    try:
        await asyncio.wait([answers])
        if errors.text:
            log.info("an MCP program ended", server=server.name, stderr=server.safe(errors.text))
    finally:
        for pump in (answers, requests, draining):
            pump.cancel()
        await asyncio.wait([answers, requests, draining])


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            await target.drain()
        target.close()


__all__ = ["Relay", "relaying"]
