"""Throughput of event streams, and peak memory for large events."""

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
    event_response,
    seconds_to_read,
    serve_response,
)
from benchmarks.tables import BenchmarkRow, interleaved, ratio
from beray.streaming.sse import Parser

CASES = (
    # Name, number of events, bytes per event, split at random positions, goal against the
    # reference reader, goal against the others.
    ("200-byte events, one chunk each", 60_000, 200, False, "≥ 1.0", "≥ 1.5"),
    ("200-byte events, split at random", 60_000, 200, True, "≥ 1.0", "≥ 1.5"),
    ("4 KiB events", 10_000, 4096, False, "≥ 0.9", "≥ 1.5"),
    ("1 MiB events", 100, 1024 * 1024, False, "≥ 0.95", ""),
)
GENERAL = (
    # Name, number of events, bytes per event, goal against the reference reader.
    ("200-byte events", 60_000, 200, "≥ 1.0"),
    ("4 KiB events", 10_000, 4096, "≥ 1.0"),
    ("1 MiB events", 100, 1024 * 1024, "≥ 1.2"),
)
FORMS = {"with an event: line": NAMED, "without id:": WITHOUT_ID}
CONTENDERS = {"1 MiB events": ("ours", "the reference reader")}


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return ratios of events per second, of parse times, and of peak memory."""
    rows = []
    for what, count, size, cut, goal, others in CASES:
        names = CONTENDERS.get(what, tuple(READERS))
        with serve_response(event_response(count, size, cut=cut)) as url:
            contenders = {name: partial(_rate, READERS[name], url, count) for name in names}
            figures = interleaved(contenders, rounds)
        for name in names[1:]:
            expected = goal if name == "the reference reader" else others
            rows.append(BenchmarkRow(what, name, ratio(figures, "ours", name), expected))
    rows += _general(rounds)
    rows += _large(rounds)
    rows.append(_memory())
    return rows


def _general(rounds: int) -> list[BenchmarkRow]:
    """Return ratios for streams with other fields than a BeRay server sends."""
    rows = []
    names = ("ours", "the reference reader")
    for what, count, size, goal in GENERAL:
        for form, head in FORMS.items():
            with serve_response(event_response(count, size, cut=False, head=head)) as url:
                contenders = {name: partial(_rate, READERS[name], url, count) for name in names}
                value = ratio(interleaved(contenders, rounds), *names)
            rows.append(BenchmarkRow(f"{what} {form}", names[1], value, goal))
    return rows


def _large(rounds: int) -> list[BenchmarkRow]:
    """Return parse times per byte of unusual events relative to small events."""
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
        rows.append(BenchmarkRow(f"{what}: time per byte", "200-byte events", value, "≤ 1"))
    return rows


def _parse(stream: bytes) -> float:
    """Return the parse time in seconds per byte, with input in pieces of 64 KiB."""
    parser = Parser()
    start = time.perf_counter()
    for at in range(0, len(stream), 65536):
        for _ in parser.feed(stream[at : at + 65536]):
            pass
    return (time.perf_counter() - start) / len(stream)


def _rate(reader: Reader, url: str, count: int) -> float:
    return count / seconds_to_read(reader, url, count)


def _memory() -> BenchmarkRow:
    size = 1024 * 1024
    with serve_response(event_response(8, size, cut=False)) as url:
        list(READERS["ours"](url))
        tracemalloc.start()
        for _ in READERS["ours"](url):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return BenchmarkRow("1 MiB events: peak memory", "the event", peak / size, "≤ 4")
