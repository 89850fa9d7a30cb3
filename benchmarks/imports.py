"""Import time of the client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial

from benchmarks.tables import BenchmarkRow, interleaved, ratio


def _seconds(statement: str) -> float:
    # Bytecode is cached, as on a user's machine.
    environ = {key: value for key, value in os.environ.items() if key[:15] != "PYTHONDONTWRITE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environ)
    return time.perf_counter() - start


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return the ratio of the import time to that of the dependencies."""
    contenders = {
        # ``import beray`` alone would not load the client, because it is lazy.
        "ours": partial(_seconds, "from beray import BeRayClient"),
        "requests, pydantic": partial(_seconds, "import requests, pydantic"),
    }
    figures = interleaved(contenders, 2 * rounds)
    value = ratio(figures, "ours", "requests, pydantic")
    return [
        BenchmarkRow("from beray import BeRayClient", "import requests, pydantic", value, "≤ 1.15")
    ]
