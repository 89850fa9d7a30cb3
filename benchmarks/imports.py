"""What importing the client costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial

from benchmarks.tables import Row, interleaved, ratio


def _seconds(statement: str) -> float:
    # As a user's Python does, which keeps the bytecode of what it imports.
    environ = {key: value for key, value in os.environ.items() if key[:15] != "PYTHONDONTWRITE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environ)
    return time.perf_counter() - start


def measure(rounds: int) -> list[Row]:
    contenders = {
        # Not ``import beray``, which is lazy: it would be measured without what it is for.
        "ours": partial(_seconds, "from beray import BeRayClient"),
        "requests, pydantic": partial(_seconds, "import requests, pydantic"),
    }
    figures = interleaved(contenders, 2 * rounds)
    value = ratio(figures, "ours", "requests, pydantic")
    return [Row("from beray import BeRayClient", "import requests, pydantic", value, "≤ 1.15")]
