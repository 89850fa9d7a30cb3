"""The example of a bot runs, for several people at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.agent.agent_thread import agent_in_a_thread
from tests.agent.scripted_agent import Peer, ScriptedAgent

EXAMPLE = Path(__file__).parents[2] / "examples" / "chat_bot.py"


async def script(peer: Peer) -> None:
    await peer.status()
    while True:
        text = (await peer.heard())["text"]
        if text == "fail":
            await peer.say("ERROR", code="NO", details="never\x1b[31m")
        else:
            await peer.chunk(f"You are {peer.chat_id} ")
            await peer.chunk(f"and said {text}\x1b]0;x\x07")
            await peer.end()


def test_the_chat_bot_serves_several_people() -> None:
    def prepare(agent: ScriptedAgent) -> None:
        agent.usual = script

    people = [f"p{number}" for number in range(20)]
    lines = [f"{person}: hello {turn}" for turn in range(2) for person in people]
    with agent_in_a_thread(prepare) as agent:
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
        assert agent.most_open <= 10
    said = done.stdout.splitlines()
    assert sorted(said) == sorted(
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
        turns = [line for line in said if line.startswith(f"{person}<")]
        assert ["hello 0" in turns[0], "hello 1" in turns[1]] == [True, True]


def test_the_chat_bot_says_how_it_is_run() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "alice:" in done.stderr
