"""Transport of JSON-RPC messages over an agent's standard streams.

Unlike the transport of the package ``acp``, which buffers lines of any length and handles updates
concurrently, it limits sizes and handles updates in order, with backpressure from the event log.

Source: ACP, "Transports"; JSON-RPC 2.0.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from acp import CLIENT_METHODS

from beray.events import Event
from beray.server.runners.base import BudgetExceeded, Sink, Usage
from beray.transfers import wire_names

LINE_BYTES: Final = 16 * 1024 * 1024
"""Maximum length of one message."""
STRAY_BYTES: Final = 1024 * 1024
"""Maximum size of output that is not a message. Many agents print a greeting or warnings."""
OPEN_REQUESTS: Final = 64
"""Number of unanswered requests of the agent at which reading pauses."""
OPEN_BYTES: Final = 32 * 1024 * 1024
"""Total size of unanswered requests above which reading pauses."""
OPEN_WAITS: Final = 256
"""Maximum number of pending requests for the end of a command. They do not pause reading,
because the command may need further requests to end."""
_CHUNK_BYTES: Final = 256 * 1024
_UPDATE: Final = CLIENT_METHODS["session_update"]
_PATHS: Final = frozenset({"path", "cwd", "uri"})
"""Keys of messages whose values name files."""
_WAIT: Final = CLIENT_METHODS["terminal_wait_for_exit"]


class AgentFault(Exception):
    """The agent failed; the message is the predicate of a sentence "The agent …"."""


class RunAbort:
    """Signal that aborts a run.

    Attributes:
        error: Future with the first exception that makes continuing impossible.
    """

    def __init__(self) -> None:
        self.error: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def set(self, error: Exception) -> None:
        """Abort the run with ``error``, unless it is aborted already."""
        if not self.error.done():
            self.error.set_result(error)


class AbortingSink:
    """Sink whose exceptions abort the run, also when they occur in background tasks."""

    def __init__(self, *, sink: Sink, abort: RunAbort) -> None:
        self._sink = sink
        self._abort = abort

    async def emit(self, event: Event, count: int = 1) -> None:
        """Emit an event."""
        try:
            await self._sink.emit(event, count)
        except Exception as error:
            self._abort.set(error)
            raise

    async def charge(self, usage: Usage) -> None:
        """Report the usage so far."""
        try:
            await self._sink.charge(usage)
        except Exception as error:
            self._abort.set(error)
            raise

    async def record(self, usage: Usage) -> None:
        """Report the total usage."""
        await self._sink.record(usage)


class AgentTransport:
    """``Transport`` of the package ``acp``.

    Session updates are passed to ``on_update`` one after the other. The next line is read when it
    has returned. All updates are therefore logged before the response that follows them is
    processed.

    Args:
        reader: Standard output of the agent.
        writer: Standard input of the agent.
        on_update: Handler of the parameters of session updates.
        abort: Signal for failures of the transport.

    Attributes:
        stray_output: Beginning of the last line that was not a message.
    """

    def __init__(
        self,
        *,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_update: Callable[[Any], Awaitable[None]],
        abort: RunAbort,
    ) -> None:
        self.stray_output = ""
        self._reader = reader
        self._writer = writer
        self._on_update = on_update
        self._abort = abort
        self._buffer = bytearray()
        self._searched = 0
        self._stray_bytes = 0
        self._writing = asyncio.Lock()
        self._waits: set[int | str | None] = set()
        """Ids of pending requests for the end of a command."""
        self._open: dict[int | str | None, int] = {}
        """Sizes of the other pending requests by id."""
        self._unanswered = 0
        self._unanswered_bytes = 0
        self._answered = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        """Write one message.

        Raises:
            ConnectionError: The agent has exited, and the message is a request or notification.
                Responses are discarded then.
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
        # One at a time, so that an agent that does not read cannot make the buffer grow.
        async with self._writing:
            self.send_now(message)
            await self._writer.drain()

    def send_now(self, message: dict[str, Any]) -> None:
        """Write one message without waiting for the agent to read it."""
        text = json.dumps(message, separators=(",", ":"), default=str)
        self._writer.write(text.encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """Return the next request or response, or None at the end of the output."""
        try:
            while self._unanswered >= OPEN_REQUESTS or self._unanswered_bytes > OPEN_BYTES:
                self._answered.clear()
                await self._answered.wait()
            while (line := await self._line()) is not None:
                message = self._message(line)
                if message is None:
                    continue
                if message.get("method") == _UPDATE and "id" not in message:
                    await self._on_update(message.get("params"))
                    continue
                return message
        except (AgentFault, BudgetExceeded) as error:
            self._abort.set(error)
        except Exception as error:
            self._abort.set(error)
            raise
        return None

    async def close(self) -> None:
        """Do nothing: the streams belong to the process."""

    async def _line(self) -> bytes | None:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > LINE_BYTES:
                limit = LINE_BYTES // 1024**2
                raise AgentFault(f"sent a message of more than {limit} MiB, which is the limit")
            chunk = await self._reader.read(_CHUNK_BYTES)
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _message(self, line: bytes) -> dict[str, Any] | None:
        stripped = line.lstrip()
        if not stripped:
            return None
        if not stripped.startswith(b"{"):
            self._count_stray(line)
            return None
        try:
            text = line.decode(errors="replace")
            message = json.loads(text, parse_constant=_null)
            if "\\u" in text:
                message = _without_surrogates(message)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not _is_rpc(message):
            self._count_stray(line)
            return None
        if "method" in message:
            self._register(message, len(line))
        elif "error" in message:
            message["error"] = _normalized_error(message["error"])
        return message

    def _register(self, message: dict[str, Any], size: int) -> None:
        """Count a request as pending, and remove metadata.

        Raises:
            AgentFault: The id is in use, or too many requests wait for commands.
        """
        # The package would let keys of _meta replace parameters of the same name.
        if isinstance(message.get("params"), dict):
            message["params"].pop("_meta", None)
        if "id" not in message:
            return
        if message["id"] in self._open or message["id"] in self._waits:
            raise AgentFault("sent two concurrent requests with the same id")
        if message["method"] == _WAIT:
            self._waits.add(message["id"])
            if len(self._waits) > OPEN_WAITS:
                raise AgentFault(
                    f"has more than {OPEN_WAITS} pending requests to wait for commands"
                )
            return
        self._open[message["id"]] = size
        self._unanswered += 1
        self._unanswered_bytes += size

    def _count_stray(self, line: bytes) -> None:
        self.stray_output = line[:500].decode(errors="replace")
        self._stray_bytes += len(line) + 1
        if self._stray_bytes > STRAY_BYTES:
            raise AgentFault(
                "writes output that does not conform to the Agent Client Protocol "
                f"(more than {STRAY_BYTES // 1024**2} MiB)"
            )


def _is_rpc(message: dict[str, Any]) -> bool:
    if not isinstance(message.get("id"), int | str | None):
        return False
    return isinstance(message["method"], str) if "method" in message else "id" in message


def _normalized_error(error: Any) -> dict[str, Any]:
    """Return an error with the types that the package requires."""
    if not isinstance(error, dict):
        error = {"message": str(error)}
    code, text = error.get("code"), error.get("message")
    return {
        "code": code if isinstance(code, int) else -32603,
        "message": text if isinstance(text, str) else "Error",
        "data": error.get("data"),
    }


def _null(_constant: str) -> None:
    """Return None in place of NaN and Infinity, which are not valid in JSON."""


def _with_wire_path(key: str, value: Any) -> Any:
    """Convert a path that contains lone surrogates to wire encoding.

    Python programs represent undecodable bytes of file names by lone surrogates.
    """
    return wire_names.to_wire_name(value) if key in _PATHS and isinstance(value, str) else value


def _without_surrogates(value: Any) -> Any:
    """Replace lone surrogates, which cannot be encoded in UTF-8."""
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            value.encode()
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            _without_surrogates(key): _without_surrogates(_with_wire_path(key, item))
            for key, item in value.items()
        }
    return value
