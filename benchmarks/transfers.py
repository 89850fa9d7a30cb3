"""512 MiB down and up on loopback, against curl, and the memory it takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.tables import Row, interleaved, ratio
from beray import BeRayClient
from beray.testing import RunningServer

SIZE = 512 * 1024 * 1024
_PEAK = r"""
import re, sys
from pathlib import Path
from beray import BeRayClient

def kib(field):
    return int(re.search(field + r":\s+(\d+)", Path("/proc/self/status").read_text())[1])

client = BeRayClient(sys.argv[1], sys.argv[2])
client.list_tasks()
idle = kib("VmRSS")
if sys.argv[4] == "down":
    client.download_file(int(sys.argv[3]), "big", sys.argv[5], overwrite=True)
elif sys.argv[4] == "up":
    client.upload_path(int(sys.argv[3]), sys.argv[5], "up")
print(kib("VmHWM") - idle)
"""


def measure(rounds: int) -> list[Row]:
    # In memory where that can be: what a shared disk does meanwhile is noise.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        with RunningServer.start(folder / "data") as server:
            client = server.sign_up()
            task_id = client.create_task("!true")["id"]
            local = folder / "big"
            _write(local)
            client.upload_path(task_id, local, "big")
            token = str(client._session.headers["Authorization"]).removeprefix("Bearer ")
            url = f"{server.url}/api/v1/tasks/{task_id}/files/content"
            curl = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {token}"]
            target = folder / "down"
            down = {
                "ours": partial(_down, client, task_id, target),
                "curl -o": partial(_curl_down, curl, target, f"{url}?path=big"),
            }
            up = {
                "ours": partial(_up, client, task_id, local),
                "curl -T": partial(
                    _run, [*curl, "-H", "Expect:", "-T", str(local), f"{url}?path=up"]
                ),
            }
            rates_down = interleaved(down, rounds)
            rates_up = interleaved(up, rounds)
            peaks = {
                way: _peak(server.url, token, task_id, way, place)
                for way, place in (("down", target), ("up", local))
            }
    return [
        Row("512 MiB down", "curl -o", ratio(rates_down, "ours", "curl -o"), "≥ 1.0"),
        Row("512 MiB up", "curl -T", ratio(rates_up, "ours", "curl -T"), "≥ 0.95"),
        Row("512 MiB down: peak above idle", "1 MiB", peaks["down"], "≤ 16"),
        Row("512 MiB up: peak above idle", "1 MiB", peaks["up"], "≤ 16"),
    ]


def _write(path: Path) -> None:
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)


def _down(client: BeRayClient, task_id: int, target: Path) -> float:
    target.unlink(missing_ok=True)
    start = time.perf_counter()
    client.download_file(task_id, "big", target, overwrite=True)
    return SIZE / (time.perf_counter() - start)


def _up(client: BeRayClient, task_id: int, local: Path) -> float:
    start = time.perf_counter()
    client.upload_path(task_id, local, "up")
    return SIZE / (time.perf_counter() - start)


def _curl_down(curl: list[str], target: Path, url: str) -> float:
    target.unlink(missing_ok=True)
    return _run([*curl, "-o", str(target), url])


def _run(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return SIZE / (time.perf_counter() - start)


def _peak(url: str, token: str, task_id: int, way: str, place: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, url, token, str(task_id), way, str(place)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(done.stdout) / 1024
