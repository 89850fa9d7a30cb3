"""A figure and its goal, and the table of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """``value`` is a ratio, of ours to ``against``; ``goal`` says what it should be."""

    what: str
    against: str
    value: float
    goal: str


def interleaved(contenders: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each contender's figures, one a round, the contenders taking turns."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()  # warm
    for number in range(rounds):
        order = list(contenders) if number % 2 else list(reversed(contenders))
        for name in order:
            figures[name].append(contenders[name]())
    return figures


def ratio(figures: dict[str, list[float]], ours: str, other: str) -> float:
    """The median of the rounds' ratios."""
    return median(a / b for a, b in zip(figures[ours], figures[other], strict=True))


def show(rows: list[Row]) -> None:
    print("| what | against | ratio | goal |")
    print("| --- | --- | ---: | --- |")
    for row in rows:
        print(f"| {row.what} | {row.against} | {row.value:.2f} | {row.goal} |")
