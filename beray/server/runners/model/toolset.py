"""Set of a model's tools, and the handling of their errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset

from beray.events import MsgEventCustomUpdate, MsgEventSendFile
from beray.server.runners.base import Job, Sink
from beray.server.runners.model.file_tools import FileTools, ToolError
from beray.server.runners.model.search_tool import SearchTool
from beray.server.runners.model.shell_tool import ShellTool
from beray.server.runners.model.sinks import SinkFailed
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.safe_open import PathError

LAST_WRITE_SECONDS: Final = 0.5
"""Time that a cancelled tool call has to finish writing a file."""
NAME_CHARACTERS: Final = 64
"""Maximum length of a tool's name that providers accept."""
_ERROR_CHARACTERS: Final = 2_000
"""Maximum length of an error message for the model."""


@dataclass(slots=True)
class UserTools:
    """Tools that send files and messages to the user."""

    sink: Sink
    files: FileTools

    async def send_file(self, path: str) -> str:
        """Hand over a finished file of the workspace to the user.

        Args:
            path: relative to the workspace.
        """
        sent = await asyncio.to_thread(self.files.sendable, path)
        await self.sink.emit(MsgEventSendFile(path=sent))
        return f"{sent} was sent to the user"

    async def report_progress(self, message: str) -> str:
        """Tell the user in a few words what you are doing if the work takes a while.

        Args:
            message: one short sentence.
        """
        payload = {"kind": "progress", "message": message}
        await self.sink.emit(MsgEventCustomUpdate(payload=payload))
        return "the user was informed"


def build(
    settings: Settings, sandbox: Sandbox, job: Job, sink: Sink, further: Sequence[Tool[None]] = ()
) -> AbstractToolset[None]:
    """Return the built-in tools and ``further`` ones."""
    files = FileTools(job.work_dir, space=sandbox.disk_space(job.work_dir))
    user = UserTools(sink, files)
    own: list[Tool[None]] = [
        Tool(_threaded(files.read_file), name="read_file"),
        Tool(_threaded(files.write_file), name="write_file"),
        Tool(_threaded(files.edit_file), name="edit_file"),
        Tool(_threaded(files.list_files), name="list_files"),
        Tool(SearchTool(sandbox, job.work_dir, files).search_files, name="search_files"),
        Tool(
            ShellTool(
                settings=settings, sandbox=sandbox, job=job, sink=sink, files=files
            ).run_command,
            name="run_command",
        ),
        Tool(user.send_file, name="send_file"),
        Tool(user.report_progress, name="report_progress"),
    ]
    return ErrorReportingToolset(FunctionToolset([*own, *further]))


NAMES: Final = (
    "read_file", "write_file", "edit_file", "list_files", "search_files", "run_command",
    "send_file", "report_progress",
)  # fmt: skip
"""Names of the built-in tools."""


def unique_tool_name(name: str, used: set[str]) -> str:
    """Return ``name`` with valid characters and length, and not in ``used``; add it there."""
    valid = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    unique, number = valid[:NAME_CHARACTERS], 1
    while unique in used:
        number += 1
        suffix = f"_{number}"
        unique = valid[: NAME_CHARACTERS - len(suffix)] + suffix
    used.add(unique)
    return unique


@dataclass
class ErrorReportingToolset(WrapperToolset[None]):
    """Toolset whose exceptions are returned to the model as errors and do not end the run."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        """Call a tool; convert its exceptions to ``ToolFailed``, except for ``SinkFailed``."""
        try:
            return await super().call_tool(name, tool_args, ctx, tool)
        except (ModelRetry, ToolFailed, SinkFailed):
            raise
        except PathError as error:
            raise ToolFailed(error.reason) from None
        except ToolError as error:
            raise ToolFailed(str(error)) from None
        except OSError as error:
            raise ToolFailed(error.strerror or type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 - a tool can raise any exception
            message = " ".join(str(error).split())[:_ERROR_CHARACTERS]
            raise ToolFailed(f"{type(error).__name__}: {message}".removesuffix(": ")) from None


def _threaded(function: Callable[..., str]) -> Callable[..., Any]:
    """Return an asynchronous function that runs ``function`` in a thread.

    It has the same name, signature and docstring, from which the tool's description is made.
    """

    @wraps(function)
    async def threaded(*args: Any, **kwargs: Any) -> str:
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # Files must not change after the end of the run.
            await asyncio.wait([work], timeout=LAST_WRITE_SECONDS)
            raise

    return threaded
