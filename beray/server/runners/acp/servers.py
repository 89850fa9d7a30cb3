"""The task's MCP servers, for an agent to connect to.

Source: ACP, "Session Setup": every agent can start programs; HTTP and SSE only where it says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acp.schema import (
    EnvVariable,
    HttpHeader,
    HttpMcpServer,
    McpCapabilities,
    McpServerStdio,
    SseMcpServer,
)

from beray.server.runners.acp.bounded import NAME_CHARACTERS, cut

Server = HttpMcpServer | SseMcpServer | McpServerStdio


class LeftOut(Exception):
    """A server cannot be given to the agent; the text says why."""


def for_agent(
    tools: list[dict[str, Any]] | None, can: McpCapabilities | None, *, stdio: bool
) -> tuple[list[Server], list[dict[str, Any]]]:
    """Return the servers for the agent, and for each that is left out what the log says.

    ``stdio``: whether the owner of the server lets tasks start programs.
    """
    servers: list[Server] = []
    left_out: list[dict[str, Any]] = []
    for name, told in _named(tools):
        try:
            servers.append(_server(name, told, can or McpCapabilities(), stdio=stdio))
        except LeftOut as reason:
            name = cut(name, NAME_CHARACTERS)
            said = f"The agent goes without MCP server {name!r}: {reason}."
            left_out.append({"kind": "mcp", "server": name, "message": said})
    return servers, left_out


def _named(tools: list[dict[str, Any]] | None) -> Iterator[tuple[str, Any]]:
    for tool in tools or []:
        yield from tool.items()


def _server(name: str, told: Any, can: McpCapabilities, *, stdio: bool) -> Server:
    if not isinstance(told, dict):
        raise LeftOut("it is not described by an object")
    if isinstance(url := told.get("url"), str):
        pairs = _texts(told.get("headers"), "headers")
        headers = [HttpHeader(name=key, value=value) for key, value in pairs.items()]
        if told.get("type", told.get("transport")) == "sse":
            if not can.sse:
                raise LeftOut("it cannot reach servers by SSE")
            return SseMcpServer(type="sse", name=name, url=url, headers=headers)
        if not can.http:
            raise LeftOut("it cannot reach servers by HTTP")
        return HttpMcpServer(type="http", name=name, url=url, headers=headers)
    if not isinstance(command := told.get("command"), str):
        raise LeftOut("it has neither a url nor a command")
    if not stdio:
        raise LeftOut("tasks may not start programs on this server (BERAY_MCP_STDIO)")
    arguments = told.get("args") or []
    if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
        raise LeftOut("its args are not a list of texts")
    environ = _texts(told.get("env"), "env")
    variables = [EnvVariable(name=key, value=value) for key, value in environ.items()]
    return McpServerStdio(name=name, command=command, args=arguments, env=variables)


def _texts(told: Any, what: str) -> dict[str, str]:
    if told is None:
        return {}
    if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
        raise LeftOut(f"its {what} are not names with texts")
    return told
