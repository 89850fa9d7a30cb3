"""Download and upload of 512 MiB on loopback compared with curl, and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.tables import BenchmarkRow, interleaved, ratio
from beray import BeRayClient
from beray.testing import RunningServer, access_token

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


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return ratios of transfer rates, and peak memory."""
    # Files are in memory if possible, because the load of a shared disk would distort the rates.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        directory = Path(name)
        with RunningServer.start(directory / "data") as server:
            client = server.sign_up()
            task_id = client.create_task("!true")["id"]
            local = directory / "big"
            _write(local)
            client.upload_path(task_id, local, "big")
            token = access_token(client)
            url = f"{server.url}/api/v1/tasks/{task_id}/files/content"
            curl = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {token}"]
            target = directory / "down"
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
                direction: _peak_mib(server.url, token, task_id, direction, path)
                for direction, path in (("down", target), ("up", local))
            }
    return [
        BenchmarkRow(
            "download of 512 MiB", "curl -o", ratio(rates_down, "ours", "curl -o"), "≥ 1.0"
        ),
        BenchmarkRow("upload of 512 MiB", "curl -T", ratio(rates_up, "ours", "curl -T"), "≥ 0.95"),
        BenchmarkRow("download of 512 MiB: peak memory above idle", "1 MiB", peaks["down"], "≤ 16"),
        BenchmarkRow("upload of 512 MiB: peak memory above idle", "1 MiB", peaks["up"], "≤ 16"),
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


def _peak_mib(url: str, token: str, task_id: int, direction: str, path: Path) -> float:
    process = subprocess.run(
        [sys.executable, "-c", _PEAK, url, token, str(task_id), direction, str(path)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(process.stdout) / 1024
