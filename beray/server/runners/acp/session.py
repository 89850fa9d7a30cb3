"""Our side of one session: introduced, opened, prompted, closed.

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

from beray.server.runners.acp.bounded import NAME_CHARACTERS, cut
from beray.server.runners.acp.client import AgentRequests
from beray.server.runners.acp.servers import Server
from beray.server.runners.acp.wire import AgentFault, Breaks, Wire
from beray.version import __version__

_AUTH_REQUIRED: Final = -32000
_ERROR_CHARACTERS: Final = 2000

T = TypeVar("T")


class AgentSession:
    """What we ask of an agent. ``answer_seconds`` binds all but the prompt.

    Every method raises ``AgentFault`` where the agent cannot do it, and whatever broke the
    run elsewhere meanwhile.
    """

    def __init__(
        self, wire: Wire, breaks: Breaks, requests: AgentRequests, answer_seconds: float
    ) -> None:
        self._wire = wire
        self._breaks = breaks
        self._answer_seconds = answer_seconds
        self._connection = connect_to_agent(cast(Client, requests), wire)
        self._agent: InitializeResponse | None = None
        self._session_id: str | None = None

    async def introduce(self) -> InitializeResponse:
        """Say who we are and what we can do; return who the agent is."""
        can = ClientCapabilities(
            fs=FileSystemCapabilities(read_text_file=True, write_text_file=True), terminal=True
        )
        me = Implementation(name="beray", title="BeRay", version=__version__)
        asked = self._connection.initialize(
            protocol_version=PROTOCOL_VERSION, client_capabilities=can, client_info=me
        )
        agent = await self._answer(asked, "initialize", self._answer_seconds)
        if agent.protocol_version != PROTOCOL_VERSION:
            raise AgentFault(
                f"speaks version {agent.protocol_version} of the Agent Client Protocol, "
                f"and this server version {PROTOCOL_VERSION}"
            )
        self._agent = agent
        return agent

    async def open(self, cwd: str, servers: list[Server]) -> None:
        """Begin the session in the folder ``cwd``, with MCP servers."""
        given = cast("list[HttpMcpServer | SseMcpServer | AcpMcpServer | McpServerStdio]", servers)
        asked = self._connection.new_session(cwd=cwd, mcp_servers=given)
        session = await self._answer(asked, "session/new", self._answer_seconds)
        self._session_id = session.session_id

    async def prompt(self, goal: str) -> PromptResponse:
        """Give the goal; return when the agent stops.

        Cancelled, it tells the agent and does not wait for what it makes of that.
        """
        assert self._session_id is not None
        asked = self._connection.prompt(session_id=self._session_id, prompt=[text_block(goal)])
        try:
            return await self._answer(asked, "session/prompt", None)
        except asyncio.CancelledError:
            self._wire.send_now(
                {
                    "jsonrpc": "2.0",
                    "method": AGENT_METHODS["session_cancel"],
                    "params": {"sessionId": self._session_id},
                }
            )
            raise

    async def close(self) -> None:
        """Read nothing more, and leave the agent's open requests."""
        await self._connection.close()

    async def _answer(self, asked: Coroutine[Any, Any, T], method: str, seconds: float | None) -> T:
        task = asyncio.ensure_future(asked)
        broken = self._breaks.first
        both: set[asyncio.Future[Any]] = {task, broken}
        try:
            await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if broken.done():
                raise broken.result()
            if not task.done():
                raise AgentFault(f"did not answer {method} within {seconds:g} s")
            return task.result()
        except ConnectionError:
            # What broke the wire is known by now; an agent that merely ends is not among it.
            if broken.done():
                raise broken.result() from None
            raise AgentFault("ended before it was done") from None
        except ValidationError:
            raise AgentFault(f"answered {method} with something else") from None
        except RequestError as error:
            raise AgentFault(self._refused(error, method)) from None
        finally:
            # Its own exception, where we are not the ones to raise it, is retrieved.
            task.cancel()
            task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _refused(self, error: RequestError, method: str) -> str:
        if error.code == _AUTH_REQUIRED:
            methods = (self._agent and self._agent.auth_methods) or []
            names = ", ".join(cut(item.name, NAME_CHARACTERS) for item in methods[:10])
            ways = f" (it offers: {names})" if names else ""
            return (
                f"wants to be signed in{ways}. Sign in with that program once, as the server's "
                "user, and name the folder of its settings in BERAY_AGENT_PATHS; or give it a "
                "key by a variable that BERAY_AGENT_ENV names"
            )
        said = str(error)
        if error.data is not None:
            data = error.data
            details = data if isinstance(data, str) else json.dumps(data, default=str)
            said = f"{said}: {details}"
        return f"refused {method}: {cut(said, _ERROR_CHARACTERS)}"
