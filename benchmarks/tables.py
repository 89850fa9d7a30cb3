"""Results of benchmarks, and their table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class BenchmarkRow:
    """Result of a benchmark."""

    what: str
    """Measured quantity."""
    against: str
    """Contender or constant to which BeRay is compared."""
    value: float
    """Ratio of the value of BeRay to that of ``against``."""
    goal: str
    """Expected range of the ratio, such as ``≤ 1.2``; empty without a goal."""


def interleaved(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each contender once per round, in alternating order, after a warm-up.

    Args:
        contenders: Functions that return a measured value, by name.
        rounds: Number of values per contender.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()  # warm-up
    for number in range(rounds):
        order = list(contenders) if number % 2 else list(reversed(contenders))
        for name in order:
            figures[name].append(contenders[name]())
    return figures


def ratio(figures: dict[str, list[float]], ours: str, other: str) -> float:
    """Return the median of the ratios of all rounds."""
    return median(a / b for a, b in zip(figures[ours], figures[other], strict=True))


def print_table(rows: list[BenchmarkRow]) -> None:
    """Print results as a Markdown table."""
    print("| what | against | ratio | goal |")
    print("| --- | --- | ---: | --- |")
    for row in rows:
        print(f"| {row.what} | {row.against} | {row.value:.2f} | {row.goal} |")
