"""Sign-ins with the right password while other clients try wrong ones, and memory of limits."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import requests

from benchmarks.tables import Row
from beray.server.runtime.sliding_window import SlidingWindow
from beray.testing import RunningServer
from beray.testing.server import PASSWORD

EMAIL = "ada@example.test"
FLOODERS = 20
"""Threads that send wrong passwords without a pause."""
KEYS = 100_000


def measure(rounds: int) -> list[Row]:
    """Ratios of a sign-in during a flood to one alone, and the memory of the limits."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningServer.start(
            Path(folder) / "data", cheap_passwords=False, BERAY_TRUSTED_PROXIES="127.0.0.1"
        ) as server,
    ):
        server.sign_up(EMAIL)
        alone = [_sign_in(server) for _ in range(rounds)]
        one = _during_flood(server, rounds, addresses=1)
        many = _during_flood(server, rounds, addresses=FLOODERS)
    usual = statistics.median(alone)
    return [
        Row(
            f"sign-in during {FLOODERS} threads of wrong passwords, 1 address",
            "alone",
            statistics.median(one) / usual,
            "",
        ),
        Row(
            f"the same, {FLOODERS} addresses",
            "alone",
            statistics.median(many) / usual,
            "",
        ),
        Row(f"memory of a limit after {KEYS:,} addresses, MiB", "1 MiB", _memory() / 2**20, ""),
    ]


def _post(server: RunningServer, email: str, password: str, address: str) -> int:
    return requests.post(
        f"{server.url}/api/v1/auth/login",
        json={"email": email, "password": password},
        headers={"X-Forwarded-For": address},
        timeout=60,
    ).status_code


def _sign_in(server: RunningServer) -> float:
    started = time.perf_counter()
    status = _post(server, EMAIL, PASSWORD, "192.0.2.1")
    if status != 200:
        raise RuntimeError(f"the right password was refused with {status}")
    return time.perf_counter() - started


def _during_flood(server: RunningServer, rounds: int, *, addresses: int) -> list[float]:
    ended = threading.Event()

    def flood(number: int) -> None:
        address = f"198.51.{100 + addresses}.{number % addresses}"
        attempt = 0
        while not ended.is_set():
            attempt += 1
            _post(server, f"{number}-{attempt}@example.test", "wrong", address)

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(FLOODERS)]
    for thread in threads:
        thread.start()
    try:
        return [_sign_in(server) for _ in range(rounds)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _memory() -> int:
    tracemalloc.start()
    window = SlidingWindow(10, 600)
    for number in range(KEYS):
        window.add((f"{number}@example.test", f"192.0.{number // 256}.{number % 256}"))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used
