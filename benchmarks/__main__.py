"""Run all benchmarks, or those that are named: events, delay, transfers, imports,
dashboard, chats, prefabs, logins, readers."""

from __future__ import annotations

import argparse
import os
import platform

from benchmarks import (
    chats,
    dashboard,
    delay,
    events,
    imports,
    logins,
    prefabs,
    readers,
    transfers,
)
from benchmarks.tables import Row, show

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
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.parts or PARTS:
        rows += PARTS[name](options.rounds)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.system()}")
    show(rows)


if __name__ == "__main__":
    main()
