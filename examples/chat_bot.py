"""Chat bot for several users at once, on stdin and stdout.

    python examples/chat_bot.py URL

If the agent requires a token, set BERAY_TOKEN.

Each input line contains the name of a user and a message: ``alice: What is the weather like?``.
Each user has a separate chat. Answers are printed as ``alice< …`` as soon as they are complete.
At the end of the input, the bot waits for the pending answers and exits.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable

from beray import without_retracted
from beray.agent import AgentApi, AgentException, ConnectionPool, MsgEventTextChunk
from beray.sanitize import one_line, printable


async def print_answer(pool: ConnectionPool, user: str, message: str) -> None:
    """Send a message in the chat of a user, and print the answer of the agent."""
    try:
        async with pool.chat("main", user) as agent:
            events = [event async for event in agent.send_message(message)]
    except AgentException as error:
        print(f"{one_line(user)}! {one_line(str(error))}", flush=True)
    else:
        chunks = [e for e in without_retracted(events) if isinstance(e, MsgEventTextChunk)]
        answer = "".join(chunk.text for chunk in chunks)
        print(f"{one_line(user)}< {printable(answer)}", flush=True)


def read_lines(put: Callable[[str | None], object]) -> None:
    """Pass each line of stdin to ``put``, and None at its end."""
    for line in sys.stdin:
        put(line)
    put(None)


async def main(url: str) -> None:
    """Answer the messages on stdin until its end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def put(line: str | None) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, line)

    # A daemon thread does not keep the process alive while it waits for a line.
    threading.Thread(target=read_lines, args=[put], daemon=True).start()

    def open_chat(agent_id: str, chat_id: int | str) -> AgentApi:
        token = os.environ.get("BERAY_TOKEN")
        return AgentApi(agent_id, url, chat_id=chat_id, token=token, reconnect=True)

    pool = ConnectionPool(open_chat, limit=10, idle_seconds=60)
    async with pool, asyncio.TaskGroup() as answers:
        while (line := await lines.get()) is not None:
            user, colon, message = line.partition(":")
            if colon and user.strip() and message.strip():
                answers.create_task(print_answer(pool, user.strip(), message.strip()))
            elif line.strip():
                print("? expected 'name: message'", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
