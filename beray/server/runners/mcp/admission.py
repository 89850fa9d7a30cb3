"""Admission of a task's MCP servers: which of them may be used on this server."""

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


def admitted(tools: Iterable[Any] | None, settings: Settings, sandbox: Sandbox) -> list[McpServer]:
    """Return the MCP servers of ``Job.tools``, those of the operator with their commands.

    Servers that may not be used have a ``problem``. Whether URLs are permitted is decided by
    ``OutboundPolicy`` when they are connected to.
    """
    return [_admitted(server, settings, sandbox) for server in parse(tools)]


def _admitted(server: McpServer, settings: Settings, sandbox: Sandbox) -> McpServer:
    if server.problem:
        return server
    if server.server:
        return _operators(server, settings)
    if server.command:
        return replace(server, problem=_problem_of_program(settings, sandbox))
    return server


def _operators(server: McpServer, settings: Settings) -> McpServer:
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


def _problem_of_program(settings: Settings, sandbox: Sandbox) -> str:
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
