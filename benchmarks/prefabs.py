"""Overhead of prefab calls, and batches compared with sequential calls."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.tables import BenchmarkRow
from beray.gateway import GatewayClient, PrefabCall
from beray.server.prefabs import archives
from beray.testing import RunningServer, authorization

CALLS = 10
"""Number of calls per round."""
BATCH = 100
"""Number of calls in a batch."""
_MANIFEST = """
[prefab]
id = "nothing"
version = "1.0.0"
title = "Nothing"
module = "nothing"
[functions.nothing]
"""
_MODULE = "def nothing(call):\n    return {}\n"
_BARE = "import sys; sys.path.insert(0, sys.argv[1]); import nothing; nothing.nothing(None)"


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return ratios of a call to a bare process, and of sequential calls to a batch."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "nothing"
        directory.mkdir()
        (directory / "prefab.toml").write_text(_MANIFEST)
        (directory / "nothing.py").write_text(_MODULE)
        with RunningServer.start(Path(temporary) / "data", BERAY_PREFAB_AUTHORS="*") as server:
            token = authorization(server.sign_up())["Authorization"]
            token = token.removeprefix("Bearer ")
            with GatewayClient(base_url=server.url, jwt_token=token) as client:
                client.add_prefab(archives.pack(directory))
                return _measure_client(client, directory, rounds)


def _measure_client(client: GatewayClient, directory: Path, rounds: int) -> list[BenchmarkRow]:
    bare = [sys.executable, "-I", "-c", _BARE, str(directory)]
    call = PrefabCall("nothing", "1.0.0", "nothing")

    def single_call() -> None:
        assert client.run("nothing", "1.0.0", "nothing").is_success()

    def batch() -> None:
        assert client.run_batch([call] * BATCH).all_success()

    def sequential_calls() -> None:
        for _ in range(BATCH):
            single_call()

    single_call()
    overheads, milliseconds, batches = [], [], []
    for _ in range(rounds):
        process_seconds = _median(lambda: subprocess.run(bare, check=True))
        call_seconds = _median(single_call)
        overheads.append(call_seconds / process_seconds)
        milliseconds.append((call_seconds - process_seconds) * 1000)
        batches.append(_seconds(sequential_calls) / _seconds(batch))
    return [
        BenchmarkRow(
            "prefab call", "its function in a bare process", statistics.median(overheads), ""
        ),
        BenchmarkRow("overhead of a prefab call, ms", "1 ms", statistics.median(milliseconds), ""),
        BenchmarkRow(f"{BATCH} sequential calls", "one batch", statistics.median(batches), ""),
    ]


def _median(work: Callable[[], object]) -> float:
    return statistics.median(_seconds(work) for _ in range(CALLS))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
