"""Choice of the network of each command, from the settings and the state of this host."""

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
"""Runners whose commands have the network that the task requests."""


class NetworkUnavailable(OSError):
    """A command needs a network that is not available; ``strerror`` contains the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EACCES, reason)


class TaskNetworks:
    """Networks of commands.

    Args:
        settings: Settings of the server.
        state: Network that this host can provide.
        sandboxed: True if commands run in bubblewrap; otherwise they use the host's network.
    """

    def __init__(self, *, settings: Settings, state: NetworkState, sandboxed: bool) -> None:
        self.state = state
        self._settings = settings
        self._sandboxed = sandboxed

    def problem(self, runner: str | None, *, requested: bool) -> str | None:
        """Return why a task must be rejected because of its network, or None if it can run.

        Args:
            runner: Name of the task's runner; None if it is not known yet.
            requested: True if the task requests a network for its commands.
        """
        settings = self._settings
        forbidden = settings.sandbox_network == "never" and not settings.network_destinations()
        if requested and forbidden:
            return (
                "the task requests network access (limits.network), which this server does not "
                "permit (BERAY_SANDBOX_NETWORK=never); create the task without it"
            )
        if self.state.mode != "unavailable":
            return None
        if runner in ("acp", "command") and settings.agent_network:
            return f"the agent needs a network, but {self.state.reason}"
        if runner in _TASK_RUNNERS and self._is_public(requested):
            return f"the task needs a network, but {self.state.reason}"
        return None

    def uses_host(self, runner: str | None, *, requested: bool) -> bool:
        """Return True if sandboxed commands of a task can reach the services of this host.

        Args:
            runner: Name of the task's runner; None if it is not known yet.
            requested: True if the task requests a network for its commands.
        """
        if not self._sandboxed or self.state.mode != "host":
            return False
        if runner in ("acp", "command") and self._settings.agent_network:
            return True
        return runner in _TASK_RUNNERS and self._is_public(requested)

    def reached(self, *, requested: bool) -> bool:
        """Return True if a command of a task has a network.

        Args:
            requested: True if the task requests a network.
        """
        if not self._sandboxed:
            return True
        policy = self._settings.sandbox_network
        only_allowed = policy == "never" and bool(self._settings.network_destinations())
        return policy == "always" or (requested and (policy == "task" or only_allowed))

    def of_command(self, *, requested: bool, gateway: GatewayRelay | None = None) -> CommandNetwork:
        """Return the network of a task's command.

        Args:
            requested: True if the task requests a network.
            gateway: Access to the gateway; None if the command has no access.

        Raises:
            NetworkUnavailable: The required network is not available on this host.
        """
        connected = self.reached(requested=requested)
        return self._network(
            connected=connected, public=self._is_public(requested), gateway=gateway
        )

    def of_agent(self, *, requested: bool, gateway: GatewayRelay | None = None) -> CommandNetwork:
        """Return the network of an agent that the operator configured.

        Args:
            requested: True if the task requests a network. Used if agents have no network by the
                operator's settings.
            gateway: Access to the gateway; None if the agent has no access.

        Raises:
            NetworkUnavailable: The required network is not available on this host.
        """
        if self._settings.agent_network or not requested:
            connected = self._settings.agent_network
            return self._network(connected=connected, public=True, gateway=gateway)
        return self.of_command(requested=True, gateway=gateway)

    def _is_public(self, requested: bool) -> bool:
        return self._settings.sandbox_network != "never" and self.reached(requested=requested)

    def _network(
        self, *, connected: bool, public: bool, gateway: GatewayRelay | None
    ) -> CommandNetwork:
        if not self._sandboxed:
            return CommandNetwork("host", gateway=gateway)
        allow = tuple(self._settings.network_destinations()) if connected else ()
        if connected and public:
            if self.state.mode == "unavailable":
                raise NetworkUnavailable(self.state.reason)
            if self.state.mode == "host":
                return CommandNetwork("host", gateway=gateway)
            return CommandNetwork("own", True, allow, gateway)
        if allow or gateway is not None:
            return CommandNetwork("own", False, allow, gateway)
        return NO_NETWORK
