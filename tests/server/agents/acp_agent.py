"""A real agent that speaks the Agent Client Protocol. What it does, its prompt says.

    python acp_agent.py [MODE]

MODE is for what goes wrong before a prompt: ``garbage``, ``huge``, ``silent``, ``auth``,
``version``, ``dies``. ``mcp`` says that it can reach MCP servers by HTTP.

The prompt's first word names a scene, the method ``scene_…``; the rest is JSON for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import acp
from acp import schema

OPTIONS = [
    schema.PermissionOption(option_id="always", name="Always", kind="allow_always"),
    schema.PermissionOption(option_id="once", name="Once", kind="allow_once"),
    schema.PermissionOption(option_id="no", name="No", kind="reject_once"),
]


class ScriptedAgent:
    """One agent, one session."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.stop_reason: Any = "end_turn"
        self.usage: schema.Usage | None = None
        self.servers: list[Any] = []
        self.cwd = ""
        self.can: Any = None

    def on_connect(self, client: Any) -> None:
        self.client = client

    async def initialize(
        self, protocol_version: int, client_capabilities: Any = None, **_: Any
    ) -> schema.InitializeResponse:
        if self.mode == "silent":
            await asyncio.sleep(3600)
        self.can = client_capabilities
        return schema.InitializeResponse(
            protocol_version=99 if self.mode == "version" else protocol_version,
            agent_capabilities=schema.AgentCapabilities(
                mcp_capabilities=schema.McpCapabilities(http=self.mode == "mcp")
            ),
            auth_methods=[schema.AuthMethodAgent(id="browser", name="Sign in with a browser")],
        )

    async def new_session(
        self, cwd: str, mcp_servers: Any = None, **_: Any
    ) -> schema.NewSessionResponse:
        if self.mode == "auth":
            raise acp.RequestError.auth_required()
        self.cwd, self.servers = cwd, mcp_servers or []
        return schema.NewSessionResponse(session_id="s1")

    async def cancel(self, session_id: str, **_: Any) -> None:
        """Nothing: cancellation is ignored."""

    async def prompt(self, session_id: str, prompt: Any, **_: Any) -> schema.PromptResponse:
        scene, _, rest = prompt[0].text.partition(" ")
        if not hasattr(self, f"scene_{scene}"):
            await self.say(prompt[0].text)
        else:
            await getattr(self, f"scene_{scene}")(json.loads(rest) if rest else None)
        return schema.PromptResponse(stop_reason=self.stop_reason, usage=self.usage)

    async def update(self, **fields: Any) -> None:
        """Send an update as it is on the wire."""
        params = {"sessionId": "s1", "update": fields}
        await self.client._conn.send_notification("session/update", params)

    async def say(self, text: str) -> None:
        await self.client.session_update("s1", acp.update_agent_message_text(text))

    async def tell(self, value: Any) -> None:
        """Say JSON, for the test to read."""
        await self.say(json.dumps(value))

    async def scene_chunks(self, count: int) -> None:
        for number in range(count):
            await self.say(f"{number} ")

    async def scene_updates(self, updates: list[dict[str, Any]]) -> None:
        for update in updates:
            await self.update(**update)

    async def scene_session(self, _: None) -> None:
        servers = [server.model_dump(mode="json", by_alias=True) for server in self.servers]
        can = self.can.model_dump(mode="json", by_alias=True)
        await self.tell({"cwd": self.cwd, "servers": servers, "can": can})

    async def scene_stop(self, reason: str) -> None:
        self.stop_reason = reason

    async def scene_usage(self, usage: dict[str, int]) -> None:
        self.usage = schema.Usage.model_validate(usage)

    async def scene_ask(self, asked: dict[str, Any]) -> None:
        options = [schema.PermissionOption.model_validate(o) for o in asked.pop("options", [])]
        call = schema.ToolCallUpdate.model_validate({"toolCallId": "t1", **asked})
        answer = await self.client.request_permission("s1", call, options or OPTIONS)
        await self.tell(answer.model_dump(mode="json", by_alias=True)["outcome"])

    async def scene_calls(self, calls: list[list[Any]]) -> None:
        """Make requests by method and parameters; tell each answer."""
        answers: list[Any] = []
        for method, params in calls:
            try:
                if method == "_update":
                    await self.update(**params)
                    continue
                if method == "_until_output":
                    await self.until_output(params)
                    continue
                params = {"sessionId": "s1", **params}
                answers.append(await self.client._conn.send_request(method, params))
            except acp.RequestError as error:
                answers.append({"refused": str(error), "code": error.code})
        await self.tell(answers)

    async def until_output(self, params: dict[str, Any]) -> None:
        asked = {"sessionId": "s1", **params}
        output = ""
        while not output:
            await asyncio.sleep(0.02)
            output = (await self.client._conn.send_request("terminal/output", asked))["output"]

    async def scene_many_reads(self, asked: dict[str, Any]) -> None:
        params = {"sessionId": "s1", "path": asked["path"]}
        request = self.client._conn.send_request
        answers = await asyncio.gather(
            *(request("fs/read_text_file", params) for _ in range(asked["count"]))
        )
        await self.tell(sum(len(answer["content"]) for answer in answers))

    async def scene_flood_of_requests(self, _: None) -> None:
        # Each waits for a command that does not end.
        asked = {"sessionId": "s1", "command": "sleep 3600"}
        made = await self.client._conn.send_request("terminal/create", asked)
        params = {"sessionId": "s1", "terminalId": made["terminalId"]}
        waiting = [
            self.client._conn.send_request("terminal/wait_for_exit", params) for _ in range(300)
        ]
        await asyncio.gather(*waiting)

    async def scene_hang(self, marks: dict[str, str]) -> None:
        """Start a child, and one that has forked away and ignores SIGTERM; never end."""
        script = f"setsid sh -c 'trap \"\" TERM; exec sleep {marks['away']}' & "
        for command in (f"exec sleep {marks['child']}", script):
            await asyncio.create_subprocess_exec("/bin/sh", "-c", command)
        if "terminal" in marks:
            asked = {"sessionId": "s1", "command": f"setsid sleep {marks['terminal']} & wait"}
            await self.client._conn.send_request("terminal/create", asked)
        await self.say("hanging")
        await asyncio.Event().wait()

    async def scene_die(self, status: int) -> None:
        await self.say("so far")
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(status)

    async def scene_raw(self, lines: list[str]) -> None:
        """Write lines as they are."""
        await self.say("before")
        for line in lines:
            whole = line.encode() + b"\n"
            write_all(whole, len(whole))

    async def scene_raw_and_wait(self, lines: list[str]) -> None:
        await self.scene_raw(lines)
        await asyncio.sleep(3600)

    async def scene_noise(self, size: int) -> None:
        write_all(b"x" * 999 + b"\n", size)

    async def scene_huge(self, size: int) -> None:
        write_all(b"x" * 65536, size)

    async def scene_refuse(self, message: str) -> None:
        raise acp.RequestError(-32603, message, {"details": "quota"})


def write_all(piece: bytes, size: int) -> None:
    """Write ``size`` bytes or more, ``piece`` after ``piece``, past the package."""
    os.set_blocking(1, True)
    written = 0
    while written < size:
        rest = piece
        while rest:
            rest = rest[os.write(1, rest) :]
        written += len(piece)
    os.set_blocking(1, False)


def main(mode: str) -> None:
    print("agent log line", file=sys.stderr, flush=True)
    if mode == "garbage":
        print("Welcome to the agent!\n{not json\n[1]\n{}", flush=True)
    elif mode == "huge":
        write_all(b"x" * 65536, 100 * 1024**2)
    elif mode == "dies":
        print("no licence", file=sys.stderr, flush=True)
        sys.exit(3)
    elif mode == "only-garbage":
        write_all(b"hello\n" * 1000, 4 * 1024**2)
        time.sleep(3600)
    asyncio.run(acp.run_agent(ScriptedAgent(mode)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
