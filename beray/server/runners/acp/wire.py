"""The lines between us and an agent: bounded, in order, and no faster than the log takes them.

This stands in the place of the transport of the package, which keeps a line whatever
its size, and has every update handled at once. Source: ACP, "Transports"; JSON-RPC 2.0.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from acp import CLIENT_METHODS

from beray.events import Event
from beray.server.runners.base import OverBudget, Sink, Usage
from beray.transfers import wire_names

LINE_BYTES: Final = 16 * 1024 * 1024
"""Longest message that an agent may send."""
NOISE_BYTES: Final = 1024 * 1024
"""How much it may write that is no message. Many print a greeting, or a warning."""
OPEN_REQUESTS: Final = 64
OPEN_BYTES: Final = 32 * 1024 * 1024
"""How many requests of an agent's, and how large, may wait for an answer before no more is
read until some have theirs."""
OPEN_WAITS: Final = 256
"""How many may wait for the end of a command, which may need further requests to come."""
_CHUNK_BYTES: Final = 256 * 1024
_UPDATE: Final = CLIENT_METHODS["session_update"]
_PATHS: Final = frozenset({"path", "cwd", "uri"})
"""Keys of messages whose values name files."""
_WAIT: Final = CLIENT_METHODS["terminal_wait_for_exit"]


class AgentFault(Exception):
    """The agent cannot go on; the text says why, as the end of "the agent …"."""


class Breaks:
    """The first thing that keeps a run from going on, whoever met it."""

    def __init__(self) -> None:
        self.first: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def say(self, error: Exception) -> None:
        if not self.first.done():
            self.first.set_result(error)


class CheckedSink:
    """A sink whose refusals end the run, also where nobody waits for the emitter."""

    def __init__(self, sink: Sink, breaks: Breaks) -> None:
        self._sink = sink
        self._breaks = breaks

    async def emit(self, event: Event, count: int = 1) -> None:
        try:
            await self._sink.emit(event, count)
        except Exception as error:
            self._breaks.say(error)
            raise

    async def charge(self, usage: Usage) -> None:
        try:
            await self._sink.charge(usage)
        except Exception as error:
            self._breaks.say(error)
            raise

    async def record(self, usage: Usage) -> None:
        await self._sink.record(usage)


class Wire:
    """A ``Transport`` of the package ``acp``.

    Updates are given to ``take`` here, one after the other; the next line is read when it has
    returned, so what an agent said before its answer is logged before that answer is known.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        take: Callable[[Any], Awaitable[None]],
        breaks: Breaks,
    ) -> None:
        self.noise = ""
        """The beginning of the last line that was no message."""
        self._reader = reader
        self._writer = writer
        self._take = take
        self._breaks = breaks
        self._buffer = bytearray()
        self._searched = 0
        self._noise_bytes = 0
        self._writing = asyncio.Lock()
        self._waits: set[int | str | None] = set()
        self._open: dict[int | str | None, int] = {}
        """The sizes of the other requests, until their answer is begun to be written."""
        self._unanswered = 0
        self._unanswered_bytes = 0
        self._answered = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        """Write one message.

        Raises:
            ConnectionError: the agent is gone, and this is not an answer that it waited for.
        """
        if "method" in message:
            await self._write(message)
            return
        self._waits.discard(message.get("id"))
        size = self._open.pop(message.get("id"), None)
        try:
            with suppress(ConnectionError):
                await self._write(message)
        finally:
            if size is not None:
                self._unanswered -= 1
                self._unanswered_bytes -= size
                self._answered.set()

    async def _write(self, message: dict[str, Any]) -> None:
        # One at a time: an agent that reads nothing must not fill our memory.
        async with self._writing:
            self.send_now(message)
            await self._writer.drain()

    def send_now(self, message: dict[str, Any]) -> None:
        """Write one message as far as the agent takes it, and wait for nothing."""
        text = json.dumps(message, separators=(",", ":"), default=str)
        self._writer.write(text.encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """Return the next request or answer; ``None`` when there will be none."""
        try:
            while self._unanswered >= OPEN_REQUESTS or self._unanswered_bytes > OPEN_BYTES:
                self._answered.clear()
                await self._answered.wait()
            while (line := await self._line()) is not None:
                message = self._message(line)
                if message is None:
                    continue
                if message.get("method") == _UPDATE and "id" not in message:
                    await self._take(message.get("params"))
                    continue
                return message
        except (AgentFault, OverBudget) as error:
            self._breaks.say(error)
        except Exception as error:
            self._breaks.say(error)
            raise
        return None

    async def close(self) -> None:
        """Nothing: the streams belong to the process."""

    async def _line(self) -> bytes | None:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > LINE_BYTES:
                raise AgentFault(f"sent a message of more than {LINE_BYTES // 1024**2} MiB")
            chunk = await self._reader.read(_CHUNK_BYTES)
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _message(self, line: bytes) -> dict[str, Any] | None:
        begun = line.lstrip()
        if not begun:
            return None
        if not begun.startswith(b"{"):
            self._count_noise(line)
            return None
        try:
            text = line.decode(errors="replace")
            message = json.loads(text, parse_constant=_nothing)
            if "\\u" in text:
                message = _unicode(message)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not _is_rpc(message):
            self._count_noise(line)
            return None
        if "method" in message:
            self._prepare(message, len(line))
        elif "error" in message:
            message["error"] = _error(message["error"])
        return message

    def _prepare(self, message: dict[str, Any], size: int) -> None:
        # The package would let these replace the parameters that are beside them.
        if isinstance(message.get("params"), dict):
            message["params"].pop("_meta", None)
        if "id" not in message:
            return
        if message["id"] in self._open or message["id"] in self._waits:
            raise AgentFault("uses one id for two requests at once")
        if message["method"] == _WAIT:
            self._waits.add(message["id"])
            if len(self._waits) > OPEN_WAITS:
                raise AgentFault(f"waits for commands more than {OPEN_WAITS} times at once")
            return
        self._open[message["id"]] = size
        self._unanswered += 1
        self._unanswered_bytes += size

    def _count_noise(self, line: bytes) -> None:
        self.noise = line[:500].decode(errors="replace")
        self._noise_bytes += len(line) + 1
        if self._noise_bytes > NOISE_BYTES:
            raise AgentFault("writes something else than the Agent Client Protocol to its output")


def _is_rpc(message: dict[str, Any]) -> bool:
    if not isinstance(message.get("id"), int | str | None):
        return False
    return isinstance(message["method"], str) if "method" in message else "id" in message


def _error(error: Any) -> dict[str, Any]:
    """An error as the package needs it."""
    if not isinstance(error, dict):
        error = {"message": str(error)}
    code, text = error.get("code"), error.get("message")
    return {
        "code": code if isinstance(code, int) else -32603,
        "message": text if isinstance(text, str) else "Error",
        "data": error.get("data"),
    }


def _nothing(_constant: str) -> None:
    """NaN and Infinity, which JSON does not have."""


def _named(key: str, value: Any) -> Any:
    """Keep a path with undecodable bytes, for which Python programs send lone surrogates."""
    return wire_names.to_wire_name(value) if key in _PATHS and isinstance(value, str) else value


def _unicode(value: Any) -> Any:
    """Replace halves of surrogate pairs, which no text may have."""
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            value.encode()
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_unicode(item) for item in value]
    if isinstance(value, dict):
        return {_unicode(key): _unicode(_named(key, item)) for key, item in value.items()}
    return value
