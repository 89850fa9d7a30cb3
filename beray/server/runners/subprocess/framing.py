"""What goes between the server and a run's process: JSON objects, each with its length.

The server sends the ``job``; then the run sends ``event``, ``charge`` (answered by
``go`` or ``refused``), ``record`` and, last, ``outcome`` or ``broken``. ``stop`` from the
server asks it to leave. Each frame has one of these keys.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, BinaryIO, Final

LONGEST: Final = 64 * 1024 * 1024
"""Bytes of one frame."""
_LENGTH: Final = struct.Struct("!I")

Frame = dict[str, Any]


async def read(reader: asyncio.StreamReader) -> Frame:
    """The next frame.

    Raises:
        EOFError: the other side is gone, or has sent what is no frame.
        OSError: the connection broke.
    """
    length = _length(await reader.readexactly(_LENGTH.size))
    return _frame(await reader.readexactly(length))


def read_from(file: BinaryIO) -> Frame:
    """As ``read``, without an event loop."""
    return _frame(file.read(_length(file.read(_LENGTH.size))))


def packed(frame: Frame) -> bytes:
    """The bytes of a frame.

    Raises:
        ValueError: it is too long, or holds what JSON cannot say.
    """
    body = json.dumps(frame, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > LONGEST:
        raise ValueError(f"{len(body)} bytes are too much for one event")
    return _LENGTH.pack(len(body)) + body


def _length(head: bytes) -> int:
    length: int = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    if not 0 < length <= LONGEST:
        raise EOFError(f"a frame of {length} bytes")
    return length


def _frame(body: bytes) -> Frame:
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        raise EOFError("a frame that is no JSON") from None
    if not isinstance(frame, dict):
        raise EOFError("a frame that is no object")
    return frame
