"""Agent that uses the package ``agent-client-protocol``, like agents of other projects.

Its messages therefore conform to the package's interpretation of the protocol. For each prompt,
it sends every request that clients support, and then the responses as JSON text.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import acp
from acp import schema


class PackagedAgent:
    """Agent with one session."""

    def on_connect(self, client: Any) -> None:
        self.client = client

    async def initialize(
        self, protocol_version: int, client_capabilities: Any = None, **_: Any
    ) -> schema.InitializeResponse:
        self.can = client_capabilities
        return schema.InitializeResponse(
            protocol_version=protocol_version,
            agent_capabilities=schema.AgentCapabilities(
                mcp_capabilities=schema.McpCapabilities(http=True)
            ),
            auth_methods=[schema.AuthMethodAgent(id="browser", name="Sign in with a browser")],
        )

    async def new_session(
        self, cwd: str, mcp_servers: Any = None, **_: Any
    ) -> schema.NewSessionResponse:
        self.cwd, self.servers = cwd, mcp_servers
        return schema.NewSessionResponse(session_id="s1")

    async def prompt(self, session_id: str, prompt: Any, **_: Any) -> schema.PromptResponse:
        goal = prompt[0].text
        if goal == "refuse":
            raise acp.RequestError(-32603, "no quota", {"details": "quota"})
        await self.update(acp.update_agent_thought_text("hm"))
        await self.update(acp.update_plan([acp.plan_entry("look", status="completed")]))
        call = acp.start_tool_call("t1", "Edit in.txt", kind="edit", raw_input={"path": "in.txt"})
        await self.update(call)
        responses = {"goal": goal, "cwd": self.cwd, **await self.responses()}
        diff = acp.tool_diff_content(path=f"{self.cwd}/out.txt", new_text="written")
        await self.update(acp.update_tool_call("t1", status="completed", content=[diff]))
        await self.update(acp.update_agent_message_text(json.dumps(responses)))
        usage = schema.Usage(total_tokens=12, input_tokens=10, output_tokens=2)
        return schema.PromptResponse(stop_reason="end_turn", usage=usage)

    async def cancel(self, session_id: str, **_: Any) -> None:
        """Ignore the cancellation."""

    async def update(self, update: Any) -> None:
        await self.client.session_update("s1", update)

    async def responses(self) -> dict[str, Any]:
        """Send each kind of request and return the responses."""
        client = self.client
        options = [
            schema.PermissionOption(option_id="once", name="Once", kind="allow_once"),
            schema.PermissionOption(option_id="no", name="No", kind="reject_once"),
        ]
        place = schema.ToolCallLocation(path=f"{self.cwd}/in.txt")
        call = schema.ToolCallUpdate(tool_call_id="t1", kind="edit", locations=[place])
        permission = await client.request_permission("s1", call, options)
        read = await client.read_text_file("s1", str(Path(self.cwd, "in.txt")), line=2, limit=1)
        await client.write_text_file("s1", str(Path(self.cwd, "out.txt")), "written")
        try:
            await client.read_text_file("s1", "/etc/passwd")
        except acp.RequestError as error:
            refused = str(error)
        env = [schema.EnvVariable(name="A", value="b")]
        made = await client.create_terminal("s1", "sh", args=["-c", "echo $A; exit 3"], env=env)
        status = await client.wait_for_terminal_exit("s1", made.terminal_id)
        output = await client.terminal_output("s1", made.terminal_id)
        await client.release_terminal("s1", made.terminal_id)
        slow = await client.create_terminal("s1", "sleep", args=["3600"])
        await client.kill_terminal("s1", slow.terminal_id)
        killed = await client.wait_for_terminal_exit("s1", slow.terminal_id)
        return {
            "can": [
                self.can.fs.read_text_file, self.can.fs.write_text_file, self.can.terminal
            ],
            "servers": [[type(server).__name__, server.name] for server in self.servers],
            "outcome": permission.outcome.option_id,
            "read": read.content,
            "refused": refused,
            "exit_code": status.exit_code,
            "output": output.output,
            "signal": killed.signal,
        }  # fmt: skip


if __name__ == "__main__":
    asyncio.run(acp.run_agent(PackagedAgent()))  # type: ignore[arg-type]
