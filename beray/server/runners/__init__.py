"""Who does the goal: ``choose`` picks the runner of a task."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Final, Literal, NamedTuple

from beray.installation import how_to_install
from beray.server.runners.base import Job, Outcome, Runner, Sink
from beray.server.runners.command import CommandRunner
from beray.server.runners.no_model import NoModelRunner
from beray.server.runners.shell import ShellRunner
from beray.server.runners.subprocess.fork_server import Forks
from beray.server.runners.subprocess.runner import RemoteRunner
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

__all__ = ["Chosen", "Job", "Outcome", "Runner", "Runners", "Sink"]

_PACKAGES: Final = {"model": "pydantic_ai", "acp": "acp", "agent": "websockets"}
"""What the runners that have a process of their own need."""
_SETTINGS: Final = {
    "model": "BERAY_MODEL",
    "acp": "BERAY_ACP",
    "command": "BERAY_COMMAND",
    "agent": "BERAY_AGENT_URL",
}


class Chosen(NamedTuple):
    """``runner`` is ``None`` where there is none for such goals."""

    runner: str | None
    model: str | None


class Runners:
    """The runners that this server has."""

    def __init__(self, settings: Settings, sandbox: Sandbox) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._shell = ShellRunner(sandbox)
        set_up = {
            "model": settings.model,
            "acp": settings.acp,
            "command": settings.command,
            "agent": settings.agent_url,
        }
        self._usual = [name for name, value in set_up.items() if value]
        if settings.runner != "auto":
            self._usual = [settings.runner] if settings.runner in self._usual else []
        self.names = ["shell", *(name for name, value in set_up.items() if value)]
        if settings.models and "model" not in self.names:
            self.names.append("model")
        self._forks = Forks(settings.data_dir, self._separate())

    def _separate(self) -> list[str]:
        return [name for name in _PACKAGES if name in self.names and find_spec(_PACKAGES[name])]

    async def start(self) -> None:
        """Have the imports of the usual runner done by the time that it is needed."""
        if self._usual and self._usual[0] in self._separate():
            await self._forks.warm_up()

    async def close(self) -> None:
        await self._forks.close()

    def __str__(self) -> str:
        """What there is, for its owner: the usual one for plain words first."""
        first = [name for name in self._usual if name in self.names]
        others = [name for name in self.names if name not in first]
        model = self._settings.model or "that the task names"
        named = (f"model ({model})" if name == "model" else name for name in (*first, *others))
        return ", ".join(named)

    def problem(self, runner: str | None, model: str | None) -> str | None:
        """Why a task cannot be done by these; ``None`` where it can."""
        if runner is not None and runner not in self.names:
            known = ", ".join(self.names)
            if runner not in _SETTINGS:
                return f"there is no runner {runner!r}; this server has {known}"
            return f"{_SETTINGS[runner]} is not set on this server; it has the runners {known}"
        allowed = [self._settings.model or "", *self._settings.models.split(",")]
        if model is not None and not any(fnmatchcase(model, one.strip()) for one in allowed):
            return f"the model {model!r} is not one of this server's; its owner sets BERAY_MODELS"
        return None

    def network_problem(
        self, runner: str | None, model: str | None, goal: str, *, network: bool
    ) -> str | None:
        """Return why a task cannot run with the network that it needs, or None if it can."""
        chosen = self.settle(runner, model, goal)
        return self._sandbox.networks.problem(chosen.runner, asked=network)

    def settle(self, runner: str | None, model: str | None, goal: str) -> Chosen:
        """Who does a task of these: as asked, or as the server's owner has it.

        What was not asked: a goal that starts with ``!`` is a shell command, and any other is
        for the runner that the server has for them.
        """
        if runner is None:
            if goal.startswith("!"):
                runner = "shell"
            else:
                runner = "model" if model else next(iter(self._usual), None)
        return Chosen(runner, model or self._settings.model if runner == "model" else model)

    def choose(self, name: str | None) -> Runner:
        """The one of this name; where there is none, one that says so."""
        match name:
            case "shell":
                return self._shell
            case "command" if name in self.names:
                return CommandRunner(self._settings, self._sandbox)
            case "model" | "acp" | "agent" if name in self.names:
                return self._remote(name)
        return NoModelRunner(self._missing())

    def _remote(self, name: Literal["model", "acp", "agent"]) -> Runner:
        if find_spec(_PACKAGES[name]) is None:
            return NoModelRunner(f"its packages are missing; {how_to_install('agents')}")
        return RemoteRunner(name, self._forks, self._settings, self._sandbox)

    def _missing(self) -> str:
        if self._settings.runner != "auto":
            setting = _SETTINGS[self._settings.runner]
            return f"BERAY_RUNNER is {self._settings.runner}, and {setting} is not set"
        return (
            "none of BERAY_MODEL (such as openai:gpt-4o), BERAY_ACP, BERAY_COMMAND and "
            "BERAY_AGENT_URL is set"
        )
