"""A server that sends one prepared stream to whoever connects, and those who read it."""

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
"""Lines before the data, as servers of this project send them."""
NAMED = "event: message\nid: {seq}\n"
WITHOUT_ID = ""


def event(seq: int, size: int, head: str = CANONICAL) -> bytes:
    """Return an event of about ``size`` bytes; ``head`` are the lines before its data."""
    fields = {"seq": seq, "task_id": 1, "created_at": "2026-01-01T00:00:00.000000Z"}
    body = fields | {"type": "AGENT_EVENT_TEXT_CHUNK", "source": "main", "text": ""}
    body["text"] = "x" * max(0, size - len(json.dumps(body)))
    return f"{head.format(seq=seq)}data: {json.dumps(body)}\n\n".encode()


def end(seq: int) -> bytes:
    body = {"seq": seq, "task_id": 1, "type": "TASK_STATUS", "status": "COMPLETED"}
    return f"id: {seq}\ndata: {json.dumps(body)}\n\n".encode()


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def cut_anywhere(stream: bytes, mean: int) -> list[bytes]:
    generator = random.Random(1)
    pieces = []
    at = 0
    while at < len(stream):
        step = generator.randint(1, 2 * mean)
        pieces.append(stream[at : at + step])
        at += step
    return pieces


def prepared(count: int, size: int, *, cut: bool, head: str = CANONICAL) -> bytes:
    """A whole answer: so many events and the end, one chunk each or cut anywhere."""
    pieces = [event(seq, size, head) for seq in range(1, count)] + [end(count)]
    return HEAD + chunked(cut_anywhere(b"".join(pieces), size) if cut else pieces)


def _send(listener: socket.socket, answer: bytes) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(answer)
            except OSError:
                continue


@contextmanager
def serving(send: Callable[..., None], *arguments: Any) -> Iterator[str]:
    """Run ``send(listener, *arguments)`` in a process of its own; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.Process(target=send, args=(listener, *arguments), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.kill()
        process.join()
        listener.close()


def serving_answer(answer: bytes) -> Any:
    return serving(_send, answer)


def reference(url: str) -> Iterator[Any]:
    """The least that reads such a stream: no errors, no resuming, no other framing."""
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
    return BeRayClient(url).stream_task_updates(1)


def with_httpx_sse(url: str) -> Iterator[Any]:
    with httpx.Client() as client, client.stream("GET", f"{url}/api/v1/tasks/1/stream") as response:
        for message in EventSource(response).iter_sse():
            yield json.loads(message.data)


def with_sseclient(url: str) -> Iterator[Any]:
    with requests.get(f"{url}/api/v1/tasks/1/stream", stream=True, timeout=60) as response:
        for message in sseclient.SSEClient(response).events():
            yield json.loads(message.data)


def with_openai(url: str) -> Iterator[Any]:
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
    start = time.perf_counter()
    read = sum(1 for _ in reader(url))
    seconds = time.perf_counter() - start
    if read != count:
        raise RuntimeError(f"{read} of {count} events were read")
    return seconds
