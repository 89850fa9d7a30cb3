"""Commands that an agent has us run: sandboxed, bounded, and gone when the run ends.

Source: ACP, "Terminals".
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from acp import RequestError
from acp.schema import CreateTerminalRequest, TerminalExitStatus
from pydantic import JsonValue

from beray.server.runners import shell_line
from beray.server.runners.acp.bounded import cut
from beray.server.runners.base import Job, Sink
from beray.server.runners.command_line import CHUNK_BYTES
from beray.server.runners.command_output import CommandOutput, CommandOutputs, left_running
from beray.server.runners.task_paths import TaskPaths
from beray.server.sandbox.sandbox import Sandbox
from beray.transfers import wire_names

OUTPUT_BYTES: Final = 1024 * 1024
"""The most that is kept of a terminal's output, whatever the agent asks for."""
OPEN_AT_ONCE: Final = 32
KEPT_RESULTS: Final = 64
"""Of how many terminals the result is remembered, for the tool calls that name them."""
RESULT_BYTES: Final = 32 * 1024
SOURCE: Final = "tools:terminal"
_Opening = AbstractAsyncContextManager[CommandOutput]
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IN_FOLDER: Final = 'cd -- "$1" || exit 1; shift; exec "$@"'


class Terminal:
    """One command, its output and its end.

    Attributes:
        exit_code: ``None`` while it runs, and where it was killed.
    """

    def __init__(self, limit: int) -> None:
        self.exit_code: int | None = None
        self.truncated = False
        self._limit = limit
        self._kept = bytearray()
        self._running: asyncio.Task[None] | None = None

    def start(self, command: list[str], job: Job, sandbox: Sandbox, shown: _Opening) -> None:
        self._running = asyncio.create_task(self._run(command, job, sandbox, shown))
        # What a sink refuses ends the whole run by itself.
        self._running.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def ended(self) -> bool:
        return self._running is not None and self._running.done()

    @property
    def status(self) -> TerminalExitStatus:
        """How it ended, once it has."""
        if self.exit_code is None:
            return TerminalExitStatus(signal="SIGKILL")
        return TerminalExitStatus(exit_code=self.exit_code)

    async def wait(self) -> None:
        """Return when the command has ended, whatever ended it."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def kill(self) -> None:
        """Kill the command and all that it started. Idempotent."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def output(self, most: int | None = None) -> str:
        """The end of what it said, from the beginning of a character on."""
        kept = bytes(self._kept[-most:]) if most else bytes(self._kept[-self._limit :])
        if self._limit == 0:
            return ""
        # Behind a cut there may be the rest of a character.
        begin = 0
        while begin < min(3, len(kept)) and kept[begin] & 0xC0 == 0x80:
            begin += 1
        return kept[begin:].decode(errors="replace")

    async def _run(self, command: list[str], job: Job, sandbox: Sandbox, shown: _Opening) -> None:
        try:
            async with shown as output:
                await self._follow(command, job, sandbox, output)
        except OSError as error:
            self._keep(f"cannot be started: {os.strerror(error.errno or 0)}\n".encode())
            self.exit_code = 126

    async def _follow(
        self, command: list[str], job: Job, sandbox: Sandbox, output: CommandOutput
    ) -> None:
        async with sandbox.observed(
            command, job.work_dir, network=job.network, gateway=job.relay
        ) as supervised:
            process = supervised.process
            assert process.stdout is not None
            while chunk := await process.stdout.read(CHUNK_BYTES):
                self._keep(chunk)
                await output.add(chunk)
            exit_code = await process.wait()
            if left := await supervised.left_running():
                begin = b"" if self._kept.endswith(b"\n") or not self._kept else b"\n"
                note = begin + f"[{left_running(left)}]\n".encode()
                self._keep(note)
                await output.add(note)
            self.exit_code = exit_code

    def _keep(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > self._limit:
            self.truncated = True
            del self._kept[: len(self._kept) - self._limit]


class Terminals:
    """The terminals of one session."""

    def __init__(self, job: Job, sandbox: Sandbox, sink: Sink, paths: TaskPaths) -> None:
        self._results: dict[str, dict[str, JsonValue]] = {}
        # Of released ones, too: the tool calls that name them end later.
        self._job = job
        self._sandbox = sandbox
        self._paths = paths
        self._open: dict[str, Terminal] = {}
        self._outputs = CommandOutputs(sink, SOURCE)
        self._count = 0

    def create(self, asked: CreateTerminalRequest) -> str:
        """Start a command and return its terminal's id.

        Raises:
            RequestError: it cannot be started like this.
        """
        if len(self._open) >= OPEN_AT_ONCE:
            raise _refusal(f"{OPEN_AT_ONCE} terminals are open; release some")
        command = self._command(asked)
        most = asked.output_byte_limit
        terminal = Terminal(OUTPUT_BYTES if most is None else min(most, OUTPUT_BYTES))
        self._count += 1
        name = f"terminal-{self._count}"
        self._open[name] = terminal
        self._results[name] = {"command": cut(" ".join([asked.command, *(asked.args or [])]), 2000)}
        while len(self._results) > KEPT_RESULTS + OPEN_AT_ONCE:
            del self._results[next(iter(self._results))]
        terminal.start(command, self._job, self._sandbox, self._outputs.open(name))
        return name

    def get(self, name: str) -> Terminal:
        """The open terminal of that id.

        Raises:
            RequestError: there is none.
        """
        if name not in self._open:
            raise _refusal("there is no such terminal")
        return self._open[name]

    def result(self, name: str) -> JsonValue:
        """What has come of a terminal so far, for the result of a tool call."""
        known = self._results.get(name)
        if known is not None and name in self._open:
            terminal = self._open[name]
            known["output"] = terminal.output(RESULT_BYTES)
            if terminal.ended:
                known["exit_code"] = terminal.exit_code
        return None if known is None else dict(known)

    async def release(self, name: str) -> None:
        """Kill the command if it still runs, and give the terminal up."""
        terminal = self.get(name)
        await terminal.kill()
        self.result(name)
        self._open.pop(name, None)

    async def close(self) -> None:
        """Kill all that still run."""
        await asyncio.gather(*(terminal.kill() for terminal in self._open.values()))
        self._open.clear()

    def _command(self, asked: CreateTerminalRequest) -> list[str]:
        """The arguments; a command without any may be a whole line for the shell."""
        words = [asked.command, *(asked.args or [])]
        environ = [(variable.name, variable.value) for variable in asked.env or []]
        if any("\0" in word for word in words) or any("\0" in value for _, value in environ):
            raise _refusal("a command has no NUL in it")
        if not asked.args:
            words = shell_line.arguments("/bin/sh", asked.command)
        if environ:
            words = ["/usr/bin/env", *_assignments(environ), *words]
        if asked.cwd is not None:
            folder = self._paths.relative(asked.cwd)
            if folder is None:
                raise _refusal(f"cwd is outside the work_dir, {self._paths.inside}")
            on_disk = os.fsdecode(wire_names.decode(folder))
            words = ["/bin/sh", "-c", _IN_FOLDER, "sh", f"./{on_disk}", *words]
        return words


def _assignments(environ: Sequence[tuple[str, str]]) -> list[str]:
    for name, _ in environ:
        if not _NAME.fullmatch(name):
            raise _refusal("a variable's name is letters, digits and underscores")
    return [f"{name}={value}" for name, value in environ]


def _refusal(reason: str) -> RequestError:
    return RequestError(-32602, reason)
