"""Transport to MCP servers that are programs: one JSON message per line on stdin and stdout."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from beray.server.runners.model._mcp_compat import TransportStreams
from beray.server.runners.model.mcp_http import MESSAGE_BYTES


class McpProgram:
    """MCP server that is a program.

    Args:
        process: Context manager that runs the program.

    Attributes:
        ended: Set when the program has closed its output.
        last_lines: Last lines of its standard error.
    """

    def __init__(self, process: AbstractAsyncContextManager[Process]) -> None:
        self.ended = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=3)
        self._process = process

    @asynccontextmanager
    async def streams(self, on_end: Callable[[], None]) -> AsyncIterator[TransportStreams]:
        """Run the program and return the two streams of a session. On exit, it has ended.

        Args:
            on_end: Called when the program has closed its output.
        """
        to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        async with (
            _uninterrupted_exit(self._process) as process,
            to_session,
            incoming,
            outgoing,
            from_session,
        ):
            pipes = [
                asyncio.create_task(self._read_stdout(process, to_session, on_end)),
                asyncio.create_task(_write(process, from_session)),
                asyncio.create_task(self._read_stderr(process)),
            ]
            try:
                yield incoming, outgoing
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.wait(pipes)

    async def _read_stdout(
        self,
        process: Process,
        session: MemoryObjectSendStream[SessionMessage | Exception],
        on_end: Callable[[], None],
    ) -> None:
        assert process.stdout is not None
        try:
            async with session:
                rest = bytearray()
                while chunk := await process.stdout.read(64 * 1024):
                    rest += chunk
                    while (end := rest.find(b"\n")) >= 0:
                        line = bytes(rest[:end])
                        del rest[: end + 1]
                        if line.strip():
                            await session.send(_message(line))
                    if len(rest) > MESSAGE_BYTES:
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return
        finally:
            self.ended.set()
            on_end()

    async def _read_stderr(self, process: Process) -> None:
        assert process.stderr is not None
        rest = b""
        while chunk := await process.stderr.read(64 * 1024):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-1000:]
            for line in lines:
                if text := line[-1000:].decode("utf-8", "replace").strip():
                    self.last_lines.append(text)


@asynccontextmanager
async def _uninterrupted_exit(
    program: AbstractAsyncContextManager[Process],
) -> AsyncIterator[Process]:
    """Wait for the end of ``program`` on exit, even if the wait is cancelled repeatedly."""
    process = await program.__aenter__()
    try:
        yield process
    finally:
        ending = asyncio.ensure_future(program.__aexit__(None, None, None))
        interrupted = None
        while not ending.done():
            try:
                await asyncio.wait([ending])
            except asyncio.CancelledError as error:
                interrupted = error
        ending.result()
        if interrupted is not None:
            raise interrupted


async def _write(process: Process, session: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        async for message in session:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error
