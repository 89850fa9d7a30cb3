"""Events a second, and the memory that a large one takes."""

from __future__ import annotations

import tracemalloc
from functools import partial

from benchmarks.streams import READERS, Reader, prepared, seconds_to_read, serving_answer
from benchmarks.tables import Row, interleaved, ratio

CASES = (
    # what, events, bytes each, cut anywhere, goal against the reference, against the others
    ("200-byte events, one chunk each", 60_000, 200, False, "≥ 1.0", "≥ 1.5"),
    ("200-byte events, cut anywhere", 60_000, 200, True, "≥ 1.0", "≥ 1.5"),
    ("4 KiB events", 10_000, 4096, False, "≥ 0.9", "≥ 1.5"),
    ("1 MiB events", 100, 1024 * 1024, False, "≥ 0.95", ""),
)
SLOW = {"1 MiB events": ("ours", "the reference reader")}


def measure(rounds: int) -> list[Row]:
    rows = []
    for what, count, size, cut, goal, others in CASES:
        names = SLOW.get(what, tuple(READERS))
        with serving_answer(prepared(count, size, cut=cut)) as url:
            contenders = {name: partial(_rate, READERS[name], url, count) for name in names}
            figures = interleaved(contenders, rounds)
        for name in names[1:]:
            reached = goal if name == "the reference reader" else others
            rows.append(Row(what, name, ratio(figures, "ours", name), reached))
    rows.append(_memory())
    return rows


def _rate(reader: Reader, url: str, count: int) -> float:
    return count / seconds_to_read(reader, url, count)


def _memory() -> Row:
    size = 1024 * 1024
    with serving_answer(prepared(8, size, cut=False)) as url:
        list(READERS["ours"](url))
        tracemalloc.start()
        for _ in READERS["ours"](url):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return Row("1 MiB events: peak memory", "the event", peak / size, "≤ 4")
