"""Conversations over the WebSocket of a chat, and the routes that know chats by their names.

Source: the agent WebSocket API page.
"""

from __future__ import annotations

import asyncio
import json
import re
from array import array
from bisect import bisect_left
from contextlib import suppress
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, HTTPException, Path, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketState

from beray import schema
from beray.events import (
    ClientMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgGracefulDisconnect,
    MsgStatus,
    MsgUserMessage,
)
from beray.server.api.dependencies import AppServices, CurrentUser, queue_full_error
from beray.server.chats.connections import GOING_AWAY
from beray.server.chats.service import MessageRejected
from beray.server.http.active_requests import request_state
from beray.server.http.strict_json import StrictRoute
from beray.server.runtime.fair_queue import QueueFull
from beray.server.runtime.maintenance import SAID
from beray.server.services import Services
from beray.server.storage.shortage import patiently
from beray.server.storage.tables import Task
from beray.server.tasks.event_pages import EventPages
from beray.server.tasks.recent_events import LoggedEvent
from beray.server.tasks.task_pages import task_to_wire
from beray.streaming.retraction import retracted_range

HEARTBEAT_SECONDS: Final = 30.0
_UNSOUND: Final = ("INVALID_MESSAGE", "ATTACHMENT")
_ENDS: Final = ("AGENT_EVENT_END", "ERROR")
_STORED: Final = re.compile(
    rb'\{(?P<envelope>"seq":\d+,"task_id":\d+,"created_at":"[^"]*",)"type":"(?P<type>\w+)"'
)
"""How the log stores an event: see ``event_log.event_fields``."""
_OF_FILES: Final = b'"source":"files"'
_RETRACTS: Final = b'"retracts":['
_INLINE_BYTES: Final = 32 * 1024
"""Larger events are decoded in a thread."""
POLICY_VIOLATION: Final = 1008

router = APIRouter(prefix="/chats", tags=["chats"], route_class=StrictRoute)

ChatName = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f/]+$")]


@router.put("/{chat_id}")
async def open_chat(chat_id: ChatName, user: CurrentUser, app: AppServices) -> schema.Task:
    """The chat of this name as the task that it is; a new one where there is none. Ours."""
    return task_to_wire(await app.chats.open(user.id, chat_id))


@router.get("/{chat_id}")
async def get_chat(chat_id: ChatName, user: CurrentUser, app: AppServices) -> schema.Task:
    """The chat of this name as the task that it is. Ours."""
    task = await run_in_threadpool(app.store.chat, user.id, chat_id)
    if task is None:
        raise HTTPException(404, f"There is no chat {chat_id!r}.")
    return task_to_wire(task)


class NewMessage(BaseModel):
    text: str
    attachments: list[str] = Field(default_factory=list)
    """Files of the chat's work_dir."""


@router.post("/{chat_id}/messages", status_code=202)
async def send_message(
    chat_id: ChatName, body: NewMessage, user: CurrentUser, app: AppServices
) -> schema.Task:
    """Say something in a chat; a new one where there is none of this name. Ours.

    The answer is read from the chat's stream, behind the ``last_seq`` that it had before; it
    ends with the status ``INPUT_REQUIRED``. 409 while another answer is under way, or
    another client has the chat.
    """
    app.maintenance.require_off()
    task = await app.chats.open(user.id, chat_id)
    message = MsgUserMessage(text=body.text, attachments=body.attachments)
    if app.chat_connections.is_open(task.id):
        raise HTTPException(409, "Another client has this chat.")
    try:
        await app.chats.validate(task, message)
        await app.chats.send(task, message)
    except MessageRejected as error:
        if isinstance(error.__cause__, QueueFull):
            raise queue_full_error(error.__cause__) from None
        raise HTTPException(422 if error.code in _UNSOUND else 409, str(error)) from None
    return task_to_wire(task)


