"""The runner of goals in plain words where nobody can do them: it says so."""

from __future__ import annotations

from beray.events import MsgError
from beray.server.runners.base import Job, Outcome, Sink


class NoModelRunner:
    def __init__(self, problem: str) -> None:
        self._details = (
            f"No model is configured on this server: {problem}. So a goal in plain words cannot "
            "be done. Set one where the server runs, and start it again (`beray server stop` ends "
            "your own). A shell command can be done as it is: begin the goal with '!', as in "
            "'!ls -l'."
        )

    async def run(self, job: Job, sink: Sink) -> Outcome:
        await sink.emit(MsgError(code="NO_MODEL", details=self._details))
        return Outcome("FAILED", "no_model")
