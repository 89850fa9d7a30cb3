"""Text of a run's status, streamed output and result."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line
from tui import sanitize, status
from tui.document import Document
from tui.prefabs.outcome import RunOutcome, RunProblem
from tui.prefabs.run import Run, RunState

_TEXT: Final = "event--text"
_NOTE: Final = "event--note"
_BAD: Final = "event--failure"
_VALUE: Final = "event--output"
_MAX_CHARACTERS: Final = 100_000
_MAX_LINES: Final = 1500

ADVICE: Final = {
    "TIMEOUT": "The run exceeded the time limit in the prefab's manifest.",
    "MEMORY_LIMIT": "The run exceeded the memory limit in the prefab's manifest.",
    "CRASHED": "The function's process exited without a result.",
    "INVALID_OUTPUT": "The result does not match the schema in the prefab's manifest.",
    "INPUT_FILE": "An input file could not be read.",
    "OUTPUT_TOO_LARGE": "The output exceeds the server's size limit.",
    "CANCELLED": "The run was stopped.",
}


class RunStatus(NamedTuple):
    """Status of a run as text with a symbol, and its style class."""

    words: str
    style: str


def standing(run: Run) -> RunStatus:
    """Return the status of a run."""
    time = status.duration(run.lasted())
    match run.state:
        case RunState.SENDING:
            name, done, total = run.sending or ("files", 0, 0)
            amount = f"  {status.size(done)} of {status.size(total)}" if total else ""
            return RunStatus(f"● uploading {one_line(name, 60)}{amount}", "status--running")
        case RunState.RUNNING:
            return RunStatus(f"● running  {time}", "status--running")
        case RunState.SUCCEEDED if run.outcome.refusal:
            reason = one_line(run.outcome.refusal, 200)
            return RunStatus(f"◆ not successful: {reason}", "status--input")
        case RunState.SUCCEEDED:
            return RunStatus(f"✓ done in {time}", "status--completed")
        case RunState.STOPPED:
            return RunStatus(f"■ stopped after {time}", "status--stopped")
        case RunState.REFUSED:
            return RunStatus("✗ rejected", "status--failed")
        case RunState.LOST:
            return RunStatus("✗ connection lost, outcome unknown", "status--failed")
    code = run.outcome.problem.code if run.outcome.problem else ""
    return RunStatus(f"✗ failed: {one_line(code, 60)}", "status--failed")


class RunReport(NamedTuple):
    """Output of a run as a document."""

    page: Document
    ending: int
    """First line of the part that reports the end of the run."""


def report(run: Run, *, unfolded: bool = False) -> RunReport:
    """Return the streamed output of a run and how it ended.

    Args:
        run: Run to describe.
        unfolded: Whether to include the traceback of an error.
    """
    page = Document()
    transcript = run.transcript
    if transcript.dropped:
        page.append(f"… the first {transcript.dropped:,} lines have been dropped", _NOTE)
    for line in transcript.lines:
        page.append(line, _TEXT)
    if run.is_over and transcript.lines:
        page.append("", _TEXT)
    ending = len(page.lines)
    if run.error is not None:
        page.append(error_text(run.error), _BAD)
    elif run.outcome.problem is not None:
        _problem(page, run.outcome.problem, unfolded=unfolded)
    elif run.state is RunState.SUCCEEDED:
        _result(page, run.outcome)
    return RunReport(page, ending)


def error_text(error: Exception) -> str:
    """Return the message of a gateway error, with the next step if there is one."""
    reason = getattr(error, "message", "")
    told = reason if isinstance(reason, str) and reason else sanitize.error_text(error)
    instructions = getattr(error, "instructions", "")
    if isinstance(instructions, str) and instructions:
        told += f"\n{instructions}"
    prefab_id, name = getattr(error, "prefab_id", None), getattr(error, "secret_name", None)
    if isinstance(prefab_id, str) and isinstance(name, str):
        told += "\nPress k to save the secret on the server."
    return told


def _problem(page: Document, problem: RunProblem, *, unfolded: bool) -> None:
    page.append(problem.message[:_MAX_CHARACTERS], _BAD)
    advice = ADVICE.get(problem.code)
    if advice:
        page.append(advice, _NOTE)
    if problem.traceback and unfolded:
        page.append("", _TEXT)
        page.append(problem.traceback[-_MAX_CHARACTERS:].rstrip(), _VALUE)
    elif problem.traceback:
        page.append("press t to show the traceback", _NOTE)


def _result(page: Document, outcome: RunOutcome) -> None:
    if outcome.result is None:
        page.append("No result." if not outcome.files else "", _NOTE)
        return
    page.append("Result", _NOTE)
    text = pretty(outcome.result)
    shown = text[:_MAX_CHARACTERS].split("\n")
    page.append("\n".join(shown[:_MAX_LINES]), _VALUE)
    if len(text) > _MAX_CHARACTERS or len(shown) > _MAX_LINES:
        page.append("… the rest is not shown; save result.json to read all of it", _NOTE)


def pretty(value: Any) -> str:
    """Return a string unchanged, and any other value as indented JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)


def run_name(run: Run) -> str:
    """Return prefab and function of the run."""
    return f"{run.order.prefab_id} {run.order.function}"


def run_summary(run: Run) -> str:
    """Return one line about the end of a run, for a notification."""
    what = run_name(run)
    match run.state:
        case RunState.SUCCEEDED:
            return f"{what} {'was not successful' if run.outcome.refusal else 'has finished'}"
        case RunState.STOPPED:
            return f"{what} was stopped"
        case RunState.FAILED:
            return f"{what} failed"
        case RunState.LOST:
            return f"{what}: connection lost, outcome unknown"
    return f"{what} was rejected"
