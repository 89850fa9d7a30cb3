"""Runs shell commands for the model, sandboxed, with their output as it comes."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Sequence
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.messages import ToolReturn

from beray.server.runners import shell_line
from beray.server.runners.base import Job, Sink
from beray.server.runners.command_output import CommandOutputs, left_running
from beray.server.runners.model.file_tools import FileTools, Refused
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.safe_open import MissingPath, PathError
from beray.server.workspace.workspace import Workspace

CHUNK_BYTES: Final = 32 * 1024
SOURCE: Final = "tools:run_command"
LONGEST_SECONDS: Final = 3600.0
"""The most time that a model can give a command, where the owner does not give more."""
_SHELL: Final = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class ShellTool:
    def __init__(
        self, settings: Settings, sandbox: Sandbox, job: Job, sink: Sink, files: FileTools
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._job = job
        self._outputs = CommandOutputs(sink, SOURCE)
        self._files = files
        self._numbers = itertools.count(1)

    async def run_command(
        self, context: RunContext[None], command: str, timeout_seconds: float | None = None
    ) -> ToolReturn:
        """Run a shell command in the workspace and return its output and exit status.

        Processes that it leaves in the background are terminated when it returns.

        Args:
            command: for the shell. It has no input; nobody can answer its questions.
            timeout_seconds: after this time it is ended, and all that it started.
        """
        if "\0" in command or not command.strip():
            raise Refused("give a command, without a NUL in it")
        seconds = self._seconds(timeout_seconds)
        output = _Output(self._settings.shell_output_bytes)
        exit_code = None
        left: list[str] = []
        with self._files.open() as workspace, _Keeper(workspace, self._numbers) as keeper:
            running = self._sandbox.observed(
                shell_line.arguments(_SHELL, command),
                self._job.work_dir,
                network=self._job.network,
                gateway=self._job.relay,
            )
            async with (
                self._outputs.open(context.tool_call_id or "") as shown,
                running as supervised,
            ):
                process = supervised.process
                assert process.stdout is not None
                try:
                    async with asyncio.timeout(seconds):
                        while chunk := await process.stdout.read(CHUNK_BYTES):
                            output.add(chunk)
                            keeper.add(chunk)
                            await shown.add(chunk)
                        exit_code = await process.wait()
                        left = await supervised.left_running()
                except TimeoutError:
                    pass
            file = await asyncio.to_thread(keeper.keep) if output.is_cut else None
        return _told(output, exit_code, seconds, left, file, keeper.problem)

    def _seconds(self, asked: float | None) -> float:
        usual = self._settings.shell_seconds
        if asked is None:
            return usual
        if not asked > 0:
            raise Refused("timeout_seconds must be more than 0")
        return min(asked, max(usual, LONGEST_SECONDS))


def _told(
    output: _Output,
    exit_code: int | None,
    seconds: float,
    left: Sequence[str],
    file: str | None,
    problem: str,
) -> ToolReturn:
    """Return the output for the model; for the log, which has it already, how it ended."""
    logged: dict[str, Any] = {"exit_code": exit_code}
    lines = [output.text(file)] if output.size else []
    if exit_code is None:
        logged["timed_out_after_seconds"] = seconds
        lines.append(f"[ended after {seconds:g} s: it took too long]")
    else:
        lines.append(f"[exit status {exit_code}]")
    if left:
        logged["terminated"] = left
        lines.append(f"[{left_running(left)}. What needs them has to be in the same command.]")
    if file:
        logged["output_file"] = file
        logged["output_bytes"] = output.size
    elif problem and output.is_cut:
        lines.append(f"[its whole output could not be kept: {problem}]")
    return ToolReturn("\n".join(lines), metadata=logged)


class _Output:
    """The beginning and the end of an output, ``limit`` bytes together."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._head = bytearray()
        self._tail = bytearray()

    @property
    def is_cut(self) -> bool:
        return self.size > self._limit

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        half = self._limit // 2
        taken = half - len(self._head)
        if taken > 0:
            self._head += chunk[:taken]
            chunk = chunk[taken:]
        self._tail += chunk
        del self._tail[: max(0, len(self._tail) - (self._limit - half))]

    def text(self, file: str | None) -> str:
        head, tail = (
            bytes(part).decode("utf-8", "replace").rstrip("\n") for part in (self._head, self._tail)
        )
        if not self.is_cut:
            whole = bytes(self._head + self._tail)
            return whole.decode("utf-8", "replace").rstrip("\n")
        left_out = self.size - len(self._head) - len(self._tail)
        where = f"; all of it is in {file}" if file else ""
        return f"{head}\n[… {left_out:,} bytes are left out here{where} …]\n{tail}"


class _Keeper:
    """All of an output on its way into a file of the work_dir, if that is wanted at the end."""

    def __init__(self, workspace: Workspace, numbers: itertools.count[int]) -> None:
        self._workspace = workspace
        self._numbers = numbers
        self.problem = ""

    def __enter__(self) -> _Keeper:
        self._path = ""
        self._writer = None
        try:
            self._path = self._free_path()
            self._writer = self._workspace.write(self._path)
        except (PathError, OSError) as error:
            self.problem = _why(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.discard()

    def add(self, chunk: bytes) -> None:
        if self._writer is None or self.problem:
            return
        try:
            self._writer.write(chunk)
        except OSError as error:
            self.problem = _why(error)

    def keep(self) -> str | None:
        """Put the file into place; return its path, or ``None`` where that fails."""
        if self._writer is None or self.problem:
            return None
        try:
            self._writer.commit()
        except (PathError, OSError) as error:
            self.problem = _why(error)
            return None
        return self._path

    def _free_path(self) -> str:
        for number in self._numbers:
            path = f".beray/output-{number}.txt"
            try:
                self._workspace.open_file(path)[0].close()
            except MissingPath:
                return path
        raise AssertionError("there is always another number")


def _why(error: PathError | OSError) -> str:
    return error.reason if isinstance(error, PathError) else error.strerror or "an error"
