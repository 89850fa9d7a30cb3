"""What is said to the process of a function, and what it says: bounded, and checked."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from beray.server.runners.command_line import Tail
from beray.server.sandbox.launching import Supervised
from beray.server.storage.json_values import check_json

MOST_BYTES: Final = 16 * 1024**2
"""Of all that one call says: its pieces and its result, as JSON."""
NOT_UNDERSTOOD: Final = "the function's process said what nobody understands"
_LENGTH: Final = struct.Struct("!I")
_LONG_BYTES: Final = 32 * 1024
"""Frames beyond this are decoded in a thread."""
_TEXT_CHARACTERS: Final = {"message": 2_000, "traceback": 16_000}
_CODES: Final = frozenset(
    {"FUNCTION_ERROR", "INVALID_INPUT", "INVALID_OUTPUT", "MEMORY_LIMIT", "OUTPUT_TOO_LARGE"}
)

Frame = dict[str, Any]
Piece = tuple[str, Any]
"""``content`` or ``progress``, and its data."""
Emit = Callable[[Piece], Awaitable[None]]


class RunFailed(Exception):
    """A call did not succeed; ``code`` is one of the wire's."""

    def __init__(self, code: str, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.traceback = traceback


class Child:
    """The process: what it is sent, and what it says."""

    def __init__(self, function: Supervised) -> None:
        process = function.process
        assert process.stdin is not None and process.stdout is not None
        self._function = function
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._left = MOST_BYTES
        self.prints = Tail()

    async def send(self, job: Frame) -> None:
        # One that has ended already is noticed when it is listened to.
        with suppress(ConnectionError):
            self._stdin.write(packed(job))
            await self._stdin.drain()
        self._stdin.close()

    async def frame(self) -> tuple[str, Any]:
        """The next thing that it says, ``failed`` not among them.

        Raises:
            RunFailed: it failed, ended without a word, or said what nobody understands.
        """
        try:
            (length,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
            if length > self._left:
                raise RunFailed("OUTPUT_TOO_LARGE", f"more than {MOST_BYTES:,} bytes of JSON")
            self._left -= length
            body = await self._stdout.readexactly(length)
        except asyncio.IncompleteReadError:
            raise await self._ended() from None
        decode = asyncio.to_thread(_decoded, body) if length > _LONG_BYTES else None
        frame = _decoded(body) if decode is None else await decode
        name, data = next(iter(frame.items()))
        if name == "failed":
            raise _failure(data)
        return name, data

    async def _ended(self) -> RunFailed:
        """Why it ended."""
        status = await self._process.wait()
        # What the function has printed belongs to the report of a failure.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.printing
        problem = await self._function.exceeded_limit()
        if problem is not None:
            code = "MEMORY_LIMIT" if problem.endswith("bytes of memory") else "CRASHED"
            return RunFailed(code, f"the function was ended: {problem}")
        how = f"signal {status - 128}" if status > 128 else f"exit status {status}"
        return RunFailed("CRASHED", f"the function's process ended before it returned ({how})")

    async def __aenter__(self) -> Child:
        assert self._process.stderr is not None
        self.printing = asyncio.create_task(self.prints.drain(self._process.stderr))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.printing.cancel()
        await asyncio.wait([self.printing])


def packed(frame: Frame) -> bytes:
    body = json.dumps(frame, separators=(",", ":"), allow_nan=False).encode()
    return _LENGTH.pack(len(body)) + body


def _decoded(body: bytes) -> Frame:
    try:
        frame = json.loads(body.decode("utf-8", "surrogatepass"), parse_constant=_no_constant)
        check_json(frame)
    except (ValueError, RecursionError) as error:
        said = "no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        said = f"what the function gave cannot be passed on: {said}"
        raise RunFailed("INVALID_OUTPUT", said) from None
    if not isinstance(frame, dict) or len(frame) != 1:
        raise RunFailed("INVALID_OUTPUT", NOT_UNDERSTOOD)
    return frame


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def progress(data: object) -> dict[str, Any]:
    """What a function says with ``Progress``; raises RunFailed: it is none."""
    fraction = data.get("fraction") if isinstance(data, dict) else 2
    known = fraction is None or (
        isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1
    )
    if not isinstance(data, dict) or not known:
        raise RunFailed("INVALID_OUTPUT", "the fraction of a Progress is from 0 to 1, or None")
    return {"fraction": fraction, "message": str(data.get("message", ""))[:2_000]}


def _failure(data: object) -> RunFailed:
    told = data if isinstance(data, dict) else {}
    code = told.get("code")
    texts = {name: str(told.get(name, ""))[-most:] for name, most in _TEXT_CHARACTERS.items()}
    return RunFailed(code if code in _CODES else "FUNCTION_ERROR", **texts)
