"""Output of commands as events. Each event names the command's call or terminal.

Commands can run side by side. Then whole lines become events, so that a reader who ignores
``call_id`` does not see the lines of one command inside those of another.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from beray.events import MsgEventTextChunk
from beray.server.runners.base import Sink

LINE_CHARACTERS: Final = 4096
"""Characters that are kept back of an unfinished line."""


class CommandOutputs:
    """The commands of a run whose output is being read.

    Args:
        source: ``source`` of the events.
    """

    def __init__(self, sink: Sink, source: str) -> None:
        self._sink = sink
        self._source = source
        self._open: set[CommandOutput] = set()

    @asynccontextmanager
    async def open(self, call_id: str) -> AsyncIterator[CommandOutput]:
        """Return the output of one command. At the end of the block, all of it is emitted."""
        output = CommandOutput(self, call_id)
        self._open.add(output)
        try:
            yield output
            await output.end()
        finally:
            self._open.discard(output)
        if len(self._open) == 1:
            await next(iter(self._open)).release()

    @property
    def are_parallel(self) -> bool:
        return len(self._open) > 1

    async def emit(self, text: str, call_id: str) -> None:
        if text:
            event = {"text": text, "source": self._source, "call_id": call_id}
            await self._sink.emit(MsgEventTextChunk.model_validate(event))


class CommandOutput:
    """The output of one command."""

    def __init__(self, outputs: CommandOutputs, call_id: str) -> None:
        self._outputs = outputs
        self._call_id = call_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    async def add(self, chunk: bytes) -> None:
        """Emit a piece of output as far as that is sensible."""
        # The decoder keeps bytes that end in the middle of a character.
        await self._add(self._decoder.decode(chunk))

    async def release(self) -> None:
        """Emit what was kept back."""
        held, self._held = self._held, ""
        await self._outputs.emit(held, self._call_id)

    async def end(self) -> None:
        await self._add(self._decoder.decode(b"", final=True))
        await self.release()

    async def _add(self, text: str) -> None:
        text, self._held = self._held + text, ""
        if self._outputs.are_parallel:
            whole = text.rfind("\n") + 1
            if len(text) - whole <= LINE_CHARACTERS:
                text, self._held = text[:whole], text[whole:]
        await self._outputs.emit(text, self._call_id)


def left_running(names: Sequence[str]) -> str:
    """Return the message for processes that ended with the command that had started them."""
    counted = Counter(names)
    listed = ", ".join(f"{name} (×{n})" if n > 1 else name for name, n in counted.items())
    if len(names) == 1:
        return f"1 background process was terminated when the command returned: {listed}"
    return f"{len(names)} background processes were terminated when the command returned: {listed}"
