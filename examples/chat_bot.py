"""A bot that serves several people at once, on plain stdin and stdout.

    python examples/chat_bot.py URL        (BERAY_TOKEN: the token for it, if it asks for one)

Each line names who speaks: ``alice: What is the weather like?``. Everybody has a conversation
of their own; answers come back as ``alice< …``, in whatever order the agent is ready with them.
The end of the input ends the bot, after the last answer.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable

from beray import without_retracted
from beray.agent import AgentApi, AgentException, ConnectionPool, MsgEventTextChunk
from beray.sanitize import one_line, printable


async def answer(pool: ConnectionPool, person: str, text: str) -> None:
    """Ask the agent in this person's chat, and print what it says."""
    try:
        async with pool.chat("main", person) as agent:
            messages = [message async for message in agent.send_message(text)]
    except AgentException as error:
        print(f"{one_line(person)}! {one_line(str(error))}", flush=True)
    else:
        kept = without_retracted(messages)
        said = "".join(one.text for one in kept if isinstance(one, MsgEventTextChunk))
        print(f"{one_line(person)}< {printable(said)}", flush=True)


def read_lines(take: Callable[[str | None], object]) -> None:
    for line in sys.stdin:
        take(line)
    take(None)


async def main(url: str) -> None:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def take(line: str | None) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, line)

    # A daemon thread: nobody has to press Enter for the bot to end.
    threading.Thread(target=read_lines, args=[take], daemon=True).start()

    def open_chat(agent_id: str, chat_id: int | str) -> AgentApi:
        token = os.environ.get("BERAY_TOKEN")
        return AgentApi(agent_id, url, chat_id=chat_id, token=token, reconnect=True)

    pool = ConnectionPool(open_chat, limit=10, idle_seconds=60)
    async with pool, asyncio.TaskGroup() as answers:
        while (line := await lines.get()) is not None:
            person, colon, text = line.partition(":")
            if colon and person.strip() and text.strip():
                answers.create_task(answer(pool, person.strip(), text.strip()))
            elif line.strip():
                print("? write it as: name: text", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
