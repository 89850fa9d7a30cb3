"""Receiver of messages for tests of background readers."""

from __future__ import annotations

import threading
from collections.abc import Callable

from textual.message import Message

from tests.support import WAIT_SECONDS


class Inbox:
    """Takes messages in the place of a screen."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._changed = threading.Condition()

    def post_message(self, message: Message) -> bool:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()
        return True

    def wait_for(self, seen: Callable[[list[Message]], object]) -> list[Message]:
        with self._changed:
            assert self._changed.wait_for(lambda: seen(self._messages), WAIT_SECONDS)
            return list(self._messages)
