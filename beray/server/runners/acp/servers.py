"""Selection of the task's MCP servers that an agent can connect to.

Source: ACP, "Session Setup": every agent supports programs; HTTP and SSE are capabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acp.schema import HttpHeader, HttpMcpServer, McpCapabilities, McpServerStdio, SseMcpServer

from beray.server.outbound.policy import ForbiddenDestination, OutboundPolicy
from beray.server.runners.acp.blocks import NAME_CHARACTERS, truncate
from beray.server.runners.mcp.config import McpServer

Server = HttpMcpServer | SseMcpServer | McpServerStdio


class ServerExcluded(Exception):
    """An MCP server is not passed to the agent; the message is the reason."""


async def select_servers(
    servers: Sequence[McpServer],
    capabilities: McpCapabilities | None,
    commands: Mapping[int, list[str]],
    policy: OutboundPolicy,
    *,
    confined: bool,
) -> tuple[list[Server], list[dict[str, Any]]]:
    """Return the servers for the agent, and an event payload for each excluded one.

    Args:
        servers: The task's MCP servers.
        capabilities: Transports that the agent supports.
        commands: Commands that connect to programs, by position in ``servers``.
        policy: Destinations that users' URLs may reach.
        confined: Whether the agent runs in a sandbox with network restrictions of its own.
    """
    accepted: list[Server] = []
    problems: list[dict[str, Any]] = []
    for number, server in enumerate(servers):
        try:
            if server.problem:
                raise ServerExcluded(server.problem)
            if server.url:
                await _check_url(server.url, policy, confined=confined)
                accepted.append(_remote_server(server, capabilities or McpCapabilities()))
            else:
                command, *arguments = commands[number]
                accepted.append(
                    McpServerStdio(name=server.name, command=command, args=arguments, env=[])
                )
        except ServerExcluded as reason:
            name = truncate(server.name, NAME_CHARACTERS)
            message = f"The MCP server {name!r} is not available to the agent: {reason}."
            problems.append({"kind": "mcp", "server": name, "message": message})
    return accepted, problems


async def _check_url(url: str, policy: OutboundPolicy, *, confined: bool) -> None:
    """Check a URL for an agent, which resolves the host and follows redirects itself.

    Both can lead an agent without a sandbox to any address. It may therefore connect to listed
    destinations only.

    Raises:
        ServerExcluded: The policy does not permit the destination.
    """
    if policy.is_unrestricted:
        return
    try:
        if not confined and not policy.is_listed(url):
            raise ServerExcluded(
                "agents without a sandbox connect only to destinations that the server's "
                "operator lists in BERAY_MCP_ALLOW"
            )
        await policy.check(url)
    except ForbiddenDestination as error:
        raise ServerExcluded(str(error)) from None


def _remote_server(server: McpServer, capabilities: McpCapabilities) -> Server:
    headers = [HttpHeader(name=name, value=value) for name, value in server.headers.items()]
    if server.sse:
        if not capabilities.sse:
            raise ServerExcluded("the agent does not support HTTP with SSE")
        return SseMcpServer(type="sse", name=server.name, url=server.url, headers=headers)
    if not capabilities.http:
        raise ServerExcluded("the agent does not support HTTP")
    return HttpMcpServer(type="http", name=server.name, url=server.url, headers=headers)
