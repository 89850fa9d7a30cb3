"""A run as it is told: one line of how it stands, and what it said and gave."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line
from tui import sanitize, status
from tui.document import Document
from tui.prefabs.outcome import Outcome, Problem
from tui.prefabs.run import Run, State

_TEXT: Final = "event--text"
_NOTE: Final = "event--note"
_BAD: Final = "event--failure"
_VALUE: Final = "event--output"
_MOST_CHARACTERS: Final = 100_000
_MOST_LINES: Final = 1500

ADVICE: Final = {
    "TIMEOUT": "It took longer than its manifest allows.",
    "MEMORY_LIMIT": "It took more memory than its manifest allows.",
    "CRASHED": "Its process ended without an answer.",
    "INVALID_OUTPUT": "What it returned is not what its manifest promises.",
    "INPUT_FILE": "One of its files could not be had.",
    "OUTPUT_TOO_LARGE": "What it made is more than the server takes.",
    "CANCELLED": "It was stopped.",
}


class Standing(NamedTuple):
    """How a run stands: a glyph and words, and the style class that they have."""

    words: str
    style: str


def standing(run: Run) -> Standing:
    time = status.duration(run.lasted())
    match run.state:
        case State.SENDING:
            name, done, total = run.sending or ("its files", 0, 0)
            amount = f"  {status.size(done)} of {status.size(total)}" if total else ""
            return Standing(f"● sending {one_line(name, 60)}{amount}", "status--running")
        case State.RUNNING:
            return Standing(f"● running  {time}", "status--running")
        case State.SUCCEEDED if run.outcome.refusal:
            said = one_line(run.outcome.refusal, 200)
            return Standing(f"◆ it says no: {said}", "status--input")
        case State.SUCCEEDED:
            return Standing(f"✓ done in {time}", "status--completed")
        case State.STOPPED:
            return Standing(f"■ stopped after {time}", "status--stopped")
        case State.REFUSED:
            return Standing("✗ not run", "status--failed")
        case State.LOST:
            return Standing("✗ broke off, outcome not known", "status--failed")
    code = run.outcome.problem.code if run.outcome.problem else ""
    return Standing(f"✗ failed: {one_line(code, 60)}", "status--failed")


class Report(NamedTuple):
    page: Document
    ending: int
    """The line from which on it is told how the run ended."""


def report(run: Run, *, unfolded: bool = False) -> Report:
    """What the run said, and how it ended.

    Args:
        unfolded: with the traceback, where there is one.
    """
    page = Document()
    transcript = run.transcript
    if transcript.dropped:
        page.append(f"… {transcript.dropped:,} lines before these are not kept", _NOTE)
    for line in transcript.lines:
        page.append(line, _TEXT)
    if run.is_over and transcript.lines:
        page.append("", _TEXT)
    ending = len(page.lines)
    if run.error is not None:
        page.append(words(run.error), _BAD)
    elif run.outcome.problem is not None:
        _problem(page, run.outcome.problem, unfolded=unfolded)
    elif run.state is State.SUCCEEDED:
        _result(page, run.outcome)
    return Report(page, ending)


def words(error: Exception) -> str:
    """What a gateway's error says, with what to do about it."""
    said = getattr(error, "message", "")
    told = said if isinstance(said, str) and said else sanitize.words(error)
    instructions = getattr(error, "instructions", "")
    if isinstance(instructions, str) and instructions:
        told += f"\n{instructions}"
    prefab_id, name = getattr(error, "prefab_id", None), getattr(error, "secret_name", None)
    if isinstance(prefab_id, str) and isinstance(name, str):
        told += "\nk gives it to the server, which keeps it for you."
    return told


def _problem(page: Document, problem: Problem, *, unfolded: bool) -> None:
    page.append(problem.message[:_MOST_CHARACTERS], _BAD)
    advice = ADVICE.get(problem.code)
    if advice:
        page.append(advice, _NOTE)
    if problem.traceback and unfolded:
        page.append("", _TEXT)
        page.append(problem.traceback[-_MOST_CHARACTERS:].rstrip(), _VALUE)
    elif problem.traceback:
        page.append("t shows its traceback", _NOTE)


def _result(page: Document, outcome: Outcome) -> None:
    if outcome.result is None:
        page.append("It returned nothing." if not outcome.files else "", _NOTE)
        return
    page.append("Result", _NOTE)
    text = pretty(outcome.result)
    shown = text[:_MOST_CHARACTERS].split("\n")
    page.append("\n".join(shown[:_MOST_LINES]), _VALUE)
    if len(text) > _MOST_CHARACTERS or len(shown) > _MOST_LINES:
        page.append("… the rest is not shown; save result.json", _NOTE)


def pretty(value: Any) -> str:
    """A result as people read it: a text as it is, a value as JSON over several lines."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)


def named(run: Run) -> str:
    """What is run."""
    return f"{run.order.prefab_id} {run.order.function}"


def summed_up(run: Run) -> str:
    """One line about a run that has ended, for who looks elsewhere."""
    what = named(run)
    match run.state:
        case State.SUCCEEDED:
            return f"{what} {'says no' if run.outcome.refusal else 'is done'}"
        case State.STOPPED:
            return f"{what} was stopped"
        case State.FAILED:
            return f"{what} has failed"
        case State.LOST:
            return f"{what} broke off, its outcome is not known"
    return f"{what} was not run"
