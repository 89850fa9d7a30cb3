"""Protocol between the server and a run's process: JSON objects as length-prefixed messages.

The server sends the ``job``. Then the run sends ``event``, ``charge`` (response: ``go`` or
``refused``), ``record`` and, last, ``outcome`` or ``broken``. ``stop`` from the server cancels
the run. Each frame has one of these keys.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, BinaryIO, Final

from beray.server.sandbox.launcher import framing

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024

Frame = dict[str, Any]


async def read(reader: asyncio.StreamReader) -> Frame:
    """Return the next frame.

    Raises:
        EOFError: The peer closed the connection, or sent a malformed frame.
        OSError: The connection broke.
    """
    return _decode(await framing.receive(reader, MAX_FRAME_BYTES))


def read_blocking(file: BinaryIO) -> Frame:
    """Return the next frame, like ``read`` but without an event loop."""
    return _decode(framing.read(file.read, MAX_FRAME_BYTES))


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
    return framing.encode(body)


def _decode(body: bytes) -> Frame:
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError):
        raise EOFError("the frame is not valid JSON") from None
    if not isinstance(frame, dict):
        raise EOFError("the frame is not a JSON object")
    return frame
