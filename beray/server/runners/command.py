"""Runner ``command``: any program that is given a goal and says what it does."""

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
from beray.server.runners import agent_homes
from beray.server.runners import command_line as programs
from beray.server.runners.agent_homes import AgentCopyError
from beray.server.runners.base import Job, Outcome, Sink, Usage
from beray.server.runners.command_line import CHUNK_BYTES, ProgramError, Tail
from beray.server.runners.event_positions import MAX_POSITIONS
from beray.server.runners.output_lines import OutputLines
from beray.server.runners.task_paths import TaskPaths
from beray.server.sandbox.sandbox import Bind, Sandbox
from beray.server.settings import Settings
from beray.server.workspace.workspace import PathError, open_work_dir
from beray.streaming.retraction import retracted_count

SETTING: Final = "BERAY_COMMAND"
SOURCE: Final = "tools:command"
STDERR: Final = "stderr"
_PLACE: Final = re.compile(r"\{goal\}|\{model\}")


class CommandRunner:
    """Runs ``settings.command`` for each goal.

    Its standard output is the answer: text, and among it lines of JSON that are events of
    ours. ``AGENT_EVENT_END`` is said once, at the end, with the tokens of all that it sent.
    """

    def __init__(self, settings: Settings, sandbox: Sandbox) -> None:
        self._settings = settings
        self._sandbox = sandbox

    async def run(self, job: Job, sink: Sink) -> Outcome:
        await sink.charge(Usage())
        try:
            arguments, given = command_line(self._settings.command, job)
            paths = await asyncio.to_thread(
                agent_homes.binds, self._settings, self._sandbox, job.user_id
            )
            said = _Said(sink, job, TaskPaths(job.work_dir, self._sandbox.inside(job.work_dir)))
            try:
                exit_code = await self._done(arguments, paths, given, job, said)
            finally:
                await sink.record(said.usage)
            reason = programs.unstartable(arguments, exit_code, said.errors.text)
            if reason is not None:
                raise ProgramError(programs.cannot_start(SETTING, arguments, reason))
        except (ProgramError, AgentCopyError) as error:
            await sink.emit(MsgError(code="AGENT", details=str(error)))
            return Outcome("FAILED", "agent")
        if exit_code:
            result: JsonValue = {"exit_code": exit_code}
            await sink.emit(MsgEventToolResult(tool_name="command", result=result, source=SOURCE))
        await sink.emit(MsgEventEnd(tokens_used=said.usage.tokens))
        return Outcome("FAILED", "exit_code") if exit_code else Outcome("COMPLETED")

    async def _done(
        self, arguments: list[str], paths: list[Bind], given: bytes, job: Job, said: _Said
    ) -> int:
        """Run the program to its end and return its exit status."""
        try:
            async with self._sandbox.agent(
                arguments, job.work_dir, paths, network=job.network, gateway=job.relay
            ) as process:
                assert process.stdout is not None and process.stderr is not None
                streams = [
                    asyncio.ensure_future(_hand_over(process, given)),
                    asyncio.ensure_future(said.listen(process.stdout)),
                    asyncio.ensure_future(said.listen_to_errors(process.stderr)),
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
                f"The goal is too long to be an argument of a program. Where {SETTING} has no "
                "{goal} in it, goals go to the program's standard input, at any length."
            ) from None


async def _hand_over(process: Process, given: bytes) -> None:
    """Write to standard input and close it. A program need not read it."""
    assert process.stdin is not None
    try:
        process.stdin.write(given)
        await process.stdin.drain()
    except ConnectionError:
        return
    finally:
        process.stdin.close()


def command_line(command: str | None, job: Job) -> tuple[list[str], bytes]:
    """Return the arguments for a job, and what goes to standard input.

    The line is split first; ``{goal}`` and ``{model}`` are put into the arguments then, so
    that neither is ever more than a part of one argument. Without ``{goal}``, the goal goes to
    standard input. Where the job names no model, arguments with ``{model}`` are left out, and
    with one that is nothing else the option before it.

    An argument that only a value makes begin with ``-`` would be an option of the program.
    ``--`` is not inserted: not every program understands it, and for one that takes the goal as
    the value of an option it would be the value. It has to be in the command.

    Raises:
        ProgramError: there is no program, or the goal or the model cannot be an argument.
    """
    template = programs.split(command, SETTING)
    as_argument = any("{goal}" in argument for argument in template)
    if as_argument and "\0" in job.goal:
        raise ProgramError("The goal has a NUL in it and cannot be an argument of a program.")
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
        given = _PLACE.sub(lambda place: values[place[0]], argument)
        if given.startswith("-") and not argument.startswith("-") and previous != "--":
            place = "{model}" if argument.startswith("{model}") else "{goal}"
            raise ProgramError(_option(place[1:-1], values[place], argument))
        arguments.append(given)
        previous = argument
    return arguments, b"" if as_argument else goal.encode()


def _option(what: str, value: str, argument: str) -> str:
    return (
        f"The {what} {value[:40]!r} begins with '-', and the program of {SETTING} could take it "
        f"for an option. Begin the {what} with something else; or, if the program supports it, "
        f"the server's operator can write -- {argument} in {SETTING}."
    )


class _Said:
    """What the program says, on its way into the sink."""

    def __init__(self, sink: Sink, job: Job, paths: TaskPaths) -> None:
        self.usage = Usage()
        self.errors = Tail()
        self._sink = sink
        self._job = job
        self._paths = paths
        self._emitted = 0
        self._events: deque[int] = deque(maxlen=MAX_POSITIONS)
        """Numbers of the program's events among those that were emitted."""

    async def listen(self, stream: asyncio.StreamReader) -> None:
        lines = OutputLines()
        while chunk := await stream.read(CHUNK_BYTES):
            for event in lines.feed(chunk):
                await self._take(event)
        for event in lines.end():
            await self._take(event)

    async def listen_to_errors(self, stream: asyncio.StreamReader) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := await stream.read(CHUNK_BYTES):
            self.errors.add(chunk)
            await self._say(decoder.decode(chunk), STDERR)
        await self._say(decoder.decode(b"", final=True), STDERR)

    async def _take(self, told: str | tuple[Event, str]) -> None:
        """Log text, or an event with the line that it was read from."""
        if isinstance(told, str):
            await self._say(told, "main")
            return
        event, line = told
        if isinstance(event, MsgEventEnd):
            tokens = self.usage.output_tokens + max(event.tokens_used, 0)
            self.usage = Usage(output_tokens=tokens)
            await self._sink.charge(self.usage)
        elif isinstance(event, MsgEventSendFile):
            path = await run_in_threadpool(self._existing, event.path)
            if path is None:
                await self._say(line, "main")
            else:
                await self._emit(event.model_copy(update={"path": path}), of_program=True)
        else:
            await self._emit(self._with_count(event), of_program=True)

    def _with_count(self, event: Event) -> Event:
        """Return an event whose ``retracts`` counts what was emitted, such as text on stderr."""
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

    async def _say(self, text: str, source: str) -> None:
        if text:
            await self._emit(MsgEventTextChunk(text=text, source=source))

    def _existing(self, path: str) -> str | None:
        """The path of a file, from the work_dir down; ``None`` where there is no such file."""
        relative = self._paths.relative(path)
        if relative is None:
            return None
        try:
            with open_work_dir(self._job.work_dir) as workspace:
                workspace.open_file(relative)[0].close()
        except PathError:
            return None
        return relative
