"""What a call of a prefab costs beside its function, and a batch beside call after call."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.tables import Row
from beray.gateway import GatewayClient, PrefabCall
from beray.server.prefabs import archives
from beray.testing import RunningServer

ASKED = 10
"""Calls in a round."""
BATCH = 100
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


def measure(rounds: int) -> list[Row]:
    """Ratios of a call to a process that only calls the function, and of a batch to its calls."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "nothing"
        folder.mkdir()
        (folder / "prefab.toml").write_text(_MANIFEST)
        (folder / "nothing.py").write_text(_MODULE)
        with RunningServer.start(Path(place) / "data", BERAY_PREFAB_AUTHORS="*") as server:
            token = str(server.sign_up()._session.headers["Authorization"])
            token = token.removeprefix("Bearer ")
            with GatewayClient(base_url=server.url, jwt_token=token) as client:
                client.add_prefab(archives.pack(folder))
                return _measured(client, folder, rounds)


def _measured(client: GatewayClient, folder: Path, rounds: int) -> list[Row]:
    bare = [sys.executable, "-I", "-c", _BARE, str(folder)]
    call = PrefabCall("nothing", "1.0.0", "nothing")

    def called() -> None:
        assert client.run("nothing", "1.0.0", "nothing").is_success()

    def batch() -> None:
        assert client.run_batch([call] * BATCH).all_success()

    def one_by_one() -> None:
        for _ in range(BATCH):
            called()

    called()
    overheads, milliseconds, batches = [], [], []
    for _ in range(rounds):
        alone = _median(lambda: subprocess.run(bare, check=True))
        whole = _median(called)
        overheads.append(whole / alone)
        milliseconds.append((whole - alone) * 1000)
        batches.append(_seconds(one_by_one) / _seconds(batch))
    return [
        Row(
            "a call of a prefab", "its function in a bare process", statistics.median(overheads), ""
        ),
        Row("what a call takes besides, ms", "1 ms", statistics.median(milliseconds), ""),
        Row(f"{BATCH} calls one by one", "in a batch", statistics.median(batches), ""),
    ]


def _median(work: Callable[[], object]) -> float:
    return statistics.median(_seconds(work) for _ in range(ASKED))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
