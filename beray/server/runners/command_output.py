"""Output of commands as events. Each event names the command's tool call or terminal.

While several commands run in parallel, only complete lines are emitted. A client that ignores
``call_id`` then does not mix parts of lines of different commands.
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
"""Maximum number of characters of an incomplete line that are buffered."""


class CommandOutputs:
    """Outputs of the commands of one run.

    Args:
        sink: Destination of the events.
        source: ``source`` of the events.
    """

    def __init__(self, sink: Sink, source: str) -> None:
        self._sink = sink
        self._source = source
        self._open: set[CommandOutput] = set()

    @asynccontextmanager
    async def open(self, call_id: str) -> AsyncIterator[CommandOutput]:
        """Return the output of one command. On exit, buffered text is emitted."""
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
        """True if more than one command is running."""
        return len(self._open) > 1

    async def emit(self, text: str, call_id: str) -> None:
        """Emit text of one command, if it is not empty."""
        if text:
            event = {"text": text, "source": self._source, "call_id": call_id}
            await self._sink.emit(MsgEventTextChunk.model_validate(event))


class CommandOutput:
    """Output of one command."""

    def __init__(self, outputs: CommandOutputs, call_id: str) -> None:
        self._outputs = outputs
        self._call_id = call_id
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    async def add(self, chunk: bytes) -> None:
        """Emit a chunk; while commands run in parallel, buffer its incomplete last line."""
        # The decoder keeps an incomplete character until the rest of it arrives.
        await self._add(self._decoder.decode(chunk))

    async def release(self) -> None:
        """Emit the buffered text."""
        held, self._held = self._held, ""
        await self._outputs.emit(held, self._call_id)

    async def end(self) -> None:
        """Emit the rest of the output."""
        await self._add(self._decoder.decode(b"", final=True))
        await self.release()

    async def _add(self, text: str) -> None:
        text, self._held = self._held + text, ""
        if self._outputs.are_parallel:
            complete = text.rfind("\n") + 1
            if len(text) - complete <= LINE_CHARACTERS:
                text, self._held = text[:complete], text[complete:]
        await self._outputs.emit(text, self._call_id)


def termination_message(names: Sequence[str]) -> str:
    """Return the message about background processes that were terminated with their command."""
    counted = Counter(names)
    listed = ", ".join(f"{name} (×{n})" if n > 1 else name for name, n in counted.items())
    if len(names) == 1:
        return f"1 background process was terminated when the command returned: {listed}"
    return f"{len(names)} background processes were terminated when the command returned: {listed}"
