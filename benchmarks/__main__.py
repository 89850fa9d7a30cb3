"""Run all benchmarks, or the selected ones."""

from __future__ import annotations

import argparse
import os
import platform

from benchmarks import (
    chats,
    dashboard,
    delay,
    events,
    history,
    imports,
    logins,
    prefabs,
    readers,
    transfers,
)
from benchmarks.tables import BenchmarkRow, print_table

PARTS = {
    "events": events.measure,
    "delay": delay.measure,
    "transfers": transfers.measure,
    "imports": imports.measure,
    "dashboard": dashboard.measure,
    "chats": chats.measure,
    "prefabs": prefabs.measure,
    "logins": logins.measure,
    "readers": readers.measure,
    "history": history.measure,
}


def main() -> None:
    """Parse the command line, run the benchmarks, and print a table of the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", choices=[[], *PARTS], help="benchmarks to run (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds per contender (default: 7)")
    options = parser.parse_args()
    rows: list[BenchmarkRow] = []
    for name in options.parts or PARTS:
        rows += PARTS[name](options.rounds)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}")
    print_table(rows)


if __name__ == "__main__":
    main()
