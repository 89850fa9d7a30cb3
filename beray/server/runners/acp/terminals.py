"""Terminals of an agent: commands that run in the sandbox and end with the run at the latest.

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

from beray.server.runners.acp.blocks import truncate
from beray.server.runners.base import Job, Sink
from beray.server.runners.command_line import CHUNK_BYTES
from beray.server.runners.command_output import CommandOutput, CommandOutputs, termination_message
from beray.server.runners.shell import shell_command
from beray.server.runners.task_paths import TaskPaths
from beray.server.sandbox.sandbox import Sandbox
from beray.transfers import wire_names

OUTPUT_BYTES: Final = 1024 * 1024
"""Upper limit of the output kept of a terminal; agents can request less."""
MAX_OPEN: Final = 32
KEPT_RESULTS: Final = 64
"""Number of released terminals whose results are kept for the tool calls that name them."""
RESULT_BYTES: Final = 32 * 1024
"""Maximum size of a terminal's output in the result of a tool call."""
SOURCE: Final = "tools:terminal"
_OpenOutput = AbstractAsyncContextManager[CommandOutput]
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RUN_IN_DIRECTORY: Final = 'cd -- "$1" || exit 1; shift; exec "$@"'


class AgentTerminal:
    """Command of an agent with its output and its exit status.

    Args:
        limit: Number of output bytes that are kept.

    Attributes:
        exit_code: Exit status; None while the command runs, and if it was killed.
        truncated: Whether earlier output was discarded.
    """

    def __init__(self, limit: int) -> None:
        self.exit_code: int | None = None
        self.truncated = False
        self._limit = limit
        self._kept = bytearray()
        self._running: asyncio.Task[None] | None = None

    def start(self, command: list[str], job: Job, sandbox: Sandbox, output: _OpenOutput) -> None:
        """Start the command; its output goes to ``output`` as well."""
        self._running = asyncio.create_task(self._run(command, job, sandbox, output))
        # An exception of the sink aborts the run by itself.
        self._running.add_done_callback(lambda task: task.cancelled() or task.exception())

    @property
    def ended(self) -> bool:
        """True if the command has ended."""
        return self._running is not None and self._running.done()

    @property
    def status(self) -> TerminalExitStatus:
        """Exit status of the command. To be used only after its end."""
        if self.exit_code is None:
            return TerminalExitStatus(signal="SIGKILL")
        return TerminalExitStatus(exit_code=self.exit_code)

    async def wait(self) -> None:
        """Wait until the command has exited or was killed."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def kill(self) -> None:
        """Kill the command and its descendants. Idempotent."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def output(self, max_bytes: int | None = None) -> str:
        """Return the last ``max_bytes`` of the output, by default as many as are kept."""
        data = bytes(self._kept[-(max_bytes or self._limit) :])
        if self._limit == 0:
            return ""
        # Skip the rest of a truncated character.
        start = 0
        while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
            start += 1
        return data[start:].decode(errors="replace")

    async def _run(
        self, command: list[str], job: Job, sandbox: Sandbox, output: _OpenOutput
    ) -> None:
        try:
            async with output as opened:
                await self._execute(command, job, sandbox, opened)
        except OSError as error:
            self._keep(f"cannot be started: {os.strerror(error.errno or 0)}\n".encode())
            self.exit_code = 126

    async def _execute(
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
            if terminated := await supervised.left_running():
                newline = b"" if self._kept.endswith(b"\n") or not self._kept else b"\n"
                note = newline + f"[{termination_message(terminated)}]\n".encode()
                self._keep(note)
                await output.add(note)
            self.exit_code = exit_code

    def _keep(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > self._limit:
            self.truncated = True
            del self._kept[: len(self._kept) - self._limit]


class AgentTerminals:
    """Terminals of one session."""

    def __init__(self, *, job: Job, sandbox: Sandbox, sink: Sink, paths: TaskPaths) -> None:
        self._job = job
        self._sandbox = sandbox
        self._paths = paths
        self._open: dict[str, AgentTerminal] = {}
        # Includes released terminals, because the tool calls that name them end later.
        self._results: dict[str, dict[str, JsonValue]] = {}
        self._outputs = CommandOutputs(sink, SOURCE)
        self._count = 0

    def create(self, request: CreateTerminalRequest) -> str:
        """Start a command and return the id of its terminal.

        Raises:
            RequestError: Too many terminals are open, or the request is invalid.
        """
        if len(self._open) >= MAX_OPEN:
            raise _invalid(f"{MAX_OPEN} terminals are open; release one first")
        command = self._command(request)
        limit = request.output_byte_limit
        terminal = AgentTerminal(OUTPUT_BYTES if limit is None else min(limit, OUTPUT_BYTES))
        self._count += 1
        name = f"terminal-{self._count}"
        self._open[name] = terminal
        shown_command = " ".join([request.command, *(request.args or [])])
        self._results[name] = {"command": truncate(shown_command, 2000)}
        while len(self._results) > KEPT_RESULTS + MAX_OPEN:
            del self._results[next(iter(self._results))]
        terminal.start(command, self._job, self._sandbox, self._outputs.open(name))
        return name

    def get(self, name: str) -> AgentTerminal:
        """Return the open terminal with this id.

        Raises:
            RequestError: No open terminal has this id.
        """
        if name not in self._open:
            raise _invalid(f"terminal {truncate(name, 100)!r} does not exist or was released")
        return self._open[name]

    def result(self, name: str) -> JsonValue:
        """Return command, output and exit status of a terminal for the result of a tool call."""
        result = self._results.get(name)
        if result is not None and name in self._open:
            terminal = self._open[name]
            result["output"] = terminal.output(RESULT_BYTES)
            if terminal.ended:
                result["exit_code"] = terminal.exit_code
        return None if result is None else dict(result)

    async def release(self, name: str) -> None:
        """Kill the command if it still runs, and close the terminal."""
        terminal = self.get(name)
        await terminal.kill()
        self.result(name)
        self._open.pop(name, None)

    async def close(self) -> None:
        """Kill all commands that still run."""
        await asyncio.gather(*(terminal.kill() for terminal in self._open.values()))
        self._open.clear()

    def _command(self, request: CreateTerminalRequest) -> list[str]:
        """Return the program and its arguments. A command without arguments is a shell line."""
        arguments = [request.command, *(request.args or [])]
        environ = [(variable.name, variable.value) for variable in request.env or []]
        if any("\0" in argument for argument in arguments):
            raise _invalid("the command contains a NUL character")
        if any("\0" in value for _, value in environ):
            raise _invalid("the value of an environment variable contains a NUL character")
        if not request.args:
            arguments = shell_command("/bin/sh", request.command)
        if environ:
            arguments = ["/usr/bin/env", *_assignments(environ), *arguments]
        if request.cwd is not None:
            directory = self._paths.relative(request.cwd)
            if directory is None:
                raise _invalid(f"cwd is outside the work_dir, {self._paths.inside}")
            on_disk = os.fsdecode(wire_names.decode(directory))
            arguments = ["/bin/sh", "-c", _RUN_IN_DIRECTORY, "sh", f"./{on_disk}", *arguments]
        return arguments


def _assignments(environ: Sequence[tuple[str, str]]) -> list[str]:
    for name, _ in environ:
        if not _NAME.fullmatch(name):
            raise _invalid(
                f"the environment variable {truncate(name, 100)!r} has an invalid name; "
                "use letters, digits and underscores"
            )
    return [f"{name}={value}" for name, value in environ]


def _invalid(reason: str) -> RequestError:
    return RequestError(-32602, reason)
