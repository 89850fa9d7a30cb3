"""Who does the goal: ``choose`` picks the runner of a task."""

from __future__ import annotations

from beray.server.runners.base import Job, Outcome, Runner, Sink
from beray.server.runners.no_model import NoModelRunner
from beray.server.runners.shell import ShellRunner
from beray.server.sandbox import Sandbox
from beray.server.settings import Settings

__all__ = ["Job", "Outcome", "Runner", "Runners", "Sink"]


class Runners:
    """The runners that this server has."""

    def __init__(self, settings: Settings, sandbox: Sandbox) -> None:
        self._shell = ShellRunner(sandbox)
        self._no_model = NoModelRunner(settings.model)

    def choose(self, goal: str) -> Runner:
        """A goal that starts with ``!`` is a shell command; any other wants a model."""
        return self._shell if goal.startswith("!") else self._no_model
