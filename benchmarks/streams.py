"""Server that sends a prepared stream to every client, and readers to compare."""

from __future__ import annotations

import json
import multiprocessing
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import requests
import sseclient
from httpx_sse import EventSource
from openai._streaming import SSEDecoder

from beray import BeRayClient

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
Reader = Callable[[str], Iterator[Any]]


CANONICAL = "id: {seq}\n"
"""Lines before the data, as BeRay servers send them."""
NAMED = "event: message\nid: {seq}\n"
WITHOUT_ID = ""


def event(seq: int, size: int, head: str = CANONICAL) -> bytes:
    """Return an event of about ``size`` bytes; ``head`` contains the lines before its data."""
    fields = {"seq": seq, "task_id": 1, "created_at": "2026-01-01T00:00:00.000000Z"}
    body = fields | {"type": "AGENT_EVENT_TEXT_CHUNK", "source": "main", "text": ""}
    body["text"] = "x" * max(0, size - len(json.dumps(body)))
    return f"{head.format(seq=seq)}data: {json.dumps(body)}\n\n".encode()


def end(seq: int) -> bytes:
    """Return the terminal event of a stream."""
    body = {"seq": seq, "task_id": 1, "type": "TASK_STATUS", "status": "COMPLETED"}
    return f"id: {seq}\ndata: {json.dumps(body)}\n\n".encode()


def chunked(pieces: list[bytes]) -> bytes:
    """Encode pieces as HTTP chunks, with the end of the body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def split_at_random(stream: bytes, mean: int) -> list[bytes]:
    """Split a stream into pieces of random sizes with the given mean, reproducibly."""
    generator = random.Random(1)
    pieces = []
    at = 0
    while at < len(stream):
        step = generator.randint(1, 2 * mean)
        pieces.append(stream[at : at + step])
        at += step
    return pieces


def event_response(count: int, size: int, *, cut: bool, head: str = CANONICAL) -> bytes:
    """Return an HTTP response with ``count`` events, one per chunk or split at random positions."""
    pieces = [event(seq, size, head) for seq in range(1, count)] + [end(count)]
    return HEAD + chunked(split_at_random(b"".join(pieces), size) if cut else pieces)


def _send(listener: socket.socket, response: bytes) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(response)
            except OSError:
                continue


@contextmanager
def serve(send: Callable[..., None], *arguments: Any) -> Iterator[str]:
    """Run ``send(listener, *arguments)`` in a separate process; the context is its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.Process(target=send, args=(listener, *arguments), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.kill()
        process.join()
        listener.close()


def serve_response(response: bytes) -> Any:
    """Send ``response`` to every client; the context is the URL."""
    return serve(_send, response)


def reference(url: str) -> Iterator[Any]:
    """Read a stream with minimal code: without error handling, resumption or other framing."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"GET /api/v1/tasks/1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += connection.recv(65536)
        raw = raw.partition(b"\r\n\r\n")[2]
        content = b""
        ended = False
        while True:
            parts = [content]
            at = 0
            while True:
                line = raw.find(b"\r\n", at)
                if line < 0:
                    break
                size = int(raw[at:line], 16)
                if size == 0:
                    ended = True
                    break
                if line + 2 + size + 2 > len(raw):
                    break
                parts.append(raw[line + 2 : line + 2 + size])
                at = line + 2 + size + 2
            raw = raw[at:]
            *blocks, content = b"".join(parts).split(b"\n\n")
            for block in blocks:
                for row in block.split(b"\n"):
                    if row.startswith(b"data: "):
                        yield json.loads(row[6:])
            if ended:
                return
            raw += connection.recv(65536)


def ours(url: str) -> Iterator[Any]:
    """Read a stream with BeRayClient."""
    return BeRayClient(url).stream_task_updates(1)


def with_httpx_sse(url: str) -> Iterator[Any]:
    """Read a stream with httpx-sse."""
    with httpx.Client() as client, client.stream("GET", f"{url}/api/v1/tasks/1/stream") as response:
        for message in EventSource(response).iter_sse():
            yield json.loads(message.data)


def with_sseclient(url: str) -> Iterator[Any]:
    """Read a stream with sseclient-py."""
    with requests.get(f"{url}/api/v1/tasks/1/stream", stream=True, timeout=60) as response:
        for message in sseclient.SSEClient(response).events():
            yield json.loads(message.data)


def with_openai(url: str) -> Iterator[Any]:
    """Read a stream with the SSE decoder of openai."""
    with httpx.Client() as client, client.stream("GET", f"{url}/api/v1/tasks/1/stream") as response:
        for message in SSEDecoder().iter_bytes(response.iter_bytes()):
            yield json.loads(message.data)


READERS: dict[str, Reader] = {
    "ours": ours,
    "the reference reader": reference,
    "httpx-sse": with_httpx_sse,
    "sseclient-py": with_sseclient,
    "openai's decoder": with_openai,
}


def seconds_to_read(reader: Reader, url: str, count: int) -> float:
    """Return the time to read a stream of ``count`` events, in seconds."""
    start = time.perf_counter()
    read = sum(1 for _ in reader(url))
    seconds = time.perf_counter() - start
    if read != count:
        raise RuntimeError(f"expected {count} events, read {read}")
    return seconds
