"""Runner ``agent``: an agent behind the agent WebSocket API, wherever it runs.

The goal is the message, the files of the work_dir are its attachments, what the agent
says is what the task says, and a file that it sends lands in the work_dir.

Source: the agent WebSocket API page.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from beray.agent import AgentApi, AgentException
from beray.client import BeRayClient
from beray.events import (
    EVENT,
    AgentEventUnion,
    AnyServerMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventSendFile,
    MsgUnknown,
)
from beray.exceptions import BeRayException, NotFoundError
from beray.schema import MOST_ATTACHMENTS, from_workspace
from beray.server.http.integers import declared_size
from beray.server.runners.base import Job, Outcome, Sink, Usage
from beray.server.settings import Settings
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.disk_usage import DiskLimits
from beray.server.workspace.workspace import PathError, open_work_dir
from beray.transfers import file_modes

LEAVE_SECONDS: Final = 0.8
_BLOCK: Final = 1024 * 1024
_PAGE_ENTRIES: Final = 1000


class AgentRunner:
    """Asks ``settings.agent_url``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self, job: Job, sink: Sink) -> Outcome:
        await sink.charge(Usage())
        url, token = str(self._settings.agent_url), self._settings.agent_token
        secret = token.get_secret_value() if token is not None else None
        # A chat of ours goes on as one chat there; a task begins and ends one.
        kind = "chat" if job.conversation is not None else "task"
        name = f"beray-{kind}-{job.task_id}" + ("" if kind == "chat" else f"-{uuid4().hex[:8]}")
        limits = DiskLimits(self._settings.work_dir_bytes, self._settings.work_dir_files)
        space = DiskQuota(job.work_dir, limits)
        files = _Files(BeRayClient(url, secret, max_retries=1), name, job.work_dir, space)
        try:
            api = AgentApi(
                "agent",
                base_url=url,
                callback=lambda message: self._take_other(message, sink),
                chat_id=name,
                token=secret,
            )
            return await self._answered(api, files, job, sink)
        except AgentException as error:
            lost = error.code in ("CONNECTION_ERROR", "NOT_CONNECTED", "TIMEOUT")
            code = "LOST_WORKER" if lost else error.code
            await sink.emit(MsgError(code=code, details=f"The agent: {error.details}"))
            return Outcome("FAILED", "lost_worker" if lost else "agent")
        except BeRayException as error:
            await sink.emit(MsgError(code="AGENT", details=f"The agent's files: {error}"))
            return Outcome("FAILED", "agent")
        finally:
            await files.leave(whole=kind == "task")

    async def _answered(self, api: AgentApi, files: _Files, job: Job, sink: Sink) -> Outcome:
        async with api:
            attached = await files.attach(sink)
            async with api.send_message(job.goal, attached) as answer:
                async for message in answer:
                    await self._take(message, files, sink)
        return Outcome("COMPLETED")

    async def _take_other(self, message: AnyServerMessage, sink: Sink) -> None:
        """Log a message that is not part of the answer."""
        if isinstance(message, MsgUnknown):
            payload = {"kind": "agent", "message": message.model_dump()}
            await sink.emit(MsgEventCustomUpdate(payload=payload))

    async def _take(self, message: AgentEventUnion, files: _Files, sink: Sink) -> None:
        match message:
            case MsgEventSendFile():
                await files.fetch(message.path, sink)
            case MsgEventEnd():
                # It does not say what of it was asked and what was answered.
                await sink.record(Usage(requests=1, output_tokens=message.tokens_used))
                await sink.emit(message)
            case _:
                await sink.emit(EVENT.validate_python(message.model_dump()))


class _Files:
    """The files of a chat there, and those of the work_dir here."""

    def __init__(self, client: BeRayClient, chat: str, work_dir: Path, space: DiskQuota) -> None:
        self._space = space
        self._client = client
        self._chat = chat
        self._work_dir = work_dir
        self._task_id: int | None = None

    async def attach(self, sink: Sink) -> list[str]:
        """Send the files of the work_dir; their paths there."""
        paths = await asyncio.to_thread(self._paths)
        if not paths:
            return []
        try:
            await asyncio.to_thread(self._send, paths)
        except NotFoundError:
            message = "The agent's server takes no files: those of the work_dir stay here."
            await sink.emit(MsgEventCustomUpdate(payload={"kind": "agent", "message": message}))
            return []
        return paths

    def _paths(self) -> list[str]:
        """The first files of the work_dir, as many as a message can have with it."""
        paths: list[str] = []
        after: tuple[bytes, ...] | None = ()
        with open_work_dir(self._work_dir) as workspace:
            while after is not None and len(paths) < MOST_ATTACHMENTS:
                page = workspace.page(limit=_PAGE_ENTRIES, after=after)
                paths += [item["path"] for item in page.items if item["type"] == "file"]
                after = page.end
        return paths[:MOST_ATTACHMENTS]

    def _send(self, paths: list[str]) -> None:
        self._task_id = self._client.open_chat(self._chat)["id"]
        with open_work_dir(self._work_dir) as workspace:
            for path in paths:
                file, status = workspace.open_file(path)
                with file:
                    self._client.upload_file(self._task_id, path, file, mode=status.st_mode)

    async def fetch(self, path: str, sink: Sink) -> None:
        """A file that the agent sends: into the work_dir, then into the log."""
        here = from_workspace(path)
        try:
            await asyncio.to_thread(self._fetch, here)
        except (PathError, BeRayException, OSError) as error:
            problem = f"{path} was sent and cannot be had: {error}"
            await sink.emit(MsgEventCustomUpdate(payload={"kind": "agent", "message": problem}))
        else:
            await sink.emit(MsgEventSendFile(path=here))

    def _fetch(self, path: str) -> None:
        if self._task_id is None:
            self._task_id = self._client.open_chat(self._chat)["id"]
        response = self._client.get_file_content(self._task_id, path, stream=True)
        opened = open_work_dir(self._work_dir, self._space)
        mode = file_modes.parsed(response.headers.get(file_modes.HEADER))
        with response, opened as workspace, workspace.write(path, mode) as file:
            file.reserve(declared_size(response.headers))
            for block in response.iter_content(_BLOCK):
                file.write(block)

    async def leave(self, *, whole: bool) -> None:
        """Stop what is under way there; with ``whole``, leave nothing of the chat."""
        leaving = asyncio.ensure_future(asyncio.to_thread(self._leave, whole))
        # Nobody waits for a server that does not answer.
        await asyncio.wait([leaving], timeout=LEAVE_SECONDS)

    def _leave(self, whole: bool) -> None:
        with suppress(BeRayException):
            if self._task_id is None:
                self._task_id = self._client.get_chat(self._chat)["id"]
            if whole:
                self._client.delete_task(self._task_id)
            else:
                self._client.stop_task(self._task_id)
        self._client.close()
