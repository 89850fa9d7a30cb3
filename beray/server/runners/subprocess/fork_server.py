"""Processes for runs, forked by ``nursery``."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from beray.server.connections.open_files import inherited_limit
from beray.server.runners.subprocess import framing
from beray.server.runners.subprocess.framing import Frame

SWEEP_SECONDS: Final = 10.0
_PROGRAM: Final = "beray.server.runners.subprocess.fork_server_process"

log = structlog.get_logger("beray.runs")


class RunProcess:
    """One run's process, as the server sees it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ended: asyncio.Task[Frame],
    ) -> None:
        self.reader = reader
        self._writer = writer
        self.ended = ended
        """Once nothing of it is left: ``status`` and ``problem``, or nothing where they are
        not known."""

    async def send(self, frame: Frame) -> None:
        self._writer.write(framing.packed(frame))
        await self._writer.drain()


class Forks:
    """Used on one event loop, until ``close``."""

    def __init__(self, data_dir: Path, runners: Sequence[str]) -> None:
        self._arguments = [str(data_dir), *runners]
        self._nursery: Process | None = None
        self._requests: socket.socket | None = None
        self._starting = asyncio.Lock()

    async def warm_up(self) -> None:
        """Begin the imports, so that the first run need not wait for them."""
        async with self._starting:
            if self._nursery is None or self._nursery.returncode is not None:
                await self._start()

    async def close(self) -> None:
        """End the process that is forked; runs have ended before. Idempotent."""
        nursery, self._nursery = self._nursery, None
        if self._requests is not None:
            self._requests.close()
            self._requests = None
        if nursery is not None:
            if nursery.returncode is None:
                # It may be in the middle of its imports.
                nursery.kill()
            await nursery.wait()

    @asynccontextmanager
    async def process(self, job: Frame) -> AsyncIterator[RunProcess]:
        """A process that has been given ``job``. On leaving, nothing of it is alive.

        Raises:
            OSError: there can be none.
        """
        link, their_link = socket.socketpair()
        control, their_control = socket.socketpair()
        with their_link, their_control:
            try:
                await self._ask(their_link, their_control)
            except BaseException:
                link.close()
                control.close()
                raise
        told, controls = await asyncio.open_unix_connection(sock=control)
        reader, writer = await asyncio.open_unix_connection(sock=link)
        process = RunProcess(reader, writer, asyncio.create_task(_end(told)))
        try:
            await process.send({"job": job})
            yield process
        finally:
            controls.write_eof()
            done, _ = await asyncio.wait([process.ended], timeout=SWEEP_SECONDS)
            if not done:
                log.error("the processes of a run could not be swept in time")
                process.ended.cancel()
            writer.close()
            controls.close()

    async def _ask(self, link: socket.socket, control: socket.socket) -> None:
        descriptors = [link.fileno(), control.fileno()]
        await self.warm_up()
        assert self._requests is not None
        try:
            socket.send_fds(self._requests, [b"+"], descriptors)
        except ConnectionError:
            # It has died and nobody has noticed yet.
            log.warning("the process that runs are forked from is gone; a new one is made")
            async with self._starting:
                await self._start()
            socket.send_fds(self._requests, [b"+"], descriptors)

    async def _start(self) -> None:
        if self._requests is not None:
            self._requests.close()
        self._requests, theirs = socket.socketpair()
        with theirs:
            self._nursery = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", _PROGRAM, str(inherited_limit()), *self._arguments,
                stdin=theirs.fileno(), stdout=asyncio.subprocess.DEVNULL,
            )  # fmt: skip


async def _end(told: asyncio.StreamReader) -> Frame:
    try:
        said = await told.read()
    except OSError:
        said = b""
    found: Frame = json.loads(said) if said else {}
    return found
