"""The conversation that is given to an agent which does not remember it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beray.testing import RunningServer

AGENT = """
import json, sys, time

def say(kind, **fields):
    print(json.dumps({"type": "AGENT_EVENT_" + kind, **fields}), flush=True)

goal = sys.stdin.read()
if "The user says now:" in goal:
    say("TEXT_CHUNK", text=goal)
    sys.exit()
say("TEXT_CHUNK", text="I look.")
say("TOOL_CALL_CHUNK", tool_name="look", args_chunk='{"path": ', call_id="1")
say("TOOL_CALL_CHUNK", args_chunk='"notes.txt"}', call_id="1")
say("TOOL_RESULT", tool_name="look", result="it is Ada", call_id="1")
say("TEXT_CHUNK", text="wrong")
say("TEXT_CHUNK", text="It starts again.", retracts=1)
say("TEXT_CHUNK", text="Half of the")
if "fail" in goal:
    sys.exit("it broke")
time.sleep(600)
"""
WORK = """\
You: I look.
[called look with {"path": "notes.txt"}]
[look returned "it is Ada"]
Half of the
["""


@pytest.mark.parametrize("how", ["stop", "fail", "server killed"])
def test_an_interrupted_answer_is_in_the_transcript(tmp_path: Path, how: str) -> None:
    program = tmp_path / "agent" / "agent.py"
    program.parent.mkdir()
    program.write_text(AGENT)
    environ = {"BERAY_COMMAND": f"python3 {program}", "BERAY_AGENT_PATHS": str(program.parent)}
    with RunningServer.start(tmp_path / "data", environ) as server, server.sign_up() as client:

        def events(task: Any, up_to: str = "") -> list[Any]:
            found: list[Any] = []
            after = str(task["last_seq"])
            for event in client.stream_task_updates(task["id"], last_event_id=after):
                found.append(event)
                if event.get("text") == up_to or event.get("status") == "INPUT_REQUIRED":
                    break
            return found

        task = client.send_chat_message("chat", f"{how}, who am I?")
        events(task, "" if how == "fail" else "Half of the")
        if how == "stop":
            client.stop_task(task["id"])
            events(task)
        elif how == "server killed":
            server.kill()
            server.restart()
        come = events(client.send_chat_message("chat", "go on"))
        [said] = [one["text"] for one in come if one["type"] == "AGENT_EVENT_TEXT_CHUNK"]
    assert said.startswith(f"The conversation so far:\n\nUser: {how}, who am I?\n\n{WORK}")
    assert said.endswith("]\n\nThe user says now:\n\ngo on")
    assert "wrong" not in said and "starts again" not in said
