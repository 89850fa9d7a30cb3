"""Relays from a sandbox to services that the operator allows.

The launcher creates the listening sockets in the network namespace of the command and passes
them to this process, which is outside of it. This process accepts the connections and connects
to the services.
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

from beray.server.sandbox.launcher import framing
from beray.server.sandbox.network_policy import CommandNetwork
from beray.server.setting_types.destinations import Destination

MAX_CONNECTIONS: Final = 256
"""Maximum number of open connections of one command; further ones wait to be accepted."""
CONNECT_SECONDS: Final = 10.0
"""Time limit for connecting to a service."""
_BLOCK_BYTES: Final = 64 * 1024
_MAX_LISTENERS: Final = 253
"""Maximum number of descriptors in one message: SCM_MAX_FD of Linux."""
_CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]

log = structlog.get_logger("beray.sandbox")


def tcp_connector(destination: Destination) -> Connect:
    """Return a function that connects to a TCP service from the server's network."""

    async def connect() -> Streams:
        return await asyncio.open_connection(destination.host, destination.port)

    return connect


def unix_connector(path: str) -> Connect:
    """Return a function that connects to a Unix socket."""

    async def connect() -> Streams:
        # The path of a socket has at most 107 bytes. A path through a descriptor is always shorter.
        directory, name = os.path.split(path)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)

    return connect


async def receive_listeners(control: socket.socket) -> tuple[str | None, list[socket.socket]]:
    """Receive the launcher's reply: a problem and no sockets, or None and the listening sockets.

    Raises:
        EOFError: The launcher ended before it replied.
    """
    received, sockets = bytearray(), list[socket.socket]()
    try:
        while (message := framing.decode(received)) is None:
            await _wait_readable(control)
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
    problem: str | None = json.loads(message)["problem"]
    return problem, sockets


async def _wait_readable(control: socket.socket) -> None:
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
async def relay_command(control: socket.socket, network: CommandNetwork) -> AsyncIterator[None]:
    """Relay the connections of a command that the launcher is about to start.

    A failure to set up the network is logged here; the launcher writes it to the command's output.
    """
    connectors = [tcp_connector(listener.destination) for listener in network.listeners()]
    if network.gateway is not None and network.gateway.socket is not None:
        connectors.append(unix_connector(network.gateway.socket))
    try:
        problem, listeners = await receive_listeners(control)
    except EOFError:
        problem, listeners = "the launcher ended", []
    if problem is not None:
        log.warning("a command was not started: its network is not available", problem=problem)
        yield
        return
    async with relay_connections(listeners, connectors):
        yield


@asynccontextmanager
async def relay_connections(
    listeners: Sequence[socket.socket], connectors: Sequence[Connect]
) -> AsyncIterator[None]:
    """Relay the connections of each listener to its service; close all of them on leaving.

    Args:
        listeners: Listening sockets.
        connectors: Functions that connect to the services, in the order of ``listeners``.
    """
    free = asyncio.Semaphore(MAX_CONNECTIONS)
    accepting = [
        asyncio.create_task(_accept(listener, connect, free))
        for listener, connect in zip(listeners, connectors, strict=True)
    ]
    try:
        yield
    finally:
        await _cancel(accepting)
        _close(listeners)


async def _accept(listener: socket.socket, connect: Connect, free: asyncio.Semaphore) -> None:
    """Accept and relay connections until cancelled.

    Args:
        listener: Listening socket.
        connect: Connects to the service.
        free: Number of further connections that the command may have.
    """
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    def on_end(connection: asyncio.Task[None]) -> None:
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
                # The server is short of descriptors, or the client has closed the connection.
                log.warning("a relayed connection was not accepted", problem=str(error))
                await asyncio.sleep(0.1)
                continue
            connection = asyncio.create_task(_relay(accepted, connect))
            connections.add(connection)
            connection.add_done_callback(on_end)
    finally:
        await _cancel(list(connections))


async def _relay(accepted: socket.socket, connect: Connect) -> None:
    """Relay one connection; reset it if the service cannot be reached."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            service = await connect()
    except (OSError, TimeoutError):
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        return
    except BaseException:
        accepted.close()
        raise
    try:
        client = await asyncio.open_connection(sock=accepted)
    except BaseException:
        service[1].transport.abort()
        raise
    copies = [
        asyncio.create_task(_copy(client[0], service[1])),
        asyncio.create_task(_copy(service[0], client[1])),
    ]
    try:
        # The end of one direction leaves the other one open; an error ends both.
        await asyncio.gather(*copies)
    except OSError:
        for _, writer in (client, service):
            writer.transport.abort()
    finally:
        await _cancel(copies)
        for _, writer in (client, service):
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK_BYTES):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        with suppress(OSError):
            sock.close()
