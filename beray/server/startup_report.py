"""Report for the operator about the protection of the server, with recommended changes.

It is written to stderr when the server starts, and printed by ``beray serve --check``. ``collect``
gathers the findings, ``as_text`` formats them.
"""

from __future__ import annotations

import os
import pwd
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from beray.sanitize import printable
from beray.server.connections import open_files
from beray.server.connections.open_files import OpenFiles
from beray.server.sandbox.network_policy import NetworkState
from beray.server.sandbox.probe import Decision
from beray.server.settings import Settings
from beray.server.storage.disk_reserve import free_bytes
from beray.server.tasks.redaction import secret_variables
from beray.version import __version__

WIDTH: Final = 80
"""Width of the report, in columns."""
MIN_FREE_BYTES: Final = 1024**3
"""Free space in the data directory below which the report contains a warning."""
_NAME_WIDTH: Final = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """Property of the server.

    Attributes:
        name: Label of the property, at most 14 characters.
        value: State of the property.
        warning: Problem and recommended change; None if nothing should be changed.
    """

    name: str
    value: str
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class StartupReport:
    """Findings about a server, with a heading."""

    heading: str
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> int:
        """Number of findings with a warning."""
        return sum(finding.warning is not None for finding in self.findings)


def collect(
    settings: Settings, url: str, decision: Decision, network_state: NetworkState
) -> StartupReport:
    """Return the report of a server with these settings. Nothing is changed.

    Args:
        settings: Settings of the server; ``set_listener`` has been called.
        url: URL of the listener.
        decision: Isolation of commands.
        network_state: Network that tasks can have.
    """
    kind = "shared" if settings.shared else "personal"
    return StartupReport(
        f"BeRay {__version__}: {kind} server on {url}",
        (
            user(os.geteuid()),
            sandbox(settings, decision),
            network(settings, decision, network_state),
            data_directory(settings.data_dir, settings.reserve_bytes),
            secrets(os.environ),
            registration(settings),
            mail(settings),
            proxy(settings, url),
            descriptors(open_files.measured(settings.max_runs)),
        ),
    )


def as_text(report: StartupReport) -> str:
    """Return the report as lines of at most ``WIDTH`` columns, unless a word is longer."""
    lines = [report.heading]
    for finding in report.findings:
        lines += _wrapped(finding.value, f"  {finding.name}")
        if finding.warning is not None:
            lines += _wrapped(finding.warning, "", "! ")
    number = report.warnings
    lines.append(
        "Nothing needs to be changed."
        if not number
        else f"{number} {'property' if number == 1 else 'properties'} should be changed (!)."
    )
    return printable("\n".join(lines))


