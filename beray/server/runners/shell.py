"""Runner ``shell``: a goal that starts with ``!``, run by ``/bin/sh`` in the work_dir."""

from __future__ import annotations

import codecs
from typing import Final

from pydantic import JsonValue

from beray.events import MsgEventEnd, MsgEventTextChunk, MsgEventToolResult
from beray.server.runners import shell_line
from beray.server.runners.base import Job, Outcome, Sink
from beray.server.sandbox.sandbox import Sandbox

CHUNK_BYTES: Final = 32 * 1024
SOURCE: Final = "tools:shell"


class ShellRunner:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def run(self, job: Job, sink: Sink) -> Outcome:
        command = job.goal.removeprefix("!")
        async with self._sandbox.observed(
            shell_line.arguments("/bin/sh", command),
            job.work_dir,
            network=job.network,
            gateway=job.relay,
        ) as supervised:
            process = supervised.process
            assert process.stdout is not None
            # Bytes that end in the middle of a character wait for the rest of it.
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            while chunk := await process.stdout.read(CHUNK_BYTES):
                await self._say(decoder.decode(chunk), sink)
            await self._say(decoder.decode(b"", final=True), sink)
            exit_code = await process.wait()
            left: list[JsonValue] = [*await supervised.left_running()]
        result: dict[str, JsonValue] = {"exit_code": exit_code}
        if left:
            result["terminated"] = left
        await sink.emit(MsgEventToolResult(tool_name="shell", result=result, source=SOURCE))
        await sink.emit(MsgEventEnd())
        return Outcome("COMPLETED") if exit_code == 0 else Outcome("FAILED", "exit_code")

    async def _say(self, text: str, sink: Sink) -> None:
        if text:
            await sink.emit(MsgEventTextChunk(text=text, source=SOURCE))
