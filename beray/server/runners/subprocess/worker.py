"""Execution of one job in the process of a run, with events sent to the server."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from beray.events import Event
from beray.server.runners.base import BudgetExceeded, GatewayAccess, Job, Runner, Usage
from beray.server.runners.subprocess import protocol
from beray.server.runners.subprocess.protocol import Frame
from beray.server.runtime import logging_setup
from beray.server.sandbox.network_policy import NetworkState
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings


def preload(name: str, settings: Settings) -> None:
    """Import the modules that runs of this runner need, once for all of them."""
    module = {"acp": "acp", "agent": "remote_agent"}.get(name)
    if module:
        importlib.import_module(f"beray.server.runners.{module}")
    else:
        from beray.server.runners.model.runner import preload

        preload(settings.model)


def read_job(link: int) -> Frame:
    """Return the job that the server sent as the first frame.

    Raises:
        EOFError: The server closed the connection.
        OSError: The connection broke.
    """
    # Unbuffered, so that the frames after the job remain for ``run``.
    with os.fdopen(link, "rb", buffering=0, closefd=False) as file:
        job: Frame = protocol.read_blocking(file)["job"]
    return job


def run(link: int, job: Frame) -> NoReturn:
    """Execute the job that ``read_job`` returned, and exit."""
    status = 1
    try:
        logging_setup.configure()
        asyncio.run(_run(socket.socket(fileno=link), job))
        status = 0
    finally:
        os._exit(status)


async def _run(link: socket.socket, frame: Frame) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=link)
    sink = _ServerSink(writer)
    fields = frame["job"]
    paths = {name: fields[name] for name in ("work_dir", "conversation")}
    decoded = {name: path and Path(path) for name, path in paths.items()}
    access = fields["gateway"]
    job = Job(**fields | decoded | {"gateway": access and GatewayAccess(**access)})
    settings = Settings(data_dir=Path(frame["data_dir"]))
    address, embedded = frame["listener"]
    settings.set_listener(address, embedded=embedded)
    network = NetworkState.from_dict(frame["network"])
    runner = _runner(
        frame["runner"], settings, Sandbox(frame["sandbox"], settings=settings, network=network)
    )
    executing = asyncio.create_task(_execute(runner, job, sink))
    listening = asyncio.create_task(_listen(reader, sink, executing))
    await asyncio.wait([executing])
    listening.cancel()
    with suppress(ConnectionError):
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    if not executing.cancelled():
        executing.result()


def _runner(name: str, settings: Settings, sandbox: Sandbox) -> Runner:
    # Only one of them is needed. The fork server has imported it already.
    if name == "acp":
        from beray.server.runners.acp import AcpRunner

        return AcpRunner(settings=settings, sandbox=sandbox)
    if name == "agent":
        from beray.server.runners.remote_agent import AgentRunner

        return AgentRunner(settings=settings)
    from beray.server.runners.model import ModelRunner

    return ModelRunner(settings=settings, sandbox=sandbox)


async def _execute(runner: Runner, job: Job, sink: _ServerSink) -> None:
    """Run the job and send its outcome."""
    try:
        outcome = await runner.run(job, sink)
    except BudgetExceeded as error:
        await sink.send({"outcome": {"status": "FAILED", "reason": "budget", "over": str(error)}})
    except Exception as error:
        await sink.send({"broken": type(error).__name__})
        raise
    else:
        await sink.send({"outcome": asdict(outcome)})


async def _listen(
    reader: asyncio.StreamReader, sink: _ServerSink, executing: asyncio.Task[None]
) -> None:
    """Handle the server's responses to charges, and cancel the run if the server asks for it."""
    while True:
        try:
            frame = await protocol.read(reader)
        except (EOFError, OSError):
            frame = {"stop": True}
        if "stop" in frame:
            executing.cancel()
            return
        sink.resolve_charge(frame.get("refused"))


class _ServerSink:
    """``Sink`` that sends everything to the server."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._charges: deque[asyncio.Future[str | None]] = deque()

    async def send(self, frame: Frame) -> None:
        """Send a frame."""
        self._writer.write(protocol.encode(frame))
        await self._writer.drain()

    async def emit(self, event: Event, count: int = 1) -> None:
        """Send an event. The server merges chunks and counts them itself."""
        await self.send({"event": event.model_dump()})

    async def charge(self, usage: Usage) -> None:
        """Send the usage so far and wait for the server's response.

        Raises:
            BudgetExceeded: The server allows no further request.
        """
        response: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._charges.append(response)
        await self.send({"charge": asdict(usage)})
        rejection = await response
        if rejection is not None:
            raise BudgetExceeded(rejection)

    async def record(self, usage: Usage) -> None:
        """Send the total usage."""
        await self.send({"record": asdict(usage)})

    def resolve_charge(self, rejection: str | None) -> None:
        """Complete the oldest pending ``charge``; ``rejection`` is the exceeded limit, or None."""
        response = self._charges.popleft()
        if not response.done():
            response.set_result(rejection)
