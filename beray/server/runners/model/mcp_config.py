"""What a task says about its MCP servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class McpServer:
    """One server. ``problem`` says why it cannot even be tried.

    Attributes:
        command: the program and its arguments; empty where ``url`` is given.
    """

    name: str
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    problem: str = ""

    def safe(self, text: str) -> str:
        """``text`` in one line of bounded length, without what only the server should know."""
        for secret in self._secrets():
            text = text.replace(secret, "…")
        return " ".join(text.split())[:300]

    def _secrets(self) -> list[str]:
        values = [*self.headers.values(), *self.env.values()]
        # A header's scheme, as in "Bearer …", says nothing; what follows does.
        values += [part for value in values for part in value.split()[1:]]
        secrets = [value for value in values if len(value) >= 4]
        if self.url:
            parts = urlsplit(self.url)
            secrets += [self.url, *filter(None, (parts.query, parts.password))]
        return sorted(secrets, key=len, reverse=True)


def parse(tools: Iterable[Any] | None) -> list[McpServer]:
    """The servers in ``Job.tools``, in order. What is wrong with one is in its ``problem``."""
    servers: list[McpServer] = []
    for entry in tools or ():
        if isinstance(entry, Mapping) and entry:
            servers += [_server(str(name), said) for name, said in entry.items()]
        else:
            servers.append(McpServer("?", problem='it is not of the form {"name": {"url": "…"}}'))
    return servers


def _server(name: str, said: object) -> McpServer:
    if not isinstance(said, Mapping):
        return McpServer(name, problem="it says neither a url nor a command")
    url, command = said.get("url"), said.get("command")
    if (url is None) == (command is None):
        return McpServer(name, problem="give it either a url or a command")
    if url is not None:
        headers = said.get("headers") or {}
        if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
            return McpServer(name, problem="its url does not begin with http:// or https://")
        if not _texts(headers):
            return McpServer(name, problem="its headers are not names and texts")
        return McpServer(name, url=url, headers=dict(headers))
    arguments, env = said.get("args") or [], said.get("env") or {}
    words = [command, *arguments] if isinstance(arguments, list) else []
    texts = [word for word in words if isinstance(word, str) and "\0" not in word]
    if not texts or len(texts) != len(words) or not texts[0]:
        return McpServer(name, problem="its command and args are not texts")
    if not _texts(env) or any("\0" in f"{key}{value}" or "=" in key for key, value in env.items()):
        return McpServer(name, problem="its env is not names and texts")
    return McpServer(name, command=tuple(texts), env=dict(env))


def _texts(values: object) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(key, str) and key and isinstance(value, str) for key, value in values.items()
    )
