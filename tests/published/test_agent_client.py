"""Clients of the agent WebSocket as its documents describe them, over aiohttp."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from beray.testing import RunningServer, access_token
from tests.published.packages import Install

pytestmark = [pytest.mark.published, pytest.mark.timeout(600)]

SENT = {"type": "AGENT_EVENT_SEND_FILE", "path": "made.txt"}


@pytest.mark.parametrize(
    ("version", "path"),
    [("1.0", "/agent_ws/"), ("1.0", "/ws"), ("1.1", "/"), ("1.1", "")],
)
def test_a_conversation(install: Install, tmp_path: Path, version: str, path: str) -> None:
    package = install("aiohttp")
    script = f"echo made > made.txt; echo {shlex.quote(json.dumps(SENT))}; echo done"
    with (
        RunningServer.start(
            tmp_path / "data", BERAY_COMMAND=f"/bin/sh -c {shlex.quote(script)}"
        ) as server,
        server.sign_up() as client,
    ):
        token = access_token(client)
        base_url = server.url.replace("http://", f"ws://x:{token}@") + path
        found = package.run("agent_client.py", version, base_url)
        assert found["first"] == {"type": "STATUS"}
        assert found["second_client"] == 403
        answer = found["answer"]
        assert answer[-1]["type"] == "AGENT_EVENT_END"
        assert "done" in "".join(event.get("text", "") for event in answer)
        if version == "1.1":
            assert SENT in answer
            refused = package.run("agent_client.py", version, base_url, "a%00")
            assert refused == {"refused": 422}
        else:
            payload = {"kind": "send_file", "path": "made.txt"}
            assert payload in [event.get("payload") for event in answer]
        anonymous = package.run("agent_client.py", version, base_url.replace(f"x:{token}@", ""))
        assert anonymous == {"refused": 401}
        lost = package.run("agent_client.py", "1.0", base_url.rstrip("/") + "/nothing")
        assert lost == {"refused": 404}
        assert token not in server.log.read_text()
