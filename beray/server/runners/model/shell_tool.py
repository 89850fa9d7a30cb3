"""Model tool that runs shell commands in the sandbox and streams their output."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.messages import ToolReturn

from beray.server.runners.base import Job, Sink
from beray.server.runners.command_output import CommandOutputs, termination_message
from beray.server.runners.model.file_tools import FileTools, ToolError
from beray.server.runners.shell import shell_command
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.safe_open import MissingPath, PathError
from beray.server.workspace.workspace import Workspace

CHUNK_BYTES: Final = 32 * 1024
SOURCE: Final = "tools:run_command"
LONGEST_SECONDS: Final = 3600.0
"""Maximum time limit that a model can set, unless ``BERAY_SHELL_SECONDS`` is longer."""
_SHELL: Final = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


class ShellTool:
    """Shell tool of one run."""

    def __init__(
        self, *, settings: Settings, sandbox: Sandbox, job: Job, sink: Sink, files: FileTools
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._job = job
        self._outputs = CommandOutputs(sink, SOURCE)
        self._files = files
        self._numbers = itertools.count(1)

    async def run_command(  # noqa: D417 - the model reads the docstring
        self, context: RunContext[None], command: str, timeout_seconds: float | None = None
    ) -> ToolReturn:
        """Run a shell command in the workspace and return its output and exit status.

        Processes that it leaves in the background are terminated when it returns.

        Args:
            command: for the shell. It has no input; questions that it asks cannot be answered.
            timeout_seconds: after this time the command and all its processes are terminated.
        """
        if "\0" in command or not command.strip():
            raise ToolError("command must not be empty or contain NUL characters")
        seconds = self._time_limit(timeout_seconds)
        output = _TruncatedOutput(self._settings.shell_output_bytes)
        exit_code = None
        terminated: list[str] = []
        with self._files.open() as workspace, _OutputFile(workspace, self._numbers) as output_file:
            running = self._sandbox.observed(
                shell_command(_SHELL, command),
                self._job.work_dir,
                network=self._job.network,
                gateway=self._job.relay,
            )
            async with (
                self._outputs.open(context.tool_call_id or "") as events,
                running as supervised,
            ):
                process = supervised.process
                assert process.stdout is not None
                try:
                    async with asyncio.timeout(seconds):
                        while chunk := await process.stdout.read(CHUNK_BYTES):
                            output.add(chunk)
                            output_file.add(chunk)
                            await events.add(chunk)
                        exit_code = await process.wait()
                        terminated = await supervised.left_running()
                except TimeoutError:
                    pass
            path = await asyncio.to_thread(output_file.save) if output.is_truncated else None
        return _result(output, exit_code, seconds, terminated, path, output_file.problem)

    def _time_limit(self, requested: float | None) -> float:
        default = self._settings.shell_seconds
        if requested is None:
            return default
        if not requested > 0:
            raise ToolError("timeout_seconds must be greater than 0")
        return min(requested, max(default, LONGEST_SECONDS))


def _result(
    output: _TruncatedOutput,
    exit_code: int | None,
    seconds: float,
    terminated: Sequence[str],
    path: str | None,
    problem: str,
) -> ToolReturn:
    """Return output and exit status for the model, and the exit status for the log.

    The log has the output already.
    """
    logged: dict[str, Any] = {"exit_code": exit_code}
    lines = [output.text(path)] if output.size else []
    if exit_code is None:
        logged["timed_out_after_seconds"] = seconds
        lines.append(f"[terminated after {seconds:g} s: the time limit was reached]")
    else:
        lines.append(f"[exit status {exit_code}]")
    if terminated:
        logged["terminated"] = terminated
        lines.append(
            f"[{termination_message(terminated)}. Commands that need them must be part of the "
            "same call.]"
        )
    if path:
        logged["output_file"] = path
        logged["output_bytes"] = output.size
    elif problem and output.is_truncated:
        lines.append(f"[the complete output could not be saved: {problem}]")
    return ToolReturn("\n".join(lines), metadata=logged)


class _TruncatedOutput:
    """Beginning and end of an output, with ``limit`` bytes in total."""

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._head = bytearray()
        self._tail = bytearray()

    @property
    def is_truncated(self) -> bool:
        """True if the output is longer than the limit."""
        return self.size > self._limit

    def add(self, chunk: bytes) -> None:
        """Append output."""
        self.size += len(chunk)
        half = self._limit // 2
        free = half - len(self._head)
        if free > 0:
            self._head += chunk[:free]
            chunk = chunk[free:]
        self._tail += chunk
        del self._tail[: max(0, len(self._tail) - (self._limit - half))]

    def text(self, path: str | None) -> str:
        """Return the output for the model; ``path`` is the file with the complete output."""
        head, tail = (
            bytes(part).decode("utf-8", "replace").rstrip("\n") for part in (self._head, self._tail)
        )
        if not self.is_truncated:
            complete = bytes(self._head + self._tail)
            return complete.decode("utf-8", "replace").rstrip("\n")
        omitted = self.size - len(self._head) - len(self._tail)
        where = f"; the complete output is in {path}" if path else ""
        return f"{head}\n[… {omitted:,} bytes are omitted here{where} …]\n{tail}"


class _OutputFile:
    """File in the work_dir to which the complete output is written; discarded unless saved.

    Attributes:
        problem: Reason why the file cannot be written, empty if it can.
    """

    def __init__(self, workspace: Workspace, numbers: itertools.count[int]) -> None:
        self._workspace = workspace
        self._numbers = numbers
        self.problem = ""

    def __enter__(self) -> _OutputFile:
        self._path = ""
        self._writer = None
        try:
            self._path = self._unused_path()
            self._writer = self._workspace.write(self._path)
        except (PathError, OSError) as error:
            self.problem = _reason(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.discard()

    def add(self, chunk: bytes) -> None:
        """Append output."""
        if self._writer is None or self.problem:
            return
        try:
            self._writer.write(chunk)
        except OSError as error:
            self.problem = _reason(error)

    def save(self) -> str | None:
        """Give the file its final name; return its path, or None if that fails."""
        if self._writer is None or self.problem:
            return None
        try:
            self._writer.commit()
        except (PathError, OSError) as error:
            self.problem = _reason(error)
            return None
        return self._path

    def _unused_path(self) -> str:
        for number in self._numbers:
            path = f".beray/output-{number}.txt"
            try:
                self._workspace.open_file(path)[0].close()
            except MissingPath:
                return path
        raise AssertionError("the numbers are infinite")


def _reason(error: PathError | OSError) -> str:
    return error.reason if isinstance(error, PathError) else error.strerror or "an error"