def _wrapped(text: str, label: str, mark: str = "") -> Iterator[str]:
    indent = " " * (_NAME_WIDTH + 2)
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{label:<{len(indent) - len(mark)}}{mark}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def user(uid: int) -> Finding:
    """Return the finding for a server that runs as ``uid``."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "no name"
    warning = "The server runs as root. Run it as an unprivileged user." if uid == 0 else None
    return Finding("user", f"{uid} ({name})", warning)


def sandbox(settings: Settings, decision: Decision) -> Finding:
    """Return the finding for the isolation of commands, with its guarantees."""
    if decision.kind is None:
        return Finding("sandbox", "unavailable; the server does not start", decision.problem)
    if decision.kind == "none":
        rights = "none: commands have the rights of the server's user and can read its data"
        return Finding("sandbox", rights, decision.problem)
    value = (
        "bubblewrap: commands see the system (read-only), the files of their task and a private "
        "/tmp; they do not see the server's data, processes and variables, or other tasks."
    )
    if os.geteuid() == 0:
        value += f" Each user's commands have a host uid of {settings.sandbox_uids}."
    if settings.agent_paths:
        value += f" Agents also see BERAY_AGENT_PATHS: {settings.agent_paths}"
    return Finding("sandbox", value)


def network(settings: Settings, decision: Decision, state: NetworkState) -> Finding:
    """Return the finding for the network that commands reach."""
    if decision.kind is None:
        return Finding("network", "depends on the sandbox")
    if decision.kind == "none":
        return Finding("network", "commands use the network of the host")
    users = {
        "never": "no task",
        "task": "tasks that request a network",
        "always": "all tasks",
    }[settings.sandbox_network]
    if settings.agent_network and (settings.acp or settings.command):
        users += ", and agents"
    if users == "no task" and not state.allow:
        return Finding("network", "commands have no network")
    if not state.needs_attention:
        return Finding("network", f"{users}: {state}")
    mode = "unavailable" if state.mode == "unavailable" else "network of the host"
    return Finding("network", f"{users}: {mode}", state.reason)


def data_directory(path: Path, reserve_bytes: int) -> Finding:
    """Return the finding for the data directory, which may not exist yet.

    Args:
        path: Data directory.
        reserve_bytes: Size of the space reserve in it.
    """
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        free = free_bytes(existing)
        status = existing.stat()
    except OSError as error:
        problem = f"The data directory cannot be used: {error.strerror}."
        return Finding("data directory", str(path), problem)
    reserved = f", reserve {_size(reserve_bytes)}" if reserve_bytes else ", no reserve"
    value = f"{path} ({_size(free)} free{reserved})"
    warning = None
    if not existing.is_dir():
        warning = f"{existing} is not a directory. Choose another --data-dir."
    elif not os.access(existing, os.R_OK | os.W_OK | os.X_OK):
        warning = f"The server's user cannot write to {existing}. Change its owner, or choose "
        warning += "another --data-dir."
    elif existing == path and status.st_uid != os.geteuid():
        warning = f"The directory belongs to uid {status.st_uid}, which can read and replace its"
        warning += f" files. Run: chown -R {os.geteuid()} {path}"
    elif existing == path and status.st_mode & 0o022:
        warning = f"Other users can write to the directory. Run: chmod go-w {path}"
    elif free < MIN_FREE_BYTES:
        warning = f"Less than {_size(MIN_FREE_BYTES)} is free. Tasks fail when the disk is full."
        warning += " Free some space."
    if existing != path:
        value += "; does not exist yet"
    return Finding("data directory", value, warning)


def secrets(environ: Mapping[str, str]) -> Finding:
    """Return the finding for the server's variables whose values are redacted in events."""
    names = ", ".join(secret_variables(environ))
    if not names:
        return Finding("secrets", "no variable of the server has the name of a secret")
    return Finding("secrets", f"redacted in events: {names}")


def registration(settings: Settings) -> Finding:
    """Return the finding for the addresses that may register."""
    mode = settings.registration_mode
    value = {
        "open": "open to all addresses",
        "domains": f"open to addresses of {', '.join(settings.permitted_domains())}",
        "invite": "by invitation (beray admin invite ADDRESS)",
        "closed": "closed",
    }[mode]
    warning = None
    if mode == "open" and settings.shared:
        warning = (
            "All clients that reach the server can register and run tasks. Set "
            "BERAY_REGISTRATION=invite."
        )
    return Finding("registration", value, warning)


def mail(settings: Settings) -> Finding:
    """Return the finding for the mail server that sends verification codes."""
    host = settings.smtp_host
    if host is None:
        value = f"no mail server; mails are written to {settings.data_dir / 'outbox'}"
        warning = None
        if settings.shared:
            warning = "Users receive no verification codes. Set BERAY_SMTP_HOST."
        return Finding("mail", value, warning)
    value = f"{host}:{settings.smtp_port} ({settings.smtp_security}), from {settings.mail_from}"
    warning = None
    if settings.smtp_security == "none" and not _is_local(host):
        warning = "Codes and the SMTP password are sent unencrypted. Set "
        warning += "BERAY_SMTP_SECURITY=starttls."
    return Finding("mail", value, warning)


def proxy(settings: Settings, url: str) -> Finding:
    """Return the finding for the proxy that adds TLS in front of a shared server."""
    if not settings.shared:
        return Finding("proxy", "none; only this host can reach the server")
    public, trusted = settings.public_url, settings.trusted_proxies
    value = f"public URL {public or 'not set'}, trusted proxies {trusted or 'not set'}"
    warning = None
    if public is None:
        warning = (
            "Set BERAY_PUBLIC_URL to the https URL of a TLS proxy in front of the server; "
            "without one, passwords and files are sent unencrypted."
        )
    elif urlsplit(public).scheme != "https":
        warning = "The public URL does not use https. Put a TLS proxy in front of the server."
    elif not trusted and _is_local(urlsplit(url).hostname or ""):
        warning = (
            "The server sees the address of the proxy as that of every client, so that all clients "
            "share the limits of one. Set BERAY_TRUSTED_PROXIES to the proxy's address."
        )
    return Finding("proxy", value, warning)


def descriptors(found: OpenFiles) -> Finding:
    """Return the finding for the open-file limit."""
    advice = found.advice
    warning = None if advice is None else f"{advice[0].upper()}{advice[1:]}."
    return Finding("open files", str(found), warning)


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
