"""Protocol between the server and a run's process: length-prefixed JSON objects.

The server sends the ``job``. Then the run sends ``event``, ``charge`` (response: ``go`` or
``refused``), ``record`` and, last, ``outcome`` or ``broken``. ``stop`` from the server cancels
the run. Each frame has one of these keys.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, BinaryIO, Final

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_LENGTH: Final = struct.Struct("!I")

Frame = dict[str, Any]


async def read(reader: asyncio.StreamReader) -> Frame:
    """Return the next frame.

    Raises:
        EOFError: The peer closed the connection, or sent a malformed frame.
        OSError: The connection broke.
    """
    length = _length(await reader.readexactly(_LENGTH.size))
    return _decode(await reader.readexactly(length))


def read_blocking(file: BinaryIO) -> Frame:
    """Return the next frame, like ``read`` but without an event loop."""
    return _decode(file.read(_length(file.read(_LENGTH.size))))


def encode(frame: Frame) -> bytes:
    """Return a frame in its binary form.

    Raises:
        ValueError: The frame is longer than ``MAX_FRAME_BYTES``, or contains NaN or Infinity.
    """
    body = json.dumps(frame, separators=(",", ":"), allow_nan=False).encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(
            f"an event has {len(body):,} bytes; at most {MAX_FRAME_BYTES:,} are allowed"
        )
    return _LENGTH.pack(len(body)) + body


def _length(prefix: bytes) -> int:
    length: int = _LENGTH.unpack(prefix)[0] if len(prefix) == _LENGTH.size else 0
    if not 0 < length <= MAX_FRAME_BYTES:
        raise EOFError(f"invalid frame length: {length} bytes")
    return length


def _decode(body: bytes) -> Frame:
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        raise EOFError("the frame is not valid JSON") from None
    if not isinstance(frame, dict):
        raise EOFError("the frame is not a JSON object")
    return frame
