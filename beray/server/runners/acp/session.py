"""Client side of one session with an agent.

Source: ACP, "Initialization", "Session Setup", "Prompt Turn".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, cast

from acp import AGENT_METHODS, PROTOCOL_VERSION, Client, RequestError, connect_to_agent, text_block
from acp.schema import (
    AcpMcpServer,
    ClientCapabilities,
    FileSystemCapabilities,
    HttpMcpServer,
    Implementation,
    InitializeResponse,
    McpServerStdio,
    PromptResponse,
    SseMcpServer,
)
from pydantic import ValidationError

from beray.server.runners.acp.blocks import NAME_CHARACTERS, truncate
from beray.server.runners.acp.client import AgentRequests
from beray.server.runners.acp.servers import Server
from beray.server.runners.acp.wire import AgentFault, AgentTransport, RunAbort
from beray.version import __version__

_AUTH_REQUIRED: Final = -32000
_ERROR_CHARACTERS: Final = 2000

T = TypeVar("T")


class AgentSession:
    """Session with an agent.

    Every method raises ``AgentFault`` if the agent fails, or the exception with which the run is
    aborted meanwhile.

    Args:
        transport: Connection to the agent.
        abort: Signal that aborts the run.
        requests: Handler of the agent's requests.
        answer_seconds: Timeout of all requests except for the prompt.
    """

    def __init__(
        self,
        *,
        transport: AgentTransport,
        abort: RunAbort,
        requests: AgentRequests,
        answer_seconds: float,
    ) -> None:
        self._transport = transport
        self._abort = abort
        self._answer_seconds = answer_seconds
        self._connection = connect_to_agent(cast(Client, requests), transport)
        self._agent: InitializeResponse | None = None
        self._session_id: str | None = None

    async def initialize(self) -> InitializeResponse:
        """Exchange versions and capabilities with the agent, and return the agent's."""
        capabilities = ClientCapabilities(
            fs=FileSystemCapabilities(read_text_file=True, write_text_file=True), terminal=True
        )
        info = Implementation(name="beray", title="BeRay", version=__version__)
        request = self._connection.initialize(
            protocol_version=PROTOCOL_VERSION, client_capabilities=capabilities, client_info=info
        )
        agent = await self._response(request, "initialize", self._answer_seconds)
        if agent.protocol_version != PROTOCOL_VERSION:
            raise AgentFault(
                f"uses version {agent.protocol_version} of the Agent Client Protocol; "
                f"this server supports version {PROTOCOL_VERSION}"
            )
        self._agent = agent
        return agent

    async def open(self, cwd: str, servers: list[Server]) -> None:
        """Open the session in the directory ``cwd`` with MCP servers."""
        typed = cast("list[HttpMcpServer | SseMcpServer | AcpMcpServer | McpServerStdio]", servers)
        request = self._connection.new_session(cwd=cwd, mcp_servers=typed)
        session = await self._response(request, "session/new", self._answer_seconds)
        self._session_id = session.session_id

    async def prompt(self, goal: str) -> PromptResponse:
        """Send the goal and wait until the agent stops.

        If cancelled, notify the agent and do not wait for its response.
        """
        assert self._session_id is not None
        request = self._connection.prompt(session_id=self._session_id, prompt=[text_block(goal)])
        try:
            return await self._response(request, "session/prompt", None)
        except asyncio.CancelledError:
            self._transport.send_now(
                {
                    "jsonrpc": "2.0",
                    "method": AGENT_METHODS["session_cancel"],
                    "params": {"sessionId": self._session_id},
                }
            )
            raise

    async def close(self) -> None:
        """Stop reading messages, without answering the agent's pending requests."""
        await self._connection.close()

    async def _response(
        self, request: Coroutine[Any, Any, T], method: str, seconds: float | None
    ) -> T:
        task = asyncio.ensure_future(request)
        aborted = self._abort.error
        both: set[asyncio.Future[Any]] = {task, aborted}
        try:
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if aborted.done():
                raise aborted.result()
            if not task.done():
                raise AgentFault(f"did not respond to {method} within {seconds:g} s")
            return task.result()
        except ConnectionError:
            # The transport reports its failures through ``abort``. Otherwise the agent exited.
            if aborted.done():
                raise aborted.result() from None
            raise AgentFault("exited without finishing its answer") from None
        except ValidationError:
            raise AgentFault(f"sent an invalid response to {method}") from None
        except RequestError as error:
            raise AgentFault(self._rejection(error, method)) from None
        finally:
            # Retrieve an exception that is not raised here; asyncio would log it otherwise.
            task.cancel()
            task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _rejection(self, error: RequestError, method: str) -> str:
        if error.code == _AUTH_REQUIRED:
            methods = (self._agent and self._agent.auth_methods) or []
            names = ", ".join(truncate(item.name, NAME_CHARACTERS) for item in methods[:10])
            options = f" (available: {names})" if names else ""
            return (
                f"requires sign-in{options}. Sign in to that program once, as the server's user, "
                "and list the directory of its settings in BERAY_AGENT_PATHS; or set its API key "
                "in a variable and list that in BERAY_AGENT_ENV"
            )
        message = str(error)
        if error.data is not None:
            data = error.data
            details = data if isinstance(data, str) else json.dumps(data, default=str)
            message = f"{message}: {details}"
        return f"rejected {method}: {truncate(message, _ERROR_CHARACTERS)}"
