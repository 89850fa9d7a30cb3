"""Handler of an agent's requests: permissions, files, terminals.

Source: ACP, the methods of a client.
"""

from __future__ import annotations

from typing import Any

from acp import RequestError
from acp.schema import (
    CreateTerminalRequest,
    CreateTerminalResponse,
    EnvVariable,
    KillTerminalResponse,
    PermissionOption,
    ReadTextFileResponse,
    ReleaseTerminalResponse,
    RequestPermissionResponse,
    TerminalOutputResponse,
    ToolCallUpdate,
    WaitForTerminalExitResponse,
    WriteTextFileResponse,
)
from starlette.concurrency import run_in_threadpool

from beray.events import MsgEventCustomUpdate
from beray.server.runners.acp.files import TaskFiles
from beray.server.runners.acp.permissions import Permissions, Policy, permission_response
from beray.server.runners.acp.terminals import AgentTerminals
from beray.server.runners.acp.tool_calls import ToolCalls
from beray.server.runners.base import Sink


class AgentRequests:
    """Handler of the requests of one session. Implements ``acp.Client``.

    A method that fails raises ``acp.RequestError``, which is sent to the agent as an error
    response.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        policy: Policy,
        permissions: Permissions,
        files: TaskFiles,
        terminals: AgentTerminals,
        calls: ToolCalls,
    ) -> None:
        self._sink = sink
        self._policy: Policy = policy
        self._permissions = permissions
        self._files = files
        self._terminals = terminals
        self._calls = calls

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption]
    ) -> RequestPermissionResponse:
        """Decide on a tool call and log the decision."""
        call = self._calls.describe(tool_call)
        verdict = await run_in_threadpool(self._permissions.decide, call)
        response = permission_response(self._policy, verdict.allowed, options)
        allowed = verdict.allowed and response.outcome.outcome == "selected"
        reason = verdict.reason
        if verdict.allowed and not allowed:
            reason = "the agent offers no permission for a single call"
        payload = {
            "kind": "permission",
            "message": f"{'Allowed' if allowed else 'Denied'}: {call.name} ({reason})",
            "allowed": allowed,
            "call_id": call.call_id,
        }
        await self._sink.emit(MsgEventCustomUpdate(payload=payload))
        return response

    async def read_text_file(
        self, session_id: str, path: str, line: int | None = None, limit: int | None = None
    ) -> ReadTextFileResponse:
        """Return the text of a file, or ``limit`` lines from ``line`` on."""
        content = await run_in_threadpool(self._files.read, path, line, limit)
        return ReadTextFileResponse(content=content)

    async def write_text_file(
        self, session_id: str, path: str, content: str
    ) -> WriteTextFileResponse:
        """Replace the content of a file."""
        await run_in_threadpool(self._files.write, path, content)
        return WriteTextFileResponse()

    async def create_terminal(
        self,
        session_id: str,
        command: str,
        args: list[str] | None = None,
        env: list[EnvVariable] | None = None,
        cwd: str | None = None,
        output_byte_limit: int | None = None,
    ) -> CreateTerminalResponse:
        """Start a command."""
        request = CreateTerminalRequest(
            session_id=session_id,
            command=command,
            args=args,
            env=env,
            cwd=cwd,
            output_byte_limit=output_byte_limit,
        )
        return CreateTerminalResponse(terminal_id=self._terminals.create(request))

    async def terminal_output(self, session_id: str, terminal_id: str) -> TerminalOutputResponse:
        """Return the output so far, and the exit status if the command has ended."""
        terminal = self._terminals.get(terminal_id)
        status = terminal.status if terminal.ended else None
        return TerminalOutputResponse(
            output=terminal.output(), truncated=terminal.truncated, exit_status=status
        )

    async def wait_for_terminal_exit(
        self, session_id: str, terminal_id: str
    ) -> WaitForTerminalExitResponse:
        """Wait until the command has ended and return its exit status."""
        terminal = self._terminals.get(terminal_id)
        await terminal.wait()
        status = terminal.status
        return WaitForTerminalExitResponse(exit_code=status.exit_code, signal=status.signal)

    async def kill_terminal(self, session_id: str, terminal_id: str) -> KillTerminalResponse:
        """Kill the command; its output remains available."""
        await self._terminals.get(terminal_id).kill()
        return KillTerminalResponse()

    async def release_terminal(self, session_id: str, terminal_id: str) -> ReleaseTerminalResponse:
        """Kill the command if it runs, and discard the terminal."""
        await self._terminals.release(terminal_id)
        return ReleaseTerminalResponse()

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Reject an extension method of the agent."""
        raise RequestError.method_not_found(f"_{method}")

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """Ignore an extension notification of the agent."""
