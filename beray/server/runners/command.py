"""Runner ``command``: executes a program of the operator with the goal as input."""

from __future__ import annotations

import asyncio
import codecs
import errno
import re
from asyncio.subprocess import Process
from collections import deque
from typing import Final

from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool

from beray.events import (
    Event,
    MsgError,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolResult,
)
from beray.server.runners import agent_homes, command_line
from beray.server.runners.agent_homes import AgentCopyError
from beray.server.runners.base import Job, Outcome, Sink, Usage
from beray.server.runners.command_line import CHUNK_BYTES, ProgramError, Tail
from beray.server.runners.event_positions import MAX_POSITIONS
from beray.server.runners.output_lines import OutputItem, OutputLines
from beray.server.runners.task_paths import TaskPaths
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.settings import Settings
from beray.server.workspace.workspace import PathError, open_work_dir
from beray.streaming.retraction import retracted_count

SETTING: Final = "BERAY_COMMAND"
SOURCE: Final = "tools:command"
STDERR: Final = "stderr"
_PLACEHOLDER: Final = re.compile(r"\{goal\}|\{model\}")


class CommandRunner:
    """Runner that starts ``settings.command`` for each goal.

    Its standard output is the answer: text, and lines of JSON that are BeRay events.
    ``AGENT_EVENT_END`` is emitted once, at the end, with the sum of the tokens that the program
    reported in its own ``AGENT_EVENT_END`` lines.
    """

    def __init__(self, *, settings: Settings, sandbox: Sandbox) -> None:
        self._settings = settings
        self._sandbox = sandbox

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Run the program. An exit status other than 0 is a failure."""
        await sink.charge(Usage())
        try:
            arguments, stdin = expand_command(self._settings.command, job)
            paths = await asyncio.to_thread(
                agent_homes.binds, self._settings, self._sandbox, job.user_id
            )
            inside = self._sandbox.inside(job.work_dir)
            output = _OutputReader(sink=sink, job=job, paths=TaskPaths(job.work_dir, inside))
            try:
                exit_code = await self._execute(arguments, paths, stdin, job, output)
            finally:
                await sink.record(output.usage)
            reason = command_line.start_failure(arguments, exit_code, output.errors.text)
            if reason is not None:
                raise ProgramError(command_line.start_failure_message(SETTING, arguments, reason))
        except (ProgramError, AgentCopyError) as error:
            await sink.emit(MsgError(code="AGENT", details=str(error)))
            return Outcome("FAILED", "agent")
        if exit_code:
            result: JsonValue = {"exit_code": exit_code}
            await sink.emit(MsgEventToolResult(tool_name="command", result=result, source=SOURCE))
        await sink.emit(MsgEventEnd(tokens_used=output.usage.tokens))
        return Outcome("FAILED", "exit_code") if exit_code else Outcome("COMPLETED")

    async def _execute(
        self, arguments: list[str], paths: list[Bind], stdin: bytes, job: Job, output: _OutputReader
    ) -> int:
        """Run the program to its end and return its exit status."""
        try:
            async with self._sandbox.agent(
                arguments, job.work_dir, paths, network=job.network, gateway=job.relay
            ) as process:
                assert process.stdout is not None and process.stderr is not None
                streams = [
                    asyncio.ensure_future(_write_stdin(process, stdin)),
                    asyncio.ensure_future(output.read_stdout(process.stdout)),
                    asyncio.ensure_future(output.read_stderr(process.stderr)),
                ]
                try:
                    await asyncio.gather(*streams[1:])
                    return await process.wait()
                finally:
                    for stream in streams:
                        stream.cancel()
                    await asyncio.gather(*streams, return_exceptions=True)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise ProgramError(
                f"The goal ({len(job.goal):,} characters) is too long for an argument of a "
                f"program. The server's operator can remove {{goal}} from {SETTING}: goals of any "
                "length are then written to the program's standard input."
            ) from None


async def _write_stdin(process: Process, data: bytes) -> None:
    """Write to standard input and close it. The program need not read it."""
    assert process.stdin is not None
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except ConnectionError:
        return
    finally:
        process.stdin.close()


def expand_command(command: str | None, job: Job) -> tuple[list[str], bytes]:
    """Return the program's arguments for a job, and the data for its standard input.

    The command line is split before ``{goal}`` and ``{model}`` are substituted, so that a value
    is never more than a part of one argument. Without ``{goal}``, the goal is written to standard
    input. If the job names no model, arguments that contain ``{model}`` are omitted; if an
    omitted argument is exactly ``{model}``, the option before it is omitted as well.

    A substituted value at the start of an argument must not begin with ``-``, because the program
    would interpret it as an option. ``--`` is not inserted automatically: not every program
    supports it, and after an option that takes the goal it would be that option's value.

    Raises:
        ProgramError: The command is empty or cannot be split, the goal contains NUL, or a value
            would be interpreted as an option.
    """
    template = command_line.split(command, SETTING)
    as_argument = any("{goal}" in argument for argument in template)
    if as_argument and "\0" in job.goal:
        raise ProgramError(
            "The goal contains a NUL character, which arguments of programs cannot contain. "
            "Remove it."
        )
    goal = job.goal.encode(errors="replace").decode()
    values = {"{goal}": goal, "{model}": (job.model or "").replace("\0", "")}
    arguments: list[str] = []
    previous = ""
    for argument in template:
        if job.model is None and "{model}" in argument:
            is_option = len(arguments) > 1 and arguments[-1].startswith("-") and previous != "--"
            if argument == "{model}" and is_option:
                arguments.pop()
            continue
        expanded = _PLACEHOLDER.sub(lambda match: values[match[0]], argument)
        if expanded.startswith("-") and not argument.startswith("-") and previous != "--":
            placeholder = "{model}" if argument.startswith("{model}") else "{goal}"
            raise ProgramError(_option(placeholder[1:-1], values[placeholder], argument))
        arguments.append(expanded)
        previous = argument
    return arguments, b"" if as_argument else goal.encode()


def _option(what: str, value: str, argument: str) -> str:
    return (
        f"The {what} {value[:40]!r} begins with '-', so the program of {SETTING} could interpret "
        f"it as an option. Begin the {what} with another character; or, if the program supports "
        f"it, the server's operator can write -- {argument} in {SETTING}."
    )


class _OutputReader:
    """Reader of the program's output that emits it as events."""

    def __init__(self, *, sink: Sink, job: Job, paths: TaskPaths) -> None:
        self.usage = Usage()
        self.errors = Tail()
        self._sink = sink
        self._job = job
        self._paths = paths
        self._emitted = 0
        self._events: deque[int] = deque(maxlen=MAX_POSITIONS)
        """Positions of the program's own events among all emitted events."""

    async def read_stdout(self, stream: asyncio.StreamReader) -> None:
        """Emit text and events until the stream ends."""
        lines = OutputLines()
        while chunk := await stream.read(CHUNK_BYTES):
            for item in lines.feed(chunk):
                await self._handle(item)
        for item in lines.end():
            await self._handle(item)

    async def read_stderr(self, stream: asyncio.StreamReader) -> None:
        """Emit text with the source ``stderr`` until the stream ends."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := await stream.read(CHUNK_BYTES):
            self.errors.add(chunk)
            await self._emit_text(decoder.decode(chunk), STDERR)
        await self._emit_text(decoder.decode(b"", final=True), STDERR)

    async def _handle(self, item: OutputItem) -> None:
        if isinstance(item, str):
            await self._emit_text(item, "main")
            return
        event, line = item
        if isinstance(event, MsgEventEnd):
            tokens = self.usage.output_tokens + max(event.tokens_used, 0)
            self.usage = Usage(output_tokens=tokens)
            await self._sink.charge(self.usage)
        elif isinstance(event, MsgEventSendFile):
            path = await run_in_threadpool(self._existing, event.path)
            if path is None:
                await self._emit_text(line, "main")
            else:
                await self._emit(event.model_copy(update={"path": path}), of_program=True)
        else:
            await self._emit(self._with_retraction_count(event), of_program=True)

    def _with_retraction_count(self, event: Event) -> Event:
        """Return the event with ``retracts`` counting all emitted events.

        The program counts its own events only, not the text that was emitted between them.
        """
        count = retracted_count(event)
        if not count:
            return event
        known = count <= len(self._events)
        emitted = self._emitted - self._events[-count] + 1 if known else 0
        return event.model_copy(update={"retracts": emitted})

    async def _emit(self, event: Event, *, of_program: bool = False) -> None:
        self._emitted += 1
        if of_program:
            self._events.append(self._emitted)
        await self._sink.emit(event)

    async def _emit_text(self, text: str, source: str) -> None:
        if text:
            await self._emit(MsgEventTextChunk(text=text, source=source))

    def _existing(self, path: str) -> str | None:
        """Return the path relative to the work_dir, or None if it is not an existing file."""
        relative = self._paths.relative(path)
        if relative is None:
            return None
        try:
            with open_work_dir(self._job.work_dir) as workspace:
                workspace.open_file(relative)[0].close()
        except PathError:
            return None
        return relative
