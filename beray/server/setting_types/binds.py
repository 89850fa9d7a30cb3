"""Paths of the host that are visible in a sandbox, as in the setting ``BERAY_AGENT_PATHS``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Bind:
    """Path of the host that is visible in the sandbox.

    Attributes:
        path: Path on the host.
        writable: True if the command may change the path and its content.
        inside: Path in the sandbox; by default, the same as on the host.
        origin: Reason for the bind, for error messages.
        private: True if the path may be part of the data directory, such as a task's own work_dir.
    """

    path: str
    writable: bool = False
    inside: str | None = None
    origin: str = field(default="", compare=False)
    private: bool = False

    @property
    def target(self) -> str:
        """Path in the sandbox."""
        return self.inside or self.path
