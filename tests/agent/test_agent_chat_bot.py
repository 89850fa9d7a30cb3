"""Tests of the example of a bot that serves several users at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.agent.scripted_agent import Peer, ScriptedAgent
from tests.agent.threaded_agent import threaded_agent

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_bot.py"


async def script(peer: Peer) -> None:
    await peer.send_status()
    while True:
        text = (await peer.receive())["text"]
        if text == "fail":
            await peer.send("ERROR", code="NO", details="never\x1b[31m")
        else:
            await peer.send_text(f"You are {peer.chat_id} ")
            await peer.send_text(f"and said {text}\x1b]0;x\x07")
            await peer.send_end()


def test_the_chat_bot_serves_several_users() -> None:
    def prepare(agent: ScriptedAgent) -> None:
        agent.default_script = script

    people = [f"p{number}" for number in range(20)]
    lines = [f"{person}: hello {turn}" for turn in range(2) for person in people]
    with threaded_agent(prepare) as agent:
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), agent.url],
            input="\n".join([*lines, "nonsense", "", "carol: fail"]) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert agent.max_open <= 10
    output = done.stdout.splitlines()
    assert sorted(output) == sorted(
        [
            *(
                f"{person}< You are {person} and said hello {turn}␛]0;x␇"
                for turn in range(2)
                for person in people
            ),
            "? expected 'name: message'",
            "carol! NO: never",
        ]
    )
    for person in people:
        turns = [line for line in output if line.startswith(f"{person}<")]
        assert ["hello 0" in turns[0], "hello 1" in turns[1]] == [True, True]


def test_the_chat_bot_prints_its_usage() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "alice:" in done.stderr
