"""Decide which network each command of a task gets: the settings and this host's state together."""

from __future__ import annotations

import errno
from typing import Final

from beray.server.sandbox.network_policy import (
    NO_NETWORK,
    CommandNetwork,
    GatewayRelay,
    NetworkState,
)
from beray.server.settings import Settings

_TASK_RUNNERS: Final = ("shell", "model", "acp", "command")
"""Runners whose commands have the network that the task asks for."""


class NetworkRefused(OSError):
    """A command needs a network that it cannot have; ``strerror`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)


class TaskNetworks:
    """Networks of commands.

    Args:
        sandboxed: whether commands run in bubblewrap; others have the host's network.
        state: what this host can do.
    """

    def __init__(self, settings: Settings, state: NetworkState, *, sandboxed: bool) -> None:
        self.state = state
        self._settings = settings
        self._sandboxed = sandboxed

    def problem(self, runner: str | None, *, asked: bool) -> str | None:
        """Return why a task is refused because of its network, or None if it can run.

        Args:
            asked: whether the task asks for a network for its commands.
        """
        settings = self._settings
        forbidden = settings.sandbox_network == "never" and not settings.network_destinations()
        if asked and forbidden:
            return (
                "the task asks for network access (limits.network), which the operator of this "
                "server does not permit (BERAY_SANDBOX_NETWORK=never); create it without"
            )
        if self.state.mode != "refused":
            return None
        if runner in ("acp", "command") and settings.agent_network:
            return f"the agent needs a network. {self.state.reason}"
        if runner in _TASK_RUNNERS and self._is_public(asked):
            return f"the task needs a network. {self.state.reason}"
        return None

    def uses_host(self, runner: str | None, *, asked: bool) -> bool:
        """Return True if sandboxed commands of a task reach the services of this host."""
        if not self._sandboxed or self.state.mode != "host":
            return False
        if runner in ("acp", "command") and self._settings.agent_network:
            return True
        return runner in _TASK_RUNNERS and self._is_public(asked)

    def reached(self, *, asked: bool) -> bool:
        """Return True if a command of a task has a network.

        Args:
            asked: whether its task asks for one.
        """
        if not self._sandboxed:
            return True
        policy = self._settings.sandbox_network
        only_allowed = policy == "never" and bool(self._settings.network_destinations())
        return policy == "always" or (asked and (policy == "task" or only_allowed))

    def of_command(self, *, asked: bool, gateway: GatewayRelay | None = None) -> CommandNetwork:
        """Return the network of a task's command.

        Raises:
            NetworkRefused: it wants a network that it cannot have.
        """
        wanted = self.reached(asked=asked)
        return self._network(wanted=wanted, public=self._is_public(asked), gateway=gateway)

    def of_agent(self, *, asked: bool, gateway: GatewayRelay | None = None) -> CommandNetwork:
        """Return the network of an operator's agent.

        Args:
            asked: whether its task asks for a network, where agents have none.

        Raises:
            NetworkRefused: it cannot have a network.
        """
        if self._settings.agent_network or not asked:
            wanted = self._settings.agent_network
            return self._network(wanted=wanted, public=True, gateway=gateway)
        return self.of_command(asked=True, gateway=gateway)

    def _is_public(self, asked: bool) -> bool:
        return self._settings.sandbox_network != "never" and self.reached(asked=asked)

    def _network(
        self, *, wanted: bool, public: bool, gateway: GatewayRelay | None
    ) -> CommandNetwork:
        if not self._sandboxed:
            return CommandNetwork("host", gateway=gateway)
        allow = tuple(self._settings.network_destinations()) if wanted else ()
        if wanted and public:
            if self.state.mode == "refused":
                raise NetworkRefused(self.state.reason)
            if self.state.mode == "host":
                return CommandNetwork("host", gateway=gateway)
            return CommandNetwork("own", True, allow, gateway)
        if allow or gateway is not None:
            return CommandNetwork("own", False, allow, gateway)
        return NO_NETWORK
