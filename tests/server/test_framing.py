"""Length-prefixed messages between the server and its processes."""

from __future__ import annotations

import asyncio
import io
import socket

import pytest

from beray.server.sandbox.launcher import framing

BODIES = [b"", b"x", b'{"a": 1}', b"y" * 70_000]


@pytest.mark.parametrize("body", BODIES)
async def test_a_message_arrives_in_each_way_of_reading(body: bytes) -> None:
    message = framing.encode(body)
    assert framing.decode(message + b"next") == body
    file = io.BytesIO(message * 2)
    assert [framing.read(file.read), framing.read(file.read)] == [body, body]
    reader = asyncio.StreamReader()
    reader.feed_data(message)
    assert await framing.receive(reader, 100_000) == body


def test_a_message_in_pieces_is_read_from_a_socket() -> None:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.sendall(framing.encode(b"body"))
        assert framing.read(lambda size: receiver.recv(1)) == b"body"


async def test_a_truncated_message_is_an_error_at_any_byte() -> None:
    message = framing.encode(b"body")
    for end in range(len(message)):
        part = message[:end]
        assert framing.decode(part) is None
        with pytest.raises(EOFError):
            framing.read(io.BytesIO(part).read)
        reader = asyncio.StreamReader()
        reader.feed_data(part)
        reader.feed_eof()
        with pytest.raises(EOFError):
            await framing.receive(reader, 100)


async def test_a_message_above_the_limit_is_not_read() -> None:
    file = io.BytesIO(framing.encode(b"x" * 11))
    with pytest.raises(framing.MessageTooLong, match="11 bytes"):
        framing.read(file.read, 10)
    assert file.tell() == framing.PREFIX_BYTES
    reader = asyncio.StreamReader()
    reader.feed_data(b"\xff\xff\xff\xff")
    with pytest.raises(framing.MessageTooLong):
        await framing.receive(reader, 10)
