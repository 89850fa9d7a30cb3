"""Start of MCP servers that are programs."""

from __future__ import annotations

from asyncio.subprocess import Process
from contextlib import AbstractAsyncContextManager

from beray.server.runners.base import Job
from beray.server.runners.mcp.config import McpServer
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings


def running_program(
    server: McpServer, job: Job, settings: Settings, sandbox: Sandbox
) -> AbstractAsyncContextManager[Process]:
    """Return a context manager that runs the program of ``server``, connected by pipes.

    A program of the operator has the rights of the server. A program that a user supplies runs
    in the task's sandbox with the task's network policy; on personal servers it may use the
    network unless ``BERAY_SANDBOX_NETWORK`` is ``never``.
    """
    command, environ = list(server.command), dict(server.env)
    if server.is_operators:
        return sandbox.program(command, job.work_dir, environ)
    network = job.network or not settings.shared
    return sandbox.user_program(command, job.work_dir, environ, network=network)
