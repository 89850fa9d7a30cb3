"""Agent that implements the Agent Client Protocol and is controlled by its prompts.

    python acp_agent.py [MODE]

MODE selects a failure before the first prompt: ``garbage``, ``huge``, ``silent``, ``auth``,
``version``, ``dies``. ``mcp`` declares support for MCP servers over HTTP.

The first word of a prompt selects a method ``scene_…``; the rest is its argument as JSON.

Many tests start this program, so it imports only the standard library and implements the
transport itself: JSON-RPC 2.0, one message per line. ``packaged_agent.py`` uses the package
``agent-client-protocol`` instead.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

OPTIONS = [
    {"optionId": "always", "name": "Always", "kind": "allow_always"},
    {"optionId": "once", "name": "Once", "kind": "allow_once"},
    {"optionId": "no", "name": "No", "kind": "reject_once"},
]
AUTH_REQUIRED = {"code": -32000, "message": "Authentication required"}


class RequestError(Exception):
    """An error response of the agent or the client."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class ScriptedAgent:
    """Agent with one session. It ignores cancellation."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.stop_reason = "end_turn"
        self.usage: Any = None
        self.asked = 0
        self.answers: dict[int, Any] = {}

    def run(self) -> None:
        """Answer the client's requests until it disconnects."""
        methods = {
            "initialize": self.initialize,
            "session/new": self.new_session,
            "session/prompt": self.prompt,
        }
        while True:
            message = self.received()
            if "method" not in message or "id" not in message:
                continue
            try:
                answer = {"result": methods[message["method"]](message["params"])}
            except RequestError as error:
                answer = {"error": error.error}
            send({"id": message["id"], **answer})

    def received(self) -> dict[str, Any]:
        """Return the next message; store responses to requests of the agent."""
        line = sys.stdin.buffer.readline()
        if not line:
            sys.exit()
        message: dict[str, Any] = json.loads(line)
        if "method" not in message and message["id"] in self.answers:
            self.answers[message["id"]] = message
        return message

    def begin(self, method: str, params: dict[str, Any]) -> int:
        """Send a request and return its id."""
        number = self.asked
        self.asked += 1
        self.answers[number] = None
        send({"id": number, "method": method, "params": {"sessionId": "s1", **params}})
        return number

    def answer(self, number: int) -> Any:
        """Wait for the result of the request with an id."""
        while self.answers[number] is None:
            self.received()
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RequestError(answer["error"])
        return answer["result"]

    def request(self, method: str, params: dict[str, Any]) -> Any:
        return self.answer(self.begin(method, params))

    def initialize(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.mode == "silent":
            time.sleep(3600)
        self.can = params["clientCapabilities"]
        return {
            "protocolVersion": 99 if self.mode == "version" else params["protocolVersion"],
            "agentCapabilities": {"mcpCapabilities": {"http": self.mode == "mcp"}},
            "authMethods": [{"id": "browser", "name": "Sign in with a browser"}],
        }

    def new_session(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.mode == "auth":
            raise RequestError(AUTH_REQUIRED)
        self.cwd, self.servers = params["cwd"], params["mcpServers"]
        return {"sessionId": "s1"}

    def prompt(self, params: dict[str, Any]) -> dict[str, Any]:
        [block] = params["prompt"]
        scene, _, rest = block["text"].partition(" ")
        if not hasattr(self, f"scene_{scene}"):
            self.say(block["text"])
        else:
            getattr(self, f"scene_{scene}")(json.loads(rest) if rest else None)
        usage = {"usage": self.usage} if self.usage else {}
        return {"stopReason": self.stop_reason, **usage}

    def update(self, **fields: Any) -> None:
        send({"method": "session/update", "params": {"sessionId": "s1", "update": fields}})

    def say(self, text: str) -> None:
        self.update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": text})

    def tell(self, value: Any) -> None:
        """Send JSON as text for the test."""
        self.say(json.dumps(value))

    def scene_chunks(self, count: int) -> None:
        for number in range(count):
            self.say(f"{number} ")

    def scene_updates(self, updates: list[dict[str, Any]]) -> None:
        for update in updates:
            self.update(**update)

    def scene_session(self, _: None) -> None:
        self.tell({"cwd": self.cwd, "servers": self.servers, "can": self.can})

    def scene_gateway(self, code: str) -> None:
        """Run Python code in a child process and send its output."""
        import subprocess

        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        self.say(ran.stdout + ran.stderr)

    def scene_mcp(self, commands: list[str]) -> None:
        """Start the programs of the session's MCP servers, call their tool and send the results."""
        import subprocess

        answers: dict[str, Any] = {}
        for server in self.servers:
            program = [server["command"], *server["args"]]
            started = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert started.stdin and started.stdout
            for number, command in enumerate(commands):
                call = {"name": "sh", "arguments": {"command": command}}
                asked = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}
                started.stdin.write(json.dumps(asked).encode() + b"\n")
                started.stdin.flush()
                line = started.stdout.readline()
                text = json.loads(line)["result"]["content"][0]["text"] if line else None
                answers.setdefault(server["name"], []).append(text)
            started.stdin.close()
            started.wait()
        self.tell(answers)

    def scene_stop(self, reason: str) -> None:
        self.stop_reason = reason

    def scene_usage(self, usage: dict[str, int]) -> None:
        self.usage = usage

    def scene_ask(self, asked: dict[str, Any]) -> None:
        options = asked.pop("options", OPTIONS)
        call = {"toolCallId": "t1", **asked}
        params = {"toolCall": call, "options": options}
        self.tell(self.request("session/request_permission", params)["outcome"])

    def scene_calls(self, calls: list[list[Any]]) -> None:
        """Send requests by method and parameters, and then the responses as text."""
        answers: list[Any] = []
        for method, params in calls:
            try:
                if method == "_update":
                    self.update(**params)
                elif method == "_until_output":
                    self.until_output(params)
                else:
                    answers.append(self.request(method, params))
            except RequestError as error:
                answers.append({"refused": str(error), "code": error.error["code"]})
        self.tell(answers)

    def until_output(self, params: dict[str, Any]) -> None:
        while not self.request("terminal/output", params)["output"]:
            time.sleep(0.02)

    def scene_many_reads(self, asked: dict[str, Any]) -> None:
        """Send all requests before reading a response."""
        params = {"path": asked["path"]}
        begun = [self.begin("fs/read_text_file", params) for _ in range(asked["count"])]
        self.tell(sum(len(self.answer(number)["content"]) for number in begun))

    def scene_flood_of_requests(self, _: None) -> None:
        # Each request waits for a command that does not end.
        made = self.request("terminal/create", {"command": "sleep 3600"})
        for _number in range(300):
            self.begin("terminal/wait_for_exit", {"terminalId": made["terminalId"]})
        while True:
            self.received()

    def scene_hang(self, marks: dict[str, str]) -> None:
        """Start a child and a daemon that ignores SIGTERM, and never end."""
        script = f"setsid sh -c 'trap \"\" TERM; exec sleep {marks['away']}' & "
        for command in (f"exec sleep {marks['child']}", script):
            os.spawnv(os.P_NOWAIT, "/bin/sh", ["/bin/sh", "-c", command])
        if "terminal" in marks:
            asked = {"command": f"setsid sleep {marks['terminal']} & wait"}
            self.request("terminal/create", asked)
        self.say("hanging")
        while True:
            self.received()

    def scene_die(self, status: int) -> None:
        self.say("so far")
        print("out of luck", file=sys.stderr, flush=True)
        os._exit(status)

    def scene_raw(self, lines: list[str]) -> None:
        """Write lines unchanged."""
        self.say("before")
        for line in lines:
            data = line.encode() + b"\n"
            write_all(data, len(data))

    def scene_raw_and_wait(self, lines: list[str]) -> None:
        self.scene_raw(lines)
        time.sleep(3600)

    def scene_noise(self, size: int) -> None:
        write_all(b"x" * 999 + b"\n", size)

    def scene_huge(self, size: int) -> None:
        write_all(b"x" * 65536, size)

    def scene_refuse(self, message: str) -> None:
        raise RequestError({"code": -32603, "message": message, "data": {"details": "quota"}})


def send(message: dict[str, Any]) -> None:
    line = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
    write_all(line, len(line))


def write_all(piece: bytes, size: int) -> None:
    """Write ``piece`` repeatedly until at least ``size`` bytes are written."""
    written = 0
    while written < size:
        rest = piece
        while rest:
            rest = rest[os.write(1, rest) :]
        written += len(piece)


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
    ScriptedAgent(mode).run()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
