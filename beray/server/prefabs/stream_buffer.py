"""Messages between a running function and the reader of its stream, limited by bytes."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, Final

from starlette.concurrency import run_in_threadpool

WAITING_BYTES: Final = 256 * 1024
"""Bytes that wait in memory for a reader before the function has to wait."""
_READ_BYTES: Final = 64 * 1024
_INLINE_CHARACTERS: Final = 16 * 1024
"""Longer strings, and values of unknown size, are encoded in a thread."""

_Message = bytes | IO[bytes]


class Pieces:
    """Messages of text/event-stream in the order in which they were put.

    A message that is larger than ``WAITING_BYTES`` waits in an unnamed file, so that a
    reader that takes nothing does not keep it in memory. Used on one event loop.

    Args:
        folder: Where such files are made.
    """

    def __init__(self, folder: Path, max_bytes: int = WAITING_BYTES) -> None:
        self.size = 0
        """Bytes that wait in memory."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._waiting: deque[_Message] = deque()
        self._changed = asyncio.Condition()
        self._ended = False

    async def put(self, kind: str, data: Any) -> None:
        """Add a message; wait until it fits into the limit."""
        if kind == "progress" or (isinstance(data, str) and len(data) <= _INLINE_CHARACTERS):
            message = self._message(kind, data)
        else:
            message = await run_in_threadpool(self._message, kind, data)
        size = _size(message)
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._waiting or self.size + size <= self._max_bytes
            )
            self._waiting.append(message)
            self.size += size
            self._changed.notify_all()

    async def end(self) -> None:
        """Say that no more messages come."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def read(self, idle_seconds: float) -> AsyncIterator[bytes]:
        """Yield the messages, large ones in pieces, until the end.

        Args:
            idle_seconds: Yield b"" whenever there was none for so long.
        """
        while True:
            try:
                async with asyncio.timeout(idle_seconds), self._changed:
                    await self._changed.wait_for(lambda: self._waiting or self._ended)
                    if not self._waiting:
                        return
                    message = self._waiting.popleft()
                    self.size -= _size(message)
                    self._changed.notify_all()
            except TimeoutError:
                yield b""
                continue
            if isinstance(message, bytes):
                yield message
                continue
            with message as file:
                while block := await run_in_threadpool(file.read, _READ_BYTES):
                    yield block

    def close(self) -> None:
        """Drop what waits."""
        for message in self._waiting:
            if not isinstance(message, bytes):
                message.close()
        self._waiting.clear()

    def _message(self, kind: str, data: Any) -> _Message:
        text = json.dumps({"type": kind, "data": data}, allow_nan=False)
        message = f"data: {text}\n\n".encode()
        if len(message) <= self._max_bytes:
            return message
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - its reader closes it
        file.write(message)
        file.seek(0)
        return file


def _size(message: _Message) -> int:
    return len(message) if isinstance(message, bytes) else 0
