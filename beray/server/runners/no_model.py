"""The runner of goals in plain words where no model can do them: it says so."""

from __future__ import annotations

from beray.events import MsgError
from beray.server.runners.base import Job, Outcome, Sink


class NoModelRunner:
    def __init__(self, model: str | None) -> None:
        problem = (
            "BERAY_MODEL is not set on this server (such as openai:gpt-4o)"
            if model is None
            else f"this version of the server has no runner for BERAY_MODEL={model} yet"
        )
        self._details = (
            f"No model is configured: {problem}, so a goal in plain words cannot be done. "
            "A shell command can: begin the goal with '!', as in '!ls -l'."
        )

    async def run(self, job: Job, sink: Sink) -> Outcome:
        await sink.emit(MsgError(code="NO_MODEL", details=self._details))
        return Outcome("FAILED", "no_model")
