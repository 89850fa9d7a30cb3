"""Client of the fork server: starts the process of each run."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

from beray.server.connections.open_files import inherited_limit
from beray.server.runners.subprocess import protocol
from beray.server.runners.subprocess.protocol import Frame

SWEEP_SECONDS: Final = 10.0
"""Maximum duration of terminating all processes of a run."""
_FORK_SERVER: Final = "beray.server.runners.subprocess.fork_server_process"

log = structlog.get_logger("beray.runs")


class ForkServerProcess(Protocol):
    """Interface of ``asyncio.subprocess.Process`` that ``ForkServer`` uses."""

    @property
    def returncode(self) -> int | None:
        """Exit status; None while the process runs."""

    def kill(self) -> None:
        """Send SIGKILL."""

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit status."""


async def start_process(arguments: Sequence[str], requests: socket.socket) -> ForkServerProcess:
    """Start the program ``fork_server_process``.

    Args:
        arguments: Its command line arguments.
        requests: Socket from which it reads requests.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", _FORK_SERVER, *arguments,
        stdin=requests.fileno(), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


class RunProcess:
    """Process of one run, and the connection to it.

    Attributes:
        reader: Frames that the run sends.
        ended: Result once no process of the run is left: ``status`` and ``problem`` of its
            supervisor, an empty dict if they are unknown.
    """

    def __init__(
        self,
        *,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ended: asyncio.Task[Frame],
    ) -> None:
        self.reader = reader
        self._writer = writer
        self.ended = ended

    async def send(self, frame: Frame) -> None:
        """Send a frame to the run."""
        self._writer.write(protocol.encode(frame))
        await self._writer.drain()


class ForkServer:
    """Client of the fork server, which it starts. For one event loop, until ``close``.

    Args:
        data_dir: The server's data directory.
        runners: Names of the runners whose modules the fork server imports.
    """

    def __init__(self, *, data_dir: Path, runners: Sequence[str]) -> None:
        self._arguments = [str(data_dir), *runners]
        self._process: ForkServerProcess | None = None
        self._requests: socket.socket | None = None
        self._starting = asyncio.Lock()

    async def warm_up(self) -> None:
        """Start the fork server, so that the first run need not wait for the imports."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._start()

    async def close(self) -> None:
        """End the fork server. Runs must have ended before. Idempotent."""
        process, self._process = self._process, None
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if process is not None:
            if process.returncode is None:
                # During its imports it does not read requests, so it would not notice their end.
                process.kill()
            await process.wait()

    @asynccontextmanager
    async def process(self, job: Frame) -> AsyncIterator[RunProcess]:
        """Start a process and send it ``job``. On exit, no process of the run is alive.

        Raises:
            OSError: The process cannot be started.
        """
        link, child_link = socket.socketpair()
        control, child_control = socket.socketpair()
        with child_link, child_control:
            try:
                await self._request_fork(child_link, child_control)
            except BaseException:
                link.close()
                control.close()
                raise
        control_reader, control_writer = await asyncio.open_unix_connection(sock=control)
        reader, writer = await asyncio.open_unix_connection(sock=link)
        process = RunProcess(
            reader=reader, writer=writer, ended=asyncio.create_task(_read_status(control_reader))
        )
        try:
            await process.send({"job": job})
            yield process
        finally:
            control_writer.write_eof()
            done, _ = await asyncio.wait([process.ended], timeout=SWEEP_SECONDS)
            if not done:
                log.error("the processes of a run could not be terminated in time")
                process.ended.cancel()
            writer.close()
            control_writer.close()

    async def _request_fork(self, link: socket.socket, control: socket.socket) -> None:
        descriptors = [link.fileno(), control.fileno()]
        await self.warm_up()
        assert self._requests is not None
        try:
            socket.send_fds(self._requests, [b"+"], descriptors)
        except ConnectionError:
            # It exited, and the event loop has not processed SIGCHLD yet.
            log.warning("the process that runs are forked from has exited; starting a new one")
            async with self._starting:
                await self._start()
            socket.send_fds(self._requests, [b"+"], descriptors)

    async def _start(self) -> None:
        if self._requests is not None:
            self._requests.close()
        self._requests, child_socket = socket.socketpair()
        with child_socket:
            arguments = [str(inherited_limit()), *self._arguments]
            self._process = await start_process(arguments, child_socket)


async def _read_status(reader: asyncio.StreamReader) -> Frame:
    """Return the status that the supervisor of a run sends when all its processes have ended."""
    try:
        return await protocol.read(reader)
    except (EOFError, OSError):
        return {}
