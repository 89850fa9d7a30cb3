"""Server whose provider sends scripted replies one after another, for tests of histories."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from beray import BeRayClient
from beray.testing import RunningServer
from tests.server.agents.fake_anthropic import ANTHROPIC
from tests.server.agents.fake_anthropic import MODEL as CLAUDE
from tests.server.agents.fake_openai import OPENAI, Failure, FakeOpenAI, Reply
from tests.server.agents.model_server import is_fork_server

INTERRUPTED = "The tool call was interrupted before a result was produced."


class Bench:
    """Server whose provider sends the replies in ``script`` one after another."""

    def __init__(self, data_dir: Path, api: str) -> None:
        self.api = api
        self.script: list[Reply | Failure] = []
        self.provider = FakeOpenAI(self._next, ANTHROPIC if api == "anthropic" else OPENAI)
        environ = {
            "BERAY_MODEL": f"anthropic:{CLAUDE}" if api == "anthropic" else "openai:gpt-4o",
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_API_KEY": "sk-openai",
            "ANTHROPIC_BASE_URL": self.provider.url.removesuffix("/v1"),
            "ANTHROPIC_API_KEY": "sk-ant",
        }
        self.server = RunningServer.start(data_dir, environ)

    def close(self) -> None:
        self.server.stop()
        self.provider.close()

    def _next(self, body: dict[str, Any]) -> Reply | Failure:
        return self.script.pop(0)

    def kill_run(self) -> None:
        """Kill only the process of the run."""
        children = psutil.Process(self.server.pid).children()
        [fork_server] = [child for child in children if is_fork_server(child)]
        for supervisor in fork_server.children():
            with suppress(psutil.NoSuchProcess):  # of a run that ends by itself
                for run in supervisor.children():
                    run.kill()

    def sent(self) -> list[tuple[str, Any]]:
        """Return the last request as (role, content): text, ``call NAME`` or ``result TEXT``."""
        found: list[tuple[str, Any]] = []
        for message in self.provider.requests[-1]["messages"]:
            role, content = message["role"], message.get("content")
            if role == "system":
                continue
            if role == "tool":
                found.append(("tool", content))
                continue
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for block in blocks or []:
                if block["type"] == "text":
                    found.append((role, block["text"]))
                elif block["type"] == "tool_use":
                    found.append((role, f"call {block['name']}"))
                elif block["type"] == "tool_result":
                    found.append(("tool", _text_of(block["content"])))
            calls = message.get("tool_calls") or []
            found += [(role, f"call {call['function']['name']}") for call in calls]
        return found

    def answer(self, client: BeRayClient, words: str) -> list[Any]:
        """Send a message and return all events of the answer."""
        return self.events(client, client.send_chat_message("chat", words))

    def events(self, client: BeRayClient, task: Any, up_to: str = "") -> list[Any]:
        """Return the events of an answer up to its end, or up to text that ends with ``up_to``."""
        found: list[Any] = []
        after = str(task["last_seq"])
        for event in client.stream_task_updates(task["id"], last_event_id=after):
            found.append(event)
            if up_to and text(found).endswith(up_to):
                break
            if event.get("status") == "INPUT_REQUIRED":
                break
        return found


def text(events: list[Any]) -> str:
    """Return the agent's text in ``events``."""
    return "".join(
        event["text"]
        for event in events
        if event["type"] == "AGENT_EVENT_TEXT_CHUNK" and event["source"] == "main"
    )


def _text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
