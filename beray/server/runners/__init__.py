"""Selection of the runner that executes a task."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Final, Literal, NamedTuple

from beray.events import MsgError
from beray.installation import how_to_install
from beray.server.runners.base import Job, Outcome, Runner, Sink
from beray.server.runners.command import CommandRunner
from beray.server.runners.shell import ShellRunner
from beray.server.runners.subprocess.fork_server import ForkServer
from beray.server.runners.subprocess.runner import SubprocessRunner
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

__all__ = ["Chosen", "Job", "Outcome", "Runner", "Runners", "Sink"]

_PACKAGES: Final = {"model": "pydantic_ai", "acp": "acp", "agent": "websockets"}
"""Package that each runner with a process of its own imports."""
_SETTINGS: Final = {
    "model": "BERAY_MODEL",
    "acp": "BERAY_ACP",
    "command": "BERAY_COMMAND",
    "agent": "BERAY_AGENT_URL",
}


class RunnerChoice(NamedTuple):
    """Runner and model selected for a task.

    Attributes:
        runner: Name of the runner; None if this server has no runner for the goal.
        model: Name of the model; None if the runner uses no model or none is configured.
    """

    runner: str | None
    model: str | None


def keeps_conversation(runner: str | None) -> bool:
    """Return True if tasks of this runner keep their messages, so that others can continue them."""
    return runner == "model"


class UnavailableRunner:
    """Runner that fails every goal because no suitable runner is configured.

    Args:
        problem: Reason and setting, for the message.
    """

    def __init__(self, problem: str) -> None:
        self._details = (
            f"This server cannot run goals in natural language: {problem}. The operator can set "
            "it and restart the server (`beray server stop` stops your local one). Shell commands "
            "work without it: begin the goal with '!', for example '!ls -l'."
        )

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Emit the error ``NO_MODEL`` and fail."""
        await sink.emit(MsgError(code="NO_MODEL", details=self._details))
        return Outcome("FAILED", "no_model")


class Runners:
    """Runners that are configured on this server."""

    def __init__(self, *, settings: Settings, sandbox: Sandbox) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._shell = ShellRunner(sandbox=sandbox)
        configured = {
            "model": settings.model,
            "acp": settings.acp,
            "command": settings.command,
            "agent": settings.agent_url,
        }
        self._defaults = [name for name, value in configured.items() if value]
        self.names = ["shell", *self._defaults]
        if settings.runner != "auto":
            self._defaults = [settings.runner] if settings.runner in self._defaults else []
        if settings.models and "model" not in self.names:
            self.names.append("model")
        self._forks = ForkServer(data_dir=settings.data_dir, runners=self._subprocess_runners())

    def _subprocess_runners(self) -> list[str]:
        return [name for name in _PACKAGES if name in self.names and find_spec(_PACKAGES[name])]

    async def start(self) -> None:
        """Start importing the packages of the default runner."""
        if self._defaults and self._defaults[0] in self._subprocess_runners():
            await self._forks.warm_up()

    async def close(self) -> None:
        """End the process that runs are forked from. Runs must have ended before."""
        await self._forks.close()

    def __str__(self) -> str:
        """Return the names for the startup report, the default runner first."""
        others = [name for name in self.names if name not in self._defaults]
        model = self._settings.model or "named by the task"
        labels = (
            f"model ({model})" if name == "model" else name for name in (*self._defaults, *others)
        )
        return ", ".join(labels)

    def problem(self, runner: str | None, model: str | None) -> str | None:
        """Return why this server cannot run a task with these options, or None if it can."""
        if runner is not None and runner not in self.names:
            known = ", ".join(self.names)
            if runner not in _SETTINGS:
                return f"runner {runner!r} does not exist; this server has {known}"
            return (
                f"runner {runner!r} is not configured ({_SETTINGS[runner]} is not set); "
                f"this server has {known}"
            )
        allowed = [self._settings.model or "", *self._settings.models.split(",")]
        if model is not None and not any(fnmatchcase(model, item.strip()) for item in allowed):
            return (
                f"model {model!r} is not allowed on this server; "
                "its operator can add it to BERAY_MODELS"
            )
        return None

    def network_problem(
        self, runner: str | None, model: str | None, goal: str, *, network: bool
    ) -> str | None:
        """Return why a task cannot run with the network that it needs, or None if it can."""
        chosen = self.settle(runner, model, goal)
        return self._sandbox.networks.problem(chosen.runner, requested=network)

    def settle(self, runner: str | None, model: str | None, goal: str) -> RunnerChoice:
        """Return the runner and the model of a task.

        Without an explicit runner, a goal that starts with ``!`` is a shell command. Every other
        goal is executed by ``model`` if the task names a model, otherwise by the default runner.
        """
        if runner is None:
            if goal.startswith("!"):
                runner = "shell"
            else:
                runner = "model" if model else next(iter(self._defaults), None)
        return RunnerChoice(runner, model or self._settings.model if runner == "model" else model)

    def choose(self, name: str | None) -> Runner:
        """Return the runner called ``name``, or one that fails with ``NO_MODEL`` if missing."""
        match name:
            case "shell":
                return self._shell
            case "command" if name in self.names:
                return CommandRunner(settings=self._settings, sandbox=self._sandbox)
            case "model" | "acp" | "agent" if name in self.names:
                return self._subprocess(name)
        return UnavailableRunner(self._missing_settings())

    def _subprocess(self, name: Literal["model", "acp", "agent"]) -> Runner:
        if find_spec(_PACKAGES[name]) is None:
            return UnavailableRunner(f"its packages are missing; {how_to_install('agents')}")
        return SubprocessRunner(
            name, forks=self._forks, settings=self._settings, sandbox=self._sandbox
        )

    def _missing_settings(self) -> str:
        if self._settings.runner != "auto":
            setting = _SETTINGS[self._settings.runner]
            return f"BERAY_RUNNER is {self._settings.runner}, and {setting} is not set"
        return (
            "none of BERAY_MODEL (such as openai:gpt-4o), BERAY_ACP, BERAY_COMMAND and "
            "BERAY_AGENT_URL is set"
        )
