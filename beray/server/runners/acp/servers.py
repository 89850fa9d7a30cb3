"""The task's MCP servers, for an agent to connect to.

Source: ACP, "Session Setup": every agent can start programs; HTTP and SSE only where it says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acp.schema import HttpHeader, HttpMcpServer, McpCapabilities, McpServerStdio, SseMcpServer

from beray.server.outbound.policy import ForbiddenDestination, OutboundPolicy
from beray.server.runners.acp.bounded import NAME_CHARACTERS, cut
from beray.server.runners.mcp.config import McpServer

Server = HttpMcpServer | SseMcpServer | McpServerStdio


class LeftOut(Exception):
    """A server cannot be given to the agent; the message says why."""


async def for_agent(
    servers: Sequence[McpServer],
    can: McpCapabilities | None,
    commands: Mapping[int, list[str]],
    policy: OutboundPolicy,
    *,
    confined: bool,
) -> tuple[list[Server], list[dict[str, Any]]]:
    """Return the servers for the agent, and for each that is left out the event's payload.

    Args:
        can: Kinds of servers that the agent connects to.
        commands: Commands that connect to programs, by position in ``servers``.
        policy: Destinations that users' URLs may reach.
        confined: Whether the agent runs in a sandbox with network restrictions of its own.
    """
    given: list[Server] = []
    left_out: list[dict[str, Any]] = []
    for number, server in enumerate(servers):
        try:
            if server.problem:
                raise LeftOut(server.problem)
            if server.url:
                await _check(server.url, policy, confined=confined)
                given.append(_remote(server, can or McpCapabilities()))
            else:
                command, *arguments = commands[number]
                given.append(
                    McpServerStdio(name=server.name, command=command, args=arguments, env=[])
                )
        except LeftOut as reason:
            name = cut(server.name, NAME_CHARACTERS)
            message = f"The agent goes without MCP server {name!r}: {reason}."
            left_out.append({"kind": "mcp", "server": name, "message": message})
    return given, left_out


async def _check(url: str, policy: OutboundPolicy, *, confined: bool) -> None:
    """Check a URL that the agent connects to: it resolves the host and follows redirects itself.

    An agent that nothing confines could be led to any address by both, so it is given listed
    destinations only.
    """
    if policy.is_unrestricted:
        return
    try:
        if not confined and not policy.is_listed(url):
            raise LeftOut(
                "agents without a sandbox connect only to destinations that the server's "
                "operator lists in BERAY_MCP_ALLOW"
            )
        await policy.check(url)
    except ForbiddenDestination as error:
        raise LeftOut(str(error)) from None


def _remote(server: McpServer, can: McpCapabilities) -> Server:
    headers = [HttpHeader(name=name, value=value) for name, value in server.headers.items()]
    if server.sse:
        if not can.sse:
            raise LeftOut("the agent cannot reach servers by SSE")
        return SseMcpServer(type="sse", name=server.name, url=server.url, headers=headers)
    if not can.http:
        raise LeftOut("the agent cannot reach servers by HTTP")
    return HttpMcpServer(type="http", name=server.name, url=server.url, headers=headers)
