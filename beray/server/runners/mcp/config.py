"""MCP servers as ``tools`` of a task describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

_URL_CHARACTERS: Final = re.compile(r"[!-\[\]-~]+")
"""URLs with other characters have different hosts in different programs: an agent that follows
the WHATWG URL standard takes ``\\`` for ``/``, and full-width digits for digits."""
_RESERVED_HEADERS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade"}
)
"""Headers of the connection. With ``Host``, a user could address any virtual host behind a
destination that the operator allows."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class McpServer:
    """One MCP server. Exactly one of ``url``, ``command`` and ``server`` is set.

    Attributes:
        sse: Whether the URL is spoken to by HTTP with SSE (protocol 2024-11-05).
        command: Program and arguments.
        server: Name of a program that the operator has defined.
        is_operators: Whether the operator has defined the program. It then runs with the rights
            of the server, otherwise in the task's sandbox.
        problem: Why the server cannot be used, empty if it can.
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

    def safe(self, text: str) -> str:
        """Return ``text`` on one line of at most 300 characters, without credentials."""
        return " ".join(self.without_secrets(text).split())[:300]

    def without_secrets(self, text: str) -> str:
        for secret in self._secrets():
            text = text.replace(secret, "…")
        return text

    def _secrets(self) -> list[str]:
        values = [*self.headers.values(), *self.env.values()]
        # In "Bearer …", what follows the scheme is the secret.
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
            servers += [_server(str(name), given) for name, given in entry.items()]
        else:
            servers.append(McpServer("?", problem='it is not of the form {"name": {"url": "…"}}'))
    return servers


def _server(name: str, given: object) -> McpServer:
    if not isinstance(given, Mapping):
        return McpServer(name, problem="it is not described by an object")
    kinds = [kind for kind in ("url", "command", "server") if given.get(kind) is not None]
    if len(kinds) != 1:
        return McpServer(name, problem="exactly one of url, command and server is required")
    match kinds[0]:
        case "url":
            return _remote(name, given)
        case "command":
            return _program(name, given)
    server = given["server"]
    extra = sorted(map(str, set(given) - {"server"}))
    if not isinstance(server, str) or not server:
        return McpServer(name, problem=f"server must be the name of a server, got {server!r}")
    if extra:
        problem = f"server cannot be combined with {', '.join(extra)}; the operator defines them"
        return McpServer(name, problem=problem)
    return McpServer(name, server=server)


def _remote(name: str, given: Mapping[str, Any]) -> McpServer:
    url, headers = given["url"], given.get("headers") or {}
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises if it is out of range
    except ValueError:
        valid = False
    if not valid:
        return McpServer(name, problem="its url must begin with http:// or https:// and a host")
    if not _URL_CHARACTERS.fullmatch(url):
        problem = "its url must be ASCII without spaces and backslashes; encode other characters"
        return McpServer(name, problem=problem)
    if not _strings(headers):
        return McpServer(name, problem="its headers must map names to strings")
    if reserved := [header for header in headers if header.lower() in _RESERVED_HEADERS]:
        return McpServer(
            name, problem=f"its header {reserved[0]!r} cannot be set: it follows from the url"
        )
    sse = given.get("type", given.get("transport")) == "sse"
    return McpServer(name, url=url, headers=dict(headers), sse=sse)


def _program(name: str, given: Mapping[str, Any]) -> McpServer:
    command, arguments, env = given["command"], given.get("args") or [], given.get("env") or {}
    words = [command, *arguments] if isinstance(arguments, list) else []
    strings = [word for word in words if isinstance(word, str) and "\0" not in word]
    if not strings or len(strings) != len(words) or not strings[0]:
        return McpServer(name, problem="its command and args must be strings")
    if strings[0].startswith("-"):
        return McpServer(name, problem=f"its command must not begin with '-', got {command!r}")
    if not _strings(env) or any("\0" in value for value in env.values()):
        return McpServer(name, problem="its env must map names to strings")
    for variable in env:
        if not _VARIABLE.fullmatch(variable):
            problem = f"env has the name {variable!r}; use letters, digits and underscores"
            return McpServer(name, problem=problem)
    return McpServer(name, command=tuple(strings), env=dict(env))


def _strings(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(key, str) and key and isinstance(value, str) for key, value in values.items()
    )
