"""Length-prefixed messages: the number of bytes of the body in four bytes (big-endian), the body.

The server, the launcher, the processes of runs and the workers of prefabs use them on sockets and
pipes. Standard library only, because launchers and workers import this module.
"""

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

PREFIX_BYTES = 4


class MessageTooLong(EOFError):
    """The body of a message is longer than the receiver accepts. It was not read."""


def encode(body: bytes) -> bytes:
    """Return a body with its prefix."""
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def decode(received: bytes | bytearray) -> bytes | None:
    """Return the body of the message at the start of ``received``; None if it is incomplete."""
    end = PREFIX_BYTES + _length(received)
    complete = len(received) >= end
    return bytes(received[PREFIX_BYTES:end]) if complete else None


def read(read_some: "Callable[[int], bytes | None]", max_bytes: int | None = None) -> bytes:
    """Read the body of the next message from a blocking file or socket.

    Args:
        read_some: Reads up to a number of bytes; returns b"" at the end of the connection.
        max_bytes: Maximum length of the body; None: unlimited.

    Raises:
        EOFError: The connection ended before the end of the message.
        MessageTooLong: The body is longer than ``max_bytes``.
    """
    length = _checked(_length(_read_exactly(read_some, PREFIX_BYTES)), max_bytes)
    return _read_exactly(read_some, length)


async def receive(reader: "asyncio.StreamReader", max_bytes: int) -> bytes:
    """Receive the body of the next message.

    Raises:
        EOFError: The connection ended before the end of the message.
        MessageTooLong: The body is longer than ``max_bytes``.
        OSError: The connection broke.
    """
    length = _checked(_length(await reader.readexactly(PREFIX_BYTES)), max_bytes)
    return await reader.readexactly(length)


def _length(received: bytes | bytearray) -> int:
    return int.from_bytes(received[:PREFIX_BYTES], "big")


def _checked(length: int, max_bytes: int | None) -> int:
    if max_bytes is not None and length > max_bytes:
        raise MessageTooLong(f"a message has {length:,} bytes; at most {max_bytes:,} are allowed")
    return length


def _read_exactly(read_some: "Callable[[int], bytes | None]", size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        block = read_some(size - len(received))
        if not block:
            raise EOFError("the connection ended before the end of a message")
        received += block
    return bytes(received)
