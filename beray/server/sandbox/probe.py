"""Classification of bubblewrap's failures, and the resulting choice of a sandbox."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from beray.server.sandbox import bubblewrap
from beray.server.settings import Settings

ATTEMPTS: Final = 3
"""Number of probes before a failure that may be temporary is treated as final."""
RETRY_SECONDS: Final = 0.5
"""Pause before the second probe, in seconds; it grows with each further probe."""

Kind = Literal["bubblewrap", "none"]

_PERMANENT: Final = re.compile(
    r"bwrap: (?:"
    r"(?:Creating new namespace failed|setting up [ug]id map|error writing to setgroups"
    r"|loopback: Failed RTM_\w+|Can't mount (?:proc|devpts) on [^:]*|Failed to mount tmpfs"
    r"|Failed to make / slave|pivot_root[^:]*|prctl\(PR_SET_SECCOMP\))"
    r": (?:Operation not permitted|Permission denied|Function not implemented|Invalid argument)"
    r"|No permissions to creat\w+ new namespace"
    r"|Creating new namespace failed, likely because the kernel does not support"
    r"|Unexpected capabilities but not setuid"
    r")"
)
"""Messages of bubblewrap if the kernel denies namespaces or mounts in them."""
_NAMESPACE_COUNT: Final = "max_*_namespaces exceeded"
_NAMESPACE_LIMITS: Final = Path("/proc/sys/user")
_DISABLE: Final = "set BERAY_SANDBOX=none to run commands with the rights of the server's user"


@dataclass(frozen=True, slots=True)
class Failure:
    """A probe that failed.

    Attributes:
        reason: Cause, without a full stop.
        remedy: Change that the operator can make, as the beginning of a sentence.
        permanent: True if bubblewrap cannot work on this host until its operator changes
            something.
    """

    reason: str
    remedy: str = "Remove the cause and start the server again"
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Isolation of commands on this server.

    Attributes:
        kind: Sandbox to use, or None if the server must not start.
        problem: Reason why it is not bubblewrap, with the next step.
    """

    kind: Kind | None
    problem: str | None = None


def not_installed() -> Failure | None:
    """Return a failure if ``PATH`` does not contain bubblewrap."""
    if sys.platform != "linux":
        return Failure("bubblewrap exists on Linux only", "Run the server on Linux", permanent=True)
    if bubblewrap.program() is None:
        reason = "bwrap is not installed or not on PATH"
        return Failure(reason, "Install the package bubblewrap", permanent=True)
    return None


def classify(status: int, output: str) -> Failure:
    """Return the failure of a probe that ended with ``status`` after writing ``output``.

    Only bubblewrap's own report that the kernel denies namespaces is permanent. Everything else,
    such as a full disk, too many open files, too little memory or a signal, may be temporary.
    """
    lines = output.strip().splitlines()
    last = lines[-1] if lines else f"exit status {status}"
    if not last.startswith("bwrap: "):
        return Failure(f"bubblewrap could not be tested: {last}")
    denied = bool(_PERMANENT.match(last))
    if _NAMESPACE_COUNT in last and _is_any_zero(_NAMESPACE_LIMITS.glob("max_*_namespaces")):
        denied = True
    if status != 1 or not denied:
        return Failure(f"bubblewrap could not be tested: {last}")
    return Failure(
        f"this host does not allow bubblewrap to create a sandbox: {last}",
        "Allow unprivileged user namespaces (sysctl user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns; in a container: its seccomp profile)",
        permanent=True,
    )


def decide(settings: Settings, failure: Failure | None) -> Decision:
    """Return the sandbox to use after the probe.

    A personal server with ``BERAY_SANDBOX=auto`` runs commands without a sandbox if bubblewrap
    cannot work on this host. In all other cases, a failure prevents the server from starting.

    Args:
        settings: Settings of the server.
        failure: Result of the probe; None if it succeeded.
    """
    if failure is None:
        return Decision("bubblewrap")
    if failure.permanent and settings.sandbox == "auto" and not settings.shared:
        return Decision("none", f"{failure.reason}. {failure.remedy}.")
    return Decision(None, f"{failure.reason}. {failure.remedy}, or {_DISABLE}.")


def _is_any_zero(limits: Iterable[Path]) -> bool:
    """Return True if one of these kernel limits is zero, and not merely reached."""
    try:
        return any(limit.read_text().strip() == "0" for limit in limits)
    except OSError:
        return False
