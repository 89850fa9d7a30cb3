"""Policy for a task's MCP servers: which of them this server admits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import structlog

from beray.server.runners.mcp import operators
from beray.server.runners.mcp.config import McpServer, parse
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

log = structlog.get_logger("beray.mcp")


def admit_servers(
    tools: Iterable[Any] | None, settings: Settings, sandbox: Sandbox
) -> list[McpServer]:
    """Return the MCP servers of ``Job.tools``; those of the operator have their commands.

    Servers that are not admitted have a ``problem``. URLs are checked by ``OutboundPolicy`` at
    the time of the connection.
    """
    return [_admit(server, settings, sandbox) for server in parse(tools)]


def _admit(server: McpServer, settings: Settings, sandbox: Sandbox) -> McpServer:
    if server.problem:
        return server
    if server.server:
        return _with_operator_command(server, settings)
    if server.command:
        return replace(server, problem=_user_program_problem(settings, sandbox))
    return server


def _with_operator_command(server: McpServer, settings: Settings) -> McpServer:
    try:
        programs = operators.load(settings.mcp_servers)
    except operators.McpServersFileError as error:
        log.error("named MCP servers are not available", reason=str(error))
        problem = "this server's list of MCP servers cannot be used; its log has the reason"
        return replace(server, problem=problem)
    program = programs.get(server.server)
    if program is None:
        known = f"it has {', '.join(sorted(programs))}" if programs else "it has none"
        problem = f"this server has no MCP server named {server.server!r}; {known}"
        return replace(server, problem=f"{problem} (BERAY_MCP_SERVERS)")
    command = (program.command, *program.args)
    return replace(server, command=command, env=program.env, is_operators=True)


def _user_program_problem(settings: Settings, sandbox: Sandbox) -> str:
    if not settings.mcp_stdio:
        return (
            "this server does not run MCP programs that users supply (BERAY_MCP_STDIO is not "
            'set); name one that its operator defines: {"server": "…"}'
        )
    if sandbox.kind == "none" and settings.shared:
        return (
            "this server does not run MCP programs that users supply, because it is shared and "
            'has no sandbox; name one that its operator defines: {"server": "…"}'
        )
    return ""
