"""Replies of the scripted model to the goals in the documents.

A goal without a script gets ``ANSWER``, so that pages whose output does not depend on the model
need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tests.server.agents.fake_openai import Call, Reply

ANSWER: Final = Reply(text=["This is the answer ", "of the scripted model.\n"])

PRIMES: Final = '''\
def primes(limit):
    """Yield the prime numbers up to limit."""
    for number in range(2, limit + 1):
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            yield number


if __name__ == "__main__":
    print(*primes(50))
'''

SCRIPTS: Final[dict[str, Sequence[Reply]]] = {
    "write primes.py, which prints the prime numbers up to 50; run it; save its output in primes.txt": [
        Reply(
            text=["I write the script ", "first.\n"],
            calls=[Call("write_file", {"path": "primes.py", "content": PRIMES})],
            prompt_tokens=1648,
            completion_tokens=132,
        ),
        Reply(
            calls=[Call("run_command", {"command": "python3 primes.py | tee primes.txt"})],
            prompt_tokens=1803,
            completion_tokens=24,
        ),
        Reply(
            text=[
                "`primes.py` prints the prime numbers ",
                "up to 50, and `primes.txt` has its output.\n",
            ],
            prompt_tokens=1869,
            completion_tokens=25,
        ),
    ],
    "what is in my notes?": [
        Reply(calls=[Call("read_file", {"path": "notes.md"})]),
        Reply(text=["Your notes contain one line: ", "buy milk.\n"]),
    ],
    "and how many words is that?": [Reply(text=["Two words.\n"])],
    "read a very long report": [
        Reply(
            text=["I read the first part.\n"],
            calls=[Call("list_files", {})],
            prompt_tokens=9_000,
            completion_tokens=1_200,
        )
    ]
    * 5,
    "what changed in uni-api last week?": [
        Reply(calls=[Call("docs_echo", {"text": "changes of uni-api"})]),
        Reply(text=["Three endpoints were added.\n"]),
    ],
}
"""Replies by goal, in the order of the requests of a task."""


def openai_reply(body: dict[str, Any]) -> Reply:
    """Return the next reply for the body of a chat completion."""
    messages = body["messages"]
    # Chats send earlier messages and answers too: count the replies to the last message.
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    count = sum(message["role"] == "assistant" for message in messages[last:])
    goal = messages[last]["content"]
    # Further lines of a goal list its attachments.
    script = SCRIPTS.get(goal.partition("\n")[0], ()) if isinstance(goal, str) else ()
    return script[count] if count < len(script) else ANSWER


def plain_reply(_body: dict[str, Any]) -> Reply:
    """Return the reply of the providers that have no scripts."""
    return ANSWER
