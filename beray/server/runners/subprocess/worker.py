"""In the process of a run: does one job, and tells the server what happens in it."""

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
from beray.server.runners.base import GatewayAccess, Job, OverBudget, Runner, Usage
from beray.server.runners.subprocess import framing
from beray.server.runners.subprocess.framing import Frame
from beray.server.runtime import logging_setup
from beray.server.sandbox.network_policy import NetworkState
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings


def prepare(name: str, settings: Settings) -> None:
    """Import what runs of this runner need, once for all of them."""
    module = {"acp": "acp", "agent": "remote_agent"}.get(name)
    if module:
        importlib.import_module(f"beray.server.runners.{module}")
    else:
        from beray.server.runners.model.prepare import prepare

        prepare(settings.model)


def begin(link: int) -> Frame:
    """The job, as ``remote`` sent it.

    Raises:
        EOFError, OSError: the server has gone.
    """
    # Not a byte more is read: what follows is for the child.
    with open(link, "rb", buffering=0, closefd=False) as file:
        job: Frame = framing.read_from(file)["job"]
    return job


def run(link: int, given: Frame) -> NoReturn:
    """Do the job of ``begin`` and leave."""
    status = 1
    try:
        logging_setup.configure()
        asyncio.run(_do(socket.socket(fileno=link), given))
        status = 0
    finally:
        os._exit(status)


async def _do(link: socket.socket, given: Frame) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=link)
    server = _Server(writer)
    paths = {name: given["job"][name] for name in ("work_dir", "conversation")}
    access = given["job"]["gateway"]
    told = {name: path and Path(path) for name, path in paths.items()}
    job = Job(**given["job"] | told | {"gateway": access and GatewayAccess(**access)})
    settings = Settings(data_dir=Path(given["data_dir"]))
    address, embedded = given["listener"]
    settings.set_listener(address, embedded=embedded)
    network = NetworkState.from_dict(given["network"])
    runner = _runner(
        given["runner"], settings, Sandbox(given["sandbox"], settings, network=network)
    )
    doing = asyncio.create_task(_told(runner, job, server))
    listening = asyncio.create_task(_listen(reader, server, doing))
    await asyncio.wait([doing])
    listening.cancel()
    with suppress(ConnectionError):
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    if not doing.cancelled():
        doing.result()


def _runner(name: str, settings: Settings, sandbox: Sandbox) -> Runner:
    # Only one of them is needed, and each is imported by the process this one is forked from.
    if name == "acp":
        from beray.server.runners.acp import AcpRunner

        return AcpRunner(settings, sandbox)
    if name == "agent":
        from beray.server.runners.remote_agent import AgentRunner

        return AgentRunner(settings)
    from beray.server.runners.model import ModelRunner

    return ModelRunner(settings, sandbox)


async def _told(runner: Runner, job: Job, server: _Server) -> None:
    try:
        outcome = await runner.run(job, server)
    except OverBudget as error:
        await server.send({"outcome": {"status": "FAILED", "reason": "budget", "over": str(error)}})
    except Exception as error:
        await server.send({"broken": type(error).__name__})
        raise
    else:
        await server.send({"outcome": asdict(outcome)})


async def _listen(reader: asyncio.StreamReader, server: _Server, doing: asyncio.Task[None]) -> None:
    while True:
        try:
            frame = await framing.read(reader)
        except (EOFError, OSError):
            frame = {"stop": True}
        if "stop" in frame:
            doing.cancel()
            return
        server.answered(frame.get("refused"))


class _Server:
    """The server, as a runner knows it: a ``Sink``."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._charges: deque[asyncio.Future[str | None]] = deque()

    async def send(self, frame: Frame) -> None:
        self._writer.write(framing.packed(frame))
        await self._writer.drain()

    async def emit(self, event: Event, count: int = 1) -> None:
        await self.send({"event": event.model_dump()})

    async def charge(self, usage: Usage) -> None:
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._charges.append(answer)
        await self.send({"charge": asdict(usage)})
        refused = await answer
        if refused is not None:
            raise OverBudget(refused)

    async def record(self, usage: Usage) -> None:
        await self.send({"record": asdict(usage)})

    def answered(self, refused: str | None) -> None:
        answer = self._charges.popleft()
        if not answer.done():
            answer.set_result(refused)
