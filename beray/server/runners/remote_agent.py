"""Runner ``agent``: forwards goals to a remote agent over the agent WebSocket API.

The goal is sent as a message with the files of the work_dir as attachments. The agent's events
become events of the task, and files that it sends are saved in the work_dir.

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
from beray.schema import MAX_ATTACHMENTS, from_workspace
from beray.server.http.integers import declared_size
from beray.server.runners.base import Job, Outcome, Sink, Usage
from beray.server.settings import Settings
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.disk_usage import DiskLimits
from beray.server.workspace.workspace import PathError, open_work_dir
from beray.transfers import file_modes

LEAVE_SECONDS: Final = 0.8
"""Maximum duration of the requests that stop or delete the remote chat."""
_BLOCK: Final = 1024 * 1024
_PAGE_ENTRIES: Final = 1000


class AgentRunner:
    """Runner that forwards each goal to the agent at ``settings.agent_url``."""

    def __init__(self, *, settings: Settings) -> None:
        self._settings = settings

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Send the goal and log the agent's answer."""
        await sink.charge(Usage())
        url, token = str(self._settings.agent_url), self._settings.agent_token
        secret = token.get_secret_value() if token is not None else None
        # A local chat continues one remote chat; each task has a remote chat of its own.
        kind = "chat" if job.chat else "task"
        name = f"beray-{kind}-{job.task_id}" + ("" if kind == "chat" else f"-{uuid4().hex[:8]}")
        limits = DiskLimits(self._settings.work_dir_bytes, self._settings.work_dir_files)
        space = DiskQuota(job.work_dir, limits)
        client = BeRayClient(url, secret, max_retries=1)
        files = _RemoteFiles(client=client, chat=name, work_dir=job.work_dir, space=space)
        try:
            api = AgentApi(
                "agent",
                base_url=url,
                callback=lambda message: self._log_unknown(message, sink),
                chat_id=name,
                token=secret,
            )
            return await self._answer(api, files, job, sink)
        except AgentException as error:
            lost = error.code in ("CONNECTION_ERROR", "NOT_CONNECTED", "TIMEOUT")
            code = "LOST_WORKER" if lost else error.code
            details = f"The agent at {url} reported an error: {error.details}"
            await sink.emit(MsgError(code=code, details=details))
            return Outcome("FAILED", "lost_worker" if lost else "agent")
        except BeRayException as error:
            details = f"Transferring files to the agent at {url} failed: {error}"
            await sink.emit(MsgError(code="AGENT", details=details))
            return Outcome("FAILED", "agent")
        finally:
            await files.leave(delete=kind == "task")

    async def _answer(self, api: AgentApi, files: _RemoteFiles, job: Job, sink: Sink) -> Outcome:
        async with api:
            attached = await files.attach(sink)
            async with api.send_message(job.goal, attached) as answer:
                async for message in answer:
                    await self._handle(message, files, sink)
        return Outcome("COMPLETED")

    async def _log_unknown(self, message: AnyServerMessage, sink: Sink) -> None:
        """Log a message of unknown type, which is not part of the answer."""
        if isinstance(message, MsgUnknown):
            payload = {"kind": "agent", "message": message.model_dump()}
            await sink.emit(MsgEventCustomUpdate(payload=payload))

    async def _handle(self, message: AgentEventUnion, files: _RemoteFiles, sink: Sink) -> None:
        match message:
            case MsgEventSendFile():
                await files.fetch(message.path, sink)
            case MsgEventEnd():
                # The message does not distinguish input tokens and output tokens.
                await sink.record(Usage(requests=1, output_tokens=message.tokens_used))
                await sink.emit(message)
            case _:
                await sink.emit(EVENT.validate_python(message.model_dump()))


class _RemoteFiles:
    """Transfer of files between the local work_dir and the remote chat."""

    def __init__(self, *, client: BeRayClient, chat: str, work_dir: Path, space: DiskQuota) -> None:
        self._space = space
        self._client = client
        self._chat = chat
        self._work_dir = work_dir
        self._task_id: int | None = None

    async def attach(self, sink: Sink) -> list[str]:
        """Upload the files of the work_dir and return their remote paths."""
        paths = await asyncio.to_thread(self._paths)
        if not paths:
            return []
        try:
            await asyncio.to_thread(self._upload, paths)
        except NotFoundError:
            message = (
                "The agent's server does not support file uploads, so the agent does not have "
                "the task's files."
            )
            await sink.emit(MsgEventCustomUpdate(payload={"kind": "agent", "message": message}))
            return []
        return paths

    def _paths(self) -> list[str]:
        """Return the first files of the work_dir, at most as many as a message can attach."""
        paths: list[str] = []
        after: tuple[bytes, ...] | None = ()
        with open_work_dir(self._work_dir) as workspace:
            while after is not None and len(paths) < MAX_ATTACHMENTS:
                page = workspace.page(limit=_PAGE_ENTRIES, after=after)
                paths += [item["path"] for item in page.items if item["type"] == "file"]
                after = page.end
        return paths[:MAX_ATTACHMENTS]

    def _upload(self, paths: list[str]) -> None:
        self._task_id = self._client.open_chat(self._chat)["id"]
        with open_work_dir(self._work_dir) as workspace:
            for path in paths:
                file, status = workspace.open_file(path)
                with file:
                    self._client.upload_file(self._task_id, path, file, mode=status.st_mode)

    async def fetch(self, path: str, sink: Sink) -> None:
        """Download a file that the agent sends into the work_dir, then log its path."""
        local_path = from_workspace(path)
        try:
            await asyncio.to_thread(self._download, local_path)
        except (PathError, BeRayException, OSError) as error:
            problem = f"The agent sent {path}, but saving it failed: {error}"
            await sink.emit(MsgEventCustomUpdate(payload={"kind": "agent", "message": problem}))
        else:
            await sink.emit(MsgEventSendFile(path=local_path))

    def _download(self, path: str) -> None:
        if self._task_id is None:
            self._task_id = self._client.open_chat(self._chat)["id"]
        response = self._client.get_file_content(self._task_id, path, stream=True)
        opened = open_work_dir(self._work_dir, self._space)
        mode = file_modes.parse(response.headers.get(file_modes.HEADER))
        with response, opened as workspace, workspace.write(path, mode) as file:
            file.reserve(declared_size(response.headers))
            for block in response.iter_content(_BLOCK):
                file.write(block)

    async def leave(self, *, delete: bool) -> None:
        """Stop the remote answer.

        Args:
            delete: Delete the remote chat with its files.
        """
        leaving = asyncio.ensure_future(asyncio.to_thread(self._leave, delete))
        # A server that does not respond must not delay the end of the run.
        await asyncio.wait([leaving], timeout=LEAVE_SECONDS)

    def _leave(self, delete: bool) -> None:
        with suppress(BeRayException):
            if self._task_id is None:
                self._task_id = self._client.get_chat(self._chat)["id"]
            if delete:
                self._client.delete_task(self._task_id)
            else:
                self._client.stop_task(self._task_id)
        self._client.close()
