"""Delay from the server's send to the caller, at 200 events per second."""

from __future__ import annotations

import json
import socket
import time
from statistics import median, quantiles

from benchmarks.streams import HEAD, READERS, Reader, end, serve
from benchmarks.tables import BenchmarkRow

EVENTS = 400
SECONDS_BETWEEN = 1 / 200


def _send_slowly(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            connection.sendall(HEAD)
            for seq in range(1, EVENTS):
                time.sleep(SECONDS_BETWEEN)
                body = json.dumps({"seq": seq, "type": "X", "at": time.monotonic_ns()})
                block = f"id: {seq}\ndata: {body}\n\n".encode()
                connection.sendall(b"%x\r\n%s\r\n" % (len(block), block))
            block = end(EVENTS)
            connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(block), block))


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return the ratios of the delays (p50 and p99) to those of the reference reader."""
    delays: dict[str, list[tuple[float, float]]] = {"ours": [], "the reference reader": []}
    with serve(_send_slowly) as url:
        for number in range(rounds + 1):
            for name in delays if number % 2 else reversed(delays):
                delays[name].append(_delay(READERS[name], url))
    pairs = list(zip(delays["ours"][1:], delays["the reference reader"][1:], strict=True))
    return [
        BenchmarkRow(f"delay at 200 events/s, {name}", "the reference reader",
            median(ours[index] / other[index] for ours, other in pairs), "≤ 1.2")
        for index, name in enumerate(("p50", "p99"))
    ]  # fmt: skip


def _delay(reader: Reader, url: str) -> tuple[float, float]:
    """Return p50 and p99 of the delays, in nanoseconds."""
    delays = [
        time.monotonic_ns() - event["at"] for event in reader(url) if event.get("at") is not None
    ]
    cuts = quantiles(delays, n=100)
    return cuts[49], cuts[98]
