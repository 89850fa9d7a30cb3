"""Byte-limited buffer between a streaming function and the client that reads the stream."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any, Final

from starlette.concurrency import run_in_threadpool

MAX_BUFFERED_BYTES: Final = 256 * 1024
"""Maximum size of the messages in memory; the function waits while they exceed it."""
_READ_BYTES: Final = 64 * 1024
_INLINE_CHARACTERS: Final = 16 * 1024
"""Longer strings, and values of unknown size, are encoded in a thread."""

_Message = bytes | IO[bytes]


class StreamBuffer:
    """Queue of messages in text/event-stream format. Used on one event loop.

    A message larger than ``max_bytes`` is stored in an unnamed file, so that a client that does
    not read cannot keep it in memory.

    Args:
        folder: Directory of these files.
        max_bytes: Maximum size of the messages in memory.

    Attributes:
        size: Bytes of the messages in memory.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BUFFERED_BYTES) -> None:
        self.size = 0
        self._folder = folder
        self._max_bytes = max_bytes
        self._waiting: deque[_Message] = deque()
        self._changed = asyncio.Condition()
        self._ended = False

    async def put(self, kind: str, data: Any) -> None:
        """Add a message, waiting until it fits into the limit."""
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
        """Mark the end of the stream."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def read(self, idle_seconds: float) -> AsyncIterator[bytes]:
        """Yield the messages until the end, large ones in chunks.

        Args:
            idle_seconds: Yield b"" after each period of this length without a message.
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
        """Discard the messages that were not read."""
        for message in self._waiting:
            if not isinstance(message, bytes):
                message.close()
        self._waiting.clear()

    def _message(self, kind: str, data: Any) -> _Message:
        text = json.dumps({"type": kind, "data": data}, allow_nan=False)
        message = f"data: {text}\n\n".encode()
        if len(message) <= self._max_bytes:
            return message
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by the reader
        file.write(message)
        file.seek(0)
        return file


def _size(message: _Message) -> int:
    return len(message) if isinstance(message, bytes) else 0
