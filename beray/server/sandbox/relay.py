"""Connections from a sandbox to chosen services: accepted there, made by the server.

The launcher creates the listening sockets in the network namespace of the command and passes
them to this process, which is outside of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from beray.server.sandbox.network_policy import CommandNetwork, Destination

MAX_CONNECTIONS: Final = 256
"""Connections of one command at a time; others wait to be accepted."""
CONNECT_SECONDS: Final = 10.0
_BLOCK_BYTES: Final = 64 * 1024
_MAX_LISTENERS: Final = 253
"""Descriptors in one message: SCM_MAX_FD of Linux."""
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]

log = structlog.get_logger("beray.sandbox")


def to_address(destination: Destination) -> Connect:
    """Return a function that connects to a TCP service as the server reaches it."""

    async def connect() -> Streams:
        return await asyncio.open_connection(destination.host, destination.port)

    return connect


def to_socket(path: str) -> Connect:
    """Return a function that connects to a Unix socket."""

    async def connect() -> Streams:
        # The path of a socket has 107 bytes at most; through a descriptor it is always shorter.
        folder, name = os.path.split(path)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{name}")
        finally:
            os.close(directory)

    return connect


async def receive_listeners(control: socket.socket) -> tuple[str | None, list[socket.socket]]:
    """Return the answer of the launcher: the problem, or None and its listening sockets.

    Raises:
        EOFError: the launcher ended before it answered.
    """
    received, sockets = bytearray(), list[socket.socket]()
    try:
        while len(received) < 4 or len(received) < 4 + int.from_bytes(received[:4], "big"):
            await _readable(control)
            try:
                data, numbers, _, _ = socket.recv_fds(control, 4096, _MAX_LISTENERS, _CLOSE_ON_EXEC)
            except BlockingIOError:
                continue
            except ConnectionError:
                raise EOFError from None
            for number in numbers:
                sockets.append(socket.socket(fileno=number))
            if not data:
                raise EOFError
            received += data
    except BaseException:
        _close(sockets)
        raise
    problem: str | None = json.loads(received[4:])["problem"]
    return problem, sockets


async def _readable(control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(control, wake)
    try:
        await ready
    finally:
        loop.remove_reader(control)


@asynccontextmanager
async def of_command(control: socket.socket, network: CommandNetwork) -> AsyncIterator[None]:
    """Relay the connections of a command that the launcher is about to start.

    A failure to set up the network is logged here; the launcher writes it to the command's output.
    """
    targets = [to_address(one.destination) for one in network.listeners()]
    if network.gateway is not None and network.gateway.socket is not None:
        targets.append(to_socket(network.gateway.socket))
    try:
        problem, listeners = await receive_listeners(control)
    except EOFError:
        problem, listeners = "the launcher ended", []
    if problem is not None:
        log.warning("a command was not started without its network", problem=problem)
        yield
        return
    async with relaying(listeners, targets):
        yield


@asynccontextmanager
async def relaying(
    listeners: Sequence[socket.socket], targets: Sequence[Connect]
) -> AsyncIterator[None]:
    """Connect what arrives at each listener with its target; close all of it on leaving."""
    free = asyncio.Semaphore(MAX_CONNECTIONS)
    accepting = [
        asyncio.create_task(_accept(listener, target, free))
        for listener, target in zip(listeners, targets, strict=True)
    ]
    try:
        yield
    finally:
        await _cancelled(accepting)
        _close(listeners)


async def _accept(listener: socket.socket, target: Connect, free: asyncio.Semaphore) -> None:
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    def ended(connection: asyncio.Task[None]) -> None:
        connections.discard(connection)
        free.release()
        if not connection.cancelled() and (error := connection.exception()) is not None:
            log.error("a relayed connection failed", exc_info=error)

    try:
        while True:
            await free.acquire()
            try:
                accepted, _ = await loop.sock_accept(listener)
            except BaseException as error:
                free.release()
                if not isinstance(error, OSError):
                    raise
                # The server is short of descriptors, or the peer has gone.
                log.warning("a relayed connection was not accepted", problem=str(error))
                await asyncio.sleep(0.1)
                continue
            connection = asyncio.create_task(_connected(accepted, target))
            connections.add(connection)
            connection.add_done_callback(ended)
    finally:
        await _cancelled(list(connections))


async def _connected(accepted: socket.socket, target: Connect) -> None:
    """Carry one connection; reset it if the service cannot be reached."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            there = await target()
    except (OSError, TimeoutError):
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        return
    except BaseException:
        accepted.close()
        raise
    try:
        here = await asyncio.open_connection(sock=accepted)
    except BaseException:
        there[1].transport.abort()
        raise
    pumps = [
        asyncio.create_task(_pump(here[0], there[1])),
        asyncio.create_task(_pump(there[0], here[1])),
    ]
    try:
        # A direction that has ended leaves the other one open; an error ends both.
        await asyncio.gather(*pumps)
    except OSError:
        for _, writer in (here, there):
            writer.transport.abort()
    finally:
        await _cancelled(pumps)
        for _, writer in (here, there):
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK_BYTES):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        with suppress(OSError):
            one.close()
