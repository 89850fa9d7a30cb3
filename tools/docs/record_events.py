"""Record one example of each event type: ``python -m tools.docs.record_events``.

The script starts a server, runs tasks and a chat with a small agent program, and writes the events
to ``tools/docs/event_examples.json``, which the page of the events shows.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import connect

from beray.client import BeRayClient
from beray.testing import RunningServer, authorization

EXAMPLES: Final = Path(__file__).with_name("event_examples.json")

_AGENT: Final = """
import json, pathlib, sys

def send(type, **fields):
    print(json.dumps({"type": type, **fields}), flush=True)

goal = sys.stdin.read()
if "broken" in goal:
    send("ERROR", code="UNREADABLE", details="the page cannot be read")
    sys.exit(1)

send("AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="count_words", args_chunk='{"path": "report.md"}')
send("AGENT_EVENT_TOOL_RESULT", tool_name="count_words", result={"words": 1204})
pathlib.Path("summary.md").write_text("1204 words")
send("AGENT_EVENT_SEND_FILE", path="summary.md")
send("AGENT_EVENT_TEXT_CHUNK", text="The report has 1204 words.")
send("AGENT_EVENT_END", tokens_used=318)
"""


def record(client: BeRayClient) -> dict[str, Mapping[str, Any]]:
    """Return one event of each type of a task, and of the stream over all tasks."""
    found: dict[str, Mapping[str, Any]] = {}
    chat = client.open_chat("report")
    client.send_chat_message("report", "How long is the report?")
    for event in client.stream_task_updates(chat["id"]):
        found.setdefault(event["type"], event)
        if event["type"] == "AGENT_EVENT_END":
            break
    for goal in ("!echo done > result.txt", "Read the broken page"):
        for event in client.stream_task_updates(client.create_task(goal)["id"]):
            if event["type"] == "TASK_STATUS":
                found["TASK_STATUS"] = event
            found.setdefault(event["type"], event)
    return found


def record_all_tasks(client: BeRayClient) -> dict[str, Mapping[str, Any]]:
    """Return one update of each type of the stream over all tasks."""
    found: dict[str, Mapping[str, Any]] = {}
    for update in _changes(client):
        found[update["type"]] = update
        if update["type"] == "TASK_DELETED":
            break
    return found


def _changes(client: BeRayClient) -> Iterator[Mapping[str, Any]]:
    """Yield the updates of a task that is created, runs, ends, and is deleted."""
    task_id: int | str | None = None
    for update in client.stream_all_updates():
        if update["type"] == "TASKS":
            update["tasks"] = update["tasks"][:1]
            task_id = client.create_task("!for i in 1 2 3; do echo $i; sleep 1; done")["id"]
        yield update
        if update["type"] == "TASK_STATUS" and update["status"] == "COMPLETED":
            assert task_id is not None
            client.delete_task(task_id)


def record_connection(server: RunningServer, client: BeRayClient) -> dict[str, Mapping[str, Any]]:
    """Return the messages of the agent WebSocket about the connection, and stop the server."""
    url = server.url.replace("http:", "ws:") + "/v1/agent_ws/0/"
    with connect(url, additional_headers=authorization(client), proxy=None) as connection:
        messages = [json.loads(connection.recv(10))]
        server.stop()
        messages += map(json.loads, connection)
    return {message["type"]: message for message in messages}


def main() -> None:
    """Write the examples."""
    with tempfile.TemporaryDirectory() as directory:
        agent = Path(directory, "agent.py")
        agent.write_text(_AGENT, "utf-8")
        settings = {"BERAY_SANDBOX": "none", "BERAY_COMMAND": f"{sys.executable} {agent}"}
        with RunningServer.start(Path(directory, "server"), settings) as server:
            client = server.sign_up("ada@example.org")
            task_events = record(client)
            examples = {
                "task": task_events,
                "all tasks": record_all_tasks(client),
                "agent WebSocket": record_connection(server, client),
            }
    EXAMPLES.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
