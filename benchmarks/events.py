"""Events a second, and the memory that a large one takes."""

from __future__ import annotations

import time
import tracemalloc
from functools import partial

from benchmarks.streams import (
    NAMED,
    READERS,
    WITHOUT_ID,
    Reader,
    event,
    prepared,
    seconds_to_read,
    serving_answer,
)
from benchmarks.tables import Row, interleaved, ratio
from beray.streaming.sse import Parser

CASES = (
    # what, events, bytes each, cut anywhere, goal against the reference, against the others
    ("200-byte events, one chunk each", 60_000, 200, False, "≥ 1.0", "≥ 1.5"),
    ("200-byte events, cut anywhere", 60_000, 200, True, "≥ 1.0", "≥ 1.5"),
    ("4 KiB events", 10_000, 4096, False, "≥ 0.9", "≥ 1.5"),
    ("1 MiB events", 100, 1024 * 1024, False, "≥ 0.95", ""),
)
GENERAL = (
    # what, events, bytes each, goal against the reference
    ("200-byte events", 60_000, 200, "≥ 1.0"),
    ("4 KiB events", 10_000, 4096, "≥ 1.0"),
    ("1 MiB events", 100, 1024 * 1024, "≥ 1.2"),
)
FORMS = {"with an event: line": NAMED, "without id:": WITHOUT_ID}
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
    rows += _general(rounds)
    rows += _large(rounds)
    rows.append(_memory())
    return rows


def _general(rounds: int) -> list[Row]:
    """Events of other forms than those that servers of this project send."""
    rows = []
    names = ("ours", "the reference reader")
    for what, count, size, goal in GENERAL:
        for form, head in FORMS.items():
            with serving_answer(prepared(count, size, cut=False, head=head)) as url:
                contenders = {name: partial(_rate, READERS[name], url, count) for name in names}
                value = ratio(interleaved(contenders, rounds), *names)
            rows.append(Row(f"{what} {form}", names[1], value, goal))
    return rows


def _large(rounds: int) -> list[Row]:
    """Seconds a byte of unusual events, against those of small ones, in the parser alone."""
    small = b"".join(event(seq, 200) for seq in range(1, 20_000))
    lines = b"\ndata: ".join([b"x" * 70] * 50_000)
    unusual = {
        "an event of 50,000 data lines": b"data: " + lines + b"\n\n",
        "an event of 4 MiB": b"data: " + b"x" * 4 * 1024 * 1024 + b"\n\n",
    }
    rows = []
    for what, stream in unusual.items():
        contenders = {"ours": partial(_parse, stream), "small": partial(_parse, small)}
        value = ratio(interleaved(contenders, rounds), "ours", "small")
        rows.append(Row(f"{what}: time a byte", "200-byte events", value, "≤ 1"))
    return rows


def _parse(stream: bytes) -> float:
    """Seconds a byte, in pieces as a socket gives them."""
    parser = Parser()
    start = time.perf_counter()
    for at in range(0, len(stream), 65536):
        for _ in parser.feed(stream[at : at + 65536]):
            pass
    return (time.perf_counter() - start) / len(stream)


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
