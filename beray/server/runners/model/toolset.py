"""All tools that a model has, and what happens when one of them fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, ToolsetTool, WrapperToolset

from beray.events import MsgEventCustomUpdate, MsgEventSendFile
from beray.server.runners.base import Job, Sink
from beray.server.runners.model.file_tools import FileTools, Refused
from beray.server.runners.model.search_tool import SearchTool
from beray.server.runners.model.shell_tool import ShellTool
from beray.server.runners.model.sinks import SinkFailed
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.safe_open import PathError

LAST_WRITE_SECONDS: Final = 0.5
_ANSWER_CHARACTERS: Final = 2_000
"""Most that the model is told of what went wrong."""


@dataclass(slots=True)
class Talk:
    """The tools that say something to the user."""

    sink: Sink
    files: FileTools

    async def send_file(self, path: str) -> str:
        """Hand a finished file of the workspace to the user.

        Args:
            path: relative to the workspace.
        """
        sent = await asyncio.to_thread(self.files.sendable, path)
        await self.sink.emit(MsgEventSendFile(path=sent))
        return f"{sent} was sent to the user"

    async def report_progress(self, message: str) -> str:
        """Tell the user in a few words what you are doing, when the work takes longer.

        Args:
            message: one short sentence.
        """
        payload = {"kind": "progress", "message": message}
        await self.sink.emit(MsgEventCustomUpdate(payload=payload))
        return "told"


def build(
    settings: Settings, sandbox: Sandbox, job: Job, sink: Sink, further: Sequence[Tool[None]] = ()
) -> AbstractToolset[None]:
    """The tools of the work_dir, and ``further`` ones."""
    files = FileTools(job.work_dir, sandbox.disk_space(job.work_dir))
    talk = Talk(sink, files)
    own: list[Tool[None]] = [
        Tool(_threaded(files.read_file), name="read_file"),
        Tool(_threaded(files.write_file), name="write_file"),
        Tool(_threaded(files.edit_file), name="edit_file"),
        Tool(_threaded(files.list_files), name="list_files"),
        Tool(SearchTool(sandbox, job.work_dir, files).search_files, name="search_files"),
        Tool(ShellTool(settings, sandbox, job, sink, files).run_command, name="run_command"),
        Tool(talk.send_file, name="send_file"),
        Tool(talk.report_progress, name="report_progress"),
    ]
    return Guarded(FunctionToolset([*own, *further]))


NAMES: Final = (
    "read_file", "write_file", "edit_file", "list_files", "search_files", "run_command",
    "send_file", "report_progress",
)  # fmt: skip


@dataclass
class Guarded(WrapperToolset[None]):
    """Whatever a tool raises is an answer to the model, and never the end of the run."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:
        try:
            return await super().call_tool(name, tool_args, ctx, tool)
        except (ModelRetry, ToolFailed, SinkFailed):
            raise
        except PathError as error:
            raise ToolFailed(error.reason) from None
        except Refused as error:
            raise ToolFailed(str(error)) from None
        except OSError as error:
            raise ToolFailed(error.strerror or type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 - of a tool, anything can be expected
            said = " ".join(str(error).split())[:_ANSWER_CHARACTERS]
            raise ToolFailed(f"{type(error).__name__}: {said}".removesuffix(": ")) from None


def _threaded(function: Callable[..., str]) -> Callable[..., Any]:
    """``function`` in a thread, with its own name, signature and description."""

    @wraps(function)
    async def threaded(*args: Any, **kwargs: Any) -> str:
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # After the run's end, no file changes any more.
            await asyncio.wait([work], timeout=LAST_WRITE_SECONDS)
            raise

    return threaded
