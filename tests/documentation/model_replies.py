"""Replies of the scripted model to the goals in the documents.

A goal without a script gets ``ANSWER``, so that pages whose output does not depend on the model
need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tests.server.agents.fake_openai import Reply

ANSWER: Final = Reply(text=["This is the answer ", "of the scripted model.\n"])

SCRIPTS: Final[dict[str, Sequence[Reply]]] = {}
"""Replies by goal, in the order of the requests of a task."""


def openai_reply(body: dict[str, Any]) -> Reply:
    """Return the next reply for the body of a chat completion."""
    goals = [message["content"] for message in body["messages"] if message["role"] == "user"]
    # A chat sends its earlier messages and answers too: count the requests of the last message.
    last = max(i for i, message in enumerate(body["messages"]) if message["role"] == "user")
    count = sum(message["role"] == "assistant" for message in body["messages"][last:])
    return _reply(goals[-1], count)


def anthropic_reply(body: dict[str, Any]) -> Reply:
    """Return the reply for the body of a message request, which has one message."""
    return ANSWER


def google_reply(body: dict[str, Any]) -> Reply:
    """Return the reply for the body of a content request, which has one message."""
    return ANSWER


def _reply(goal: object, count: int) -> Reply:
    script = SCRIPTS.get(goal, ()) if isinstance(goal, str) else ()
    return script[count] if count < len(script) else ANSWER
