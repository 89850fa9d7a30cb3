"""Protocol between the server and the worker process of a function.

Both directions carry frames: length-prefixed messages with a JSON object. Everything from the
worker is untrusted: its size is limited and its content checked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from beray.server.runners.command_line import Tail
from beray.server.sandbox.launcher import framing
from beray.server.sandbox.launching import SupervisedCommand
from beray.server.storage.json_values import check_json

MAX_BYTES: Final = 16 * 1024**2
"""Maximum size of all frames that one call may send, in bytes."""
MALFORMED_MESSAGE: Final = "the function's process sent a malformed message"
_INLINE_BYTES: Final = 32 * 1024
"""Larger frames are decoded in a thread."""
_MAX_CHARACTERS: Final = {"message": 2_000, "traceback": 16_000}
_CODES: Final = frozenset(
    {"FUNCTION_ERROR", "INVALID_INPUT", "INVALID_OUTPUT", "MEMORY_LIMIT", "OUTPUT_TOO_LARGE"}
)

Frame = dict[str, Any]
StreamItem = tuple[str, Any]
"""``content`` or ``progress``, and its data."""
Emit = Callable[[StreamItem], Awaitable[None]]


class RunFailed(Exception):
    """A call failed.

    Attributes:
        code: Error code of the wire page, such as ``TIMEOUT``.
        traceback: Traceback of the function, or "".
    """

    def __init__(self, code: str, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.traceback = traceback


class WorkerConnection:
    """Connection to the worker process; an async context manager."""

    def __init__(self, function: SupervisedCommand) -> None:
        process = function.process
        assert process.stdin is not None and process.stdout is not None
        self._function = function
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._bytes_left = MAX_BYTES
        self.prints = Tail()

    async def send(self, request: Frame) -> None:
        """Send the request and close the input of the process."""
        # The exit of the process is reported by ``receive``.
        with suppress(ConnectionError):
            self._stdin.write(encode_frame(request))
            await self._stdin.drain()
        self._stdin.close()

    async def receive(self) -> tuple[str, Any]:
        """Return the name and data of the next frame other than ``failed``.

        Raises:
            RunFailed: The function failed, the process exited, or the frame is malformed or
                too large.
        """
        try:
            body = await framing.receive(self._stdout, self._bytes_left)
        except framing.MessageTooLong:
            reason = f"the function's output exceeds {MAX_BYTES:,} bytes of JSON"
            raise RunFailed("OUTPUT_TOO_LARGE", reason) from None
        except EOFError:
            raise await self._exit_error() from None
        self._bytes_left -= len(body)
        decoding = asyncio.to_thread(_decode_frame, body) if len(body) > _INLINE_BYTES else None
        frame = _decode_frame(body) if decoding is None else await decoding
        name, data = next(iter(frame.items()))
        if name == "failed":
            raise _failure(data)
        return name, data

    async def _exit_error(self) -> RunFailed:
        """Wait for the end of the process and return the error that describes it."""
        status = await self._process.wait()
        # The output of the function belongs to the report of a failure.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.printing
        excess = await self._function.exceeded_limit()
        if excess is not None:
            code = "MEMORY_LIMIT" if excess.limit == "memory" else "CRASHED"
            return RunFailed(code, f"the function was terminated: {excess.problem}")
        how = f"signal {status - 128}" if status > 128 else f"exit status {status}"
        return RunFailed("CRASHED", f"the function's process ended before it returned ({how})")

    async def __aenter__(self) -> WorkerConnection:
        assert self._process.stderr is not None
        self.printing = asyncio.create_task(self.prints.drain(self._process.stderr))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.printing.cancel()
        await asyncio.wait([self.printing])


def encode_frame(frame: Frame) -> bytes:
    """Return the encoded frame, including its length."""
    body = json.dumps(frame, separators=(",", ":"), allow_nan=False).encode()
    return framing.encode(body)


def _decode_frame(body: bytes) -> Frame:
    try:
        frame = json.loads(body.decode("utf-8", "surrogatepass"), parse_constant=_reject_constant)
        check_json(frame)
    except json.JSONDecodeError:
        raise RunFailed("INVALID_OUTPUT", MALFORMED_MESSAGE) from None
    except (ValueError, RecursionError) as error:
        reason = f"the function's output cannot be sent as JSON: {error}"
        raise RunFailed("INVALID_OUTPUT", reason) from None
    if not isinstance(frame, dict) or len(frame) != 1:
        raise RunFailed("INVALID_OUTPUT", MALFORMED_MESSAGE)
    return frame


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def check_progress(data: object) -> dict[str, Any]:
    """Return the data of a ``Progress`` that a function yielded.

    Raises:
        RunFailed: The fraction is not a number from 0 to 1 or None.
    """
    fraction = data.get("fraction") if isinstance(data, dict) else 2
    is_valid = fraction is None or (
        isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1
    )
    if not isinstance(data, dict) or not is_valid:
        reason = "the fraction of a Progress must be a number from 0 to 1, or None"
        raise RunFailed("INVALID_OUTPUT", reason)
    return {"fraction": fraction, "message": str(data.get("message", ""))[:2_000]}


def _failure(data: object) -> RunFailed:
    fields = data if isinstance(data, dict) else {}
    code = fields.get("code")
    texts = {name: str(fields.get(name, ""))[-most:] for name, most in _MAX_CHARACTERS.items()}
    return RunFailed(code if code in _CODES else "FUNCTION_ERROR", **texts)
