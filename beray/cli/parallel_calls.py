"""Numbers that tell apart the tool calls that a task makes side by side."""

from __future__ import annotations


class ParallelCalls:
    """Follows calls by their ``call_id``.

    A call has no number while it is the only one. Once a second one begins before the first has a
    result, all have numbers, until none is open any more.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._open: set[str] = set()

    def begin(self, call_id: str) -> None:
        if call_id and call_id not in self._numbers:
            self._numbers[call_id] = len(self._numbers) + 1
            self._open.add(call_id)

    def end(self, call_id: str) -> None:
        self._open.discard(call_id)
        if not self._open:
            self._numbers.clear()

    def clear(self) -> None:
        self._numbers.clear()
        self._open.clear()

    def number(self, call_id: str) -> str:
        """Return the number of a call, "" if it is the only one or unknown."""
        number = self._numbers.get(call_id)
        return str(number) if number is not None and len(self._numbers) > 1 else ""

    def named(self, name: str, call_id: str) -> str:
        """Return a tool's name with the number of the call."""
        number = self.number(call_id)
        return f"{name} [{number}]" if number else name