class ChatConnection:
    """One client of one chat.

    Args:
        sends_files: Whether the client knows ``AGENT_EVENT_SEND_FILE``; one that does not gets
            a custom update with the path.
    """

    def __init__(
        self, websocket: WebSocket, app: Services, task: Task, *, sends_files: bool = True
    ) -> None:
        self._websocket = websocket
        self._app = app
        self._chats = app.chats
        self._task = task
        self._sends_files = sends_files
        self._sending = asyncio.Lock()
        self._told = asyncio.Event()
        """Unset from what the user says to how the answer to it ends."""
        self._told.set()

    async def hold(self) -> None:
        """Say that the agent is there; then hand on both ways until one side leaves."""
        await self._send(_json(MsgStatus()))
        parts = {
            asyncio.create_task(self._forward()),
            asyncio.create_task(self._listen()),
        }
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            results = await asyncio.gather(*parts, return_exceptions=True)
            await self.close(1000)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def farewell(self) -> None:
        await self._send(_json(MsgGracefulDisconnect()))

    async def let_go(self) -> None:
        """Close the connection when no answer is under way on it."""
        await self._chats.wait_answered(self._task.id)
        await self._told.wait()
        await self.close(GOING_AWAY, "the server is going away")

    async def close(self, code: int, reason: str = "") -> None:
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code, reason)

    async def _forward(self) -> None:
        """Whatever is logged from now on, which the agent says, goes to the client.

        How an answer ends is said when the next one can be asked for.
        """
        log = self._app.event_log
        end: Frame | None = None
        sent = array("q")  # the seq of the frames of the answer
        async for page in log.tail(self._task.id, self._task.last_seq):
            for event in page.events:
                frame = await _frame(log.pages, self._task.id, event)
                if frame.type in _ENDS:
                    # An answer ends once: in an error, if there was one.
                    if end is None or end.type != "ERROR" or frame.type == "ERROR":
                        end = frame
                elif frame.type.startswith("AGENT_EVENT_") and not frame.is_of_files:
                    is_known = self._sends_files or frame.type != "AGENT_EVENT_SEND_FILE"
                    await self._send(_with_count(frame, sent) if is_known else _as_update(frame))
                    sent.append(event.seq)
                elif frame.type == "TASK_STATUS" and frame.waits:
                    del sent[:]
                    if end is not None:
                        await self._send(end.text)
                    end = None
                    self._told.set()

    async def _listen(self) -> None:
        while True:
            message = await self._websocket.receive()
            # Messages that had arrived when the session ended are not carried out.
            if message["type"] == "websocket.disconnect" or self._has_ended():
                return
            try:
                await self._take(message.get("text"))
            except MessageRejected as error:
                await self._send(_json(MsgError(code=error.code, details=str(error))))

    def _has_ended(self) -> bool:
        opened = request_state(self._websocket.scope).opened
        return opened is not None and opened.ended

    async def _take(self, frame: str | None) -> None:
        if frame is None:
            raise MessageRejected("UNEXPECTED_MSG_TYPE", "Frames are JSON text, not bytes.")
        try:
            message = ClientMessage.validate_json(frame)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise MessageRejected("INVALID_MESSAGE", f"{place}: {problem['msg']}") from None
        await patiently(lambda: self._chats.validate(self._task, message))
        if self._app.maintenance.on:
            raise MessageRejected("MAINTENANCE", SAID)
        self._told.clear()
        try:
            await self._chats.send(self._task, message)
        except MessageRejected:
            if not self._chats.is_answering(self._task.id):
                self._told.set()
            raise

    async def _send(self, text: str) -> None:
        async with self._sending:
            # A client that has gone is noticed by who listens to it.
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.send_text(text)


def _as_update(frame: Frame) -> str:
    """Return a file that the agent sends as a frame that clients of version 1.0 know."""
    payload = {"kind": "send_file", "path": json.loads(frame.text)["path"]}
    return _json(MsgEventCustomUpdate(payload=payload))


def _json(message: BaseModel) -> str:
    return json.dumps(message.model_dump(), ensure_ascii=False)


class Frame(NamedTuple):
    """An event without its envelope, as a frame carries it."""

    type: str
    text: str
    is_of_files: bool
    """Whether it is an update of the watcher of the work_dir."""
    waits: bool
    """Whether it is a status that the next message may follow."""
    retracts: tuple[int, int] | None
    """``seq`` of the first and the last event that it retracts."""


async def _frame(pages: EventPages, task_id: int, event: LoggedEvent) -> Frame:
    """Return an event as a frame. Its stored JSON is passed on, not encoded again."""
    body = b"".join([piece async for piece in pages.body(task_id, event)])
    found = _STORED.match(body)
    fields: dict[str, Any] = {}
    needs_fields = _OF_FILES in body or _RETRACTS in body
    if found is None or found["type"] == b"TASK_STATUS" or needs_fields:
        is_small = len(body) <= _INLINE_BYTES
        fields = json.loads(body) if is_small else await run_in_threadpool(json.loads, body)
    if found is None:
        bare = {name: value for name, value in fields.items() if name not in schema.EVENT_ENVELOPE}
        kind, text = str(fields.get("type")), json.dumps(bare, ensure_ascii=False)
    else:
        kind, text = found["type"].decode(), "{" + body[found.end("envelope") :].decode()
    is_of_files = fields.get("source") == "files"
    waits = fields.get("status") == "INPUT_REQUIRED"
    return Frame(kind, text, is_of_files, waits, retracted_range(fields))


def _with_count(frame: Frame, sent: array[int]) -> str:
    """Return the text of a frame, whose ``retracts`` is the number of frames ``sent`` before it.

    A client that connected after the retracted events gets the text without the field.
    """
    if frame.retracts is None:
        return frame.text
    fields = json.loads(frame.text)
    del fields["retracts"]
    if count := len(sent) - bisect_left(sent, frame.retracts[0]):
        fields["retracts"] = count
    return json.dumps(fields, ensure_ascii=False)
