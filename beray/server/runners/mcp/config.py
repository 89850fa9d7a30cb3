"""Parser for the MCP servers in ``tools`` of a task."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")
"""Characters of acceptable URLs. Programs disagree about the host of URLs with others: parsers
that follow the WHATWG URL standard treat ``\\`` as ``/``, and full-width digits as digits."""
_RESERVED_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade"}
)
"""Headers of the connection. With ``Host``, a user could address any virtual host at a
destination that the operator allows."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class McpServer:
    """One MCP server. Exactly one of ``url``, ``command`` and ``server`` is set.

    Attributes:
        name: Name of the server in ``tools``.
        url: URL of a remote server.
        headers: HTTP headers for requests to ``url``.
        sse: Whether the transport is HTTP with SSE (protocol 2024-11-05).
        command: Program and arguments.
        env: Environment variables of the program.
        server: Name of a program that the operator has defined.
        is_operators: Whether the operator has defined the program. It then runs with the rights
            of the server, otherwise in the task's sandbox.
        problem: Reason why the server cannot be used, empty if it can.
    """

    name: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sse: bool = False
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    server: str = ""
    is_operators: bool = False
    problem: str = ""

    def redacted_line(self, text: str) -> str:
        """Return ``text`` on one line of at most 300 characters, without credentials."""
        return " ".join(self.redacted(text).split())[:300]

    def redacted(self, text: str) -> str:
        """Return ``text`` with the server's credentials replaced by ``…``."""
        for secret in self._secrets():
            text = text.replace(secret, "…")
        return text

    def _secrets(self) -> list[str]:
        values = [*self.headers.values(), *self.env.values()]
        # In "Bearer …", the secret follows the scheme.
        values += [part for value in values for part in value.split()[1:]]
        secrets = [value for value in values if len(value) >= 4]
        if self.url:
            parts = urlsplit(self.url)
            secrets += [self.url, *filter(None, (parts.query, parts.password))]
        return sorted(secrets, key=len, reverse=True)


def parse(tools: Iterable[Any] | None) -> list[McpServer]:
    """Return the servers in ``Job.tools``, in order; invalid ones have a ``problem``."""
    servers: list[McpServer] = []
    for entry in tools or ():
        if isinstance(entry, Mapping) and entry:
            servers += [_server(str(name), options) for name, options in entry.items()]
        else:
            problem = 'its entry in tools does not have the form {"name": {"url": "…"}}'
            servers.append(McpServer("?", problem=problem))
    return servers


def _server(name: str, options: object) -> McpServer:
    if not isinstance(options, Mapping):
        return McpServer(name, problem="it is not described by an object")
    kinds = [kind for kind in ("url", "command", "server") if options.get(kind) is not None]
    if len(kinds) != 1:
        return McpServer(name, problem="exactly one of url, command and server is required")
    match kinds[0]:
        case "url":
            return _remote(name, options)
        case "command":
            return _program(name, options)
    server = options["server"]
    extra = sorted(map(str, set(options) - {"server"}))
    if not isinstance(server, str) or not server:
        return McpServer(name, problem=f"server must be the name of a server, got {server!r}")
    if extra:
        problem = f"server cannot be combined with {', '.join(extra)}; the operator defines them"
        return McpServer(name, problem=problem)
    return McpServer(name, server=server)


def _remote(name: str, options: Mapping[str, Any]) -> McpServer:
    url, headers = options["url"], options.get("headers") or {}
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises ValueError if out of range
    except ValueError:
        valid = False
    if not valid:
        return McpServer(
            name, problem="its url must begin with http:// or https://, followed by a host"
        )
    if not _URL_CHARACTERS.fullmatch(url):
        problem = "its url must be ASCII without spaces and backslashes; encode other characters"
        return McpServer(name, problem=problem)
    if not _strings(headers):
        return McpServer(name, problem="its headers must map names to strings")
    if reserved := [header for header in headers if header.lower() in _RESERVED_HEADERS]:
        return McpServer(
            name, problem=f"its header {reserved[0]!r} cannot be set; it is derived from the url"
        )
    sse = options.get("type", options.get("transport")) == "sse"
    return McpServer(name, url=url, headers=dict(headers), sse=sse)


def _program(name: str, options: Mapping[str, Any]) -> McpServer:
    command, arguments = options["command"], options.get("args") or []
    env = options.get("env") or {}
    command_line = [command, *arguments] if isinstance(arguments, list) else []
    strings = [item for item in command_line if isinstance(item, str) and "\0" not in item]
    if not strings or len(strings) != len(command_line) or not strings[0]:
        return McpServer(name, problem="its command and args must be strings without NUL")
    if strings[0].startswith("-"):
        return McpServer(name, problem=f"its command must not begin with '-', got {command!r}")
    if not _strings(env) or any("\0" in value for value in env.values()):
        return McpServer(name, problem="its env must map names to strings")
    for variable in env:
        if not _VARIABLE.fullmatch(variable):
            problem = (
                f"its env has the invalid name {variable!r}; use letters, digits and underscores"
            )
            return McpServer(name, problem=problem)
    return McpServer(name, command=tuple(strings), env=dict(env))


def _strings(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(key, str) and key and isinstance(value, str) for key, value in values.items()
    )
