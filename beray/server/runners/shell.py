"""Runner ``shell``: executes goals that start with ``!`` by ``/bin/sh`` in the work_dir."""

from __future__ import annotations

import codecs
from typing import Final

from pydantic import JsonValue

from beray.events import MsgEventEnd, MsgEventTextChunk, MsgEventToolResult
from beray.server.runners.base import Job, Outcome, Sink
from beray.server.sandbox.sandbox import Sandbox

CHUNK_BYTES: Final = 32 * 1024
SOURCE: Final = "tools:shell"
MAX_ARGUMENT_CHARACTERS: Final = 30_000
"""At most 120,000 bytes in UTF-8: Linux limits one argument to 131,071 bytes (execve(2))."""


def shell_command(shell: str, line: str) -> list[str]:
    """Return the arguments that execute ``line``, as ``shell -c LINE`` would.

    A long line is passed as several arguments, which the shell joins and removes again. Nothing
    in the line is interpreted as an option of the shell.
    """
    size = MAX_ARGUMENT_CHARACTERS
    if len(line) <= size:
        return [shell, "-c", "--", line]
    parts = [line[start : start + size] for start in range(0, len(line), size)]
    joined = "".join(f"${{{number}}}" for number in range(1, len(parts) + 1))
    return [shell, "-c", f'eval "shift {len(parts)}; {joined}"', shell, *parts]


class ShellRunner:
    """Runner of shell commands."""

    def __init__(self, *, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Execute the command. An exit status other than 0 is a failure."""
        command = job.goal.removeprefix("!")
        async with self._sandbox.observed(
            shell_command("/bin/sh", command),
            job.work_dir,
            network=job.network,
            gateway=job.relay,
        ) as supervised:
            process = supervised.process
            assert process.stdout is not None
            # The decoder keeps an incomplete character until the rest of it arrives.
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while chunk := await process.stdout.read(CHUNK_BYTES):
                await self._emit_text(decoder.decode(chunk), sink)
            await self._emit_text(decoder.decode(b"", final=True), sink)
            exit_code = await process.wait()
            terminated: list[JsonValue] = [*await supervised.left_running()]
        result: dict[str, JsonValue] = {"exit_code": exit_code}
        if terminated:
            result["terminated"] = terminated
        await sink.emit(MsgEventToolResult(tool_name="shell", result=result, source=SOURCE))
        await sink.emit(MsgEventEnd())
        return Outcome("COMPLETED") if exit_code == 0 else Outcome("FAILED", "exit_code")

    async def _emit_text(self, text: str, sink: Sink) -> None:
        if text:
            await sink.emit(MsgEventTextChunk(text=text, source=SOURCE))
