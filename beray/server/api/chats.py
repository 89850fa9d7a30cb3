"""Routes of chats, ``/chats``, and the connections of the agent WebSocket.

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
from beray.server.api.dependencies import (
    AppServices,
    TaskReader,
    TaskWriter,
    queue_full_error,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.chats.connections import GOING_AWAY
from beray.server.chats.service import MessageRejected
from beray.server.http.active_requests import request_state
from beray.server.http.strict_json import StrictRoute
from beray.server.http.validation_errors import from_validation_error
from beray.server.runtime.fair_queue import QueueFull
from beray.server.runtime.maintenance import MAINTENANCE_MESSAGE
from beray.server.services import Services
from beray.server.storage.shortage import retry_on_shortage
from beray.server.storage.tables import Task
from beray.server.tasks.event_pages import EventPages
from beray.server.tasks.recent_events import LoggedEvent
from beray.server.tasks.task_pages import task_to_wire
from beray.streaming.retraction import retracted_range

HEARTBEAT_SECONDS: Final = 30.0
_INVALID_MESSAGE_CODES: Final = ("INVALID_MESSAGE", "ATTACHMENT")
_END_TYPES: Final = ("AGENT_EVENT_END", "ERROR")
_STORED_EVENT: Final = re.compile(
    rb'\{(?P<envelope>"seq":\d+,"task_id":\d+,"created_at":"[^"]*",)"type":"(?P<type>\w+)"'
)
"""Prefix of the stored JSON of an event; see ``event_log.event_fields``."""
_FROM_WATCHER: Final = b'"source":"files"'
_RETRACTS: Final = b'"retracts":['
_INLINE_BYTES: Final = 32 * 1024
"""Size above which an event is decoded in a thread."""
POLICY_VIOLATION: Final = 1008

router = APIRouter(prefix=f"{schema.API_PREFIX}/chats", tags=["chats"], route_class=StrictRoute)

ChatName = Annotated[
    str,
    Path(
        min_length=1,
        max_length=schema.MAX_CHAT_NAME_CHARS,
        pattern=schema.CHAT_NAME_PATTERN,
        description="Name of the chat.",
    ),
]


@router.put("/{chat_id}")
async def open_chat(chat_id: ChatName, user: TaskWriter, app: AppServices) -> schema.Task:
    """Return the chat with this name as a task; create it if it does not exist.

    BeRay extension.
    """
    return task_to_wire(await app.chats.open(user.id, chat_id))


@router.get("/{chat_id}", responses=error_statuses({404: "The chat does not exist."}))
async def get_chat(chat_id: ChatName, user: TaskReader, app: AppServices) -> schema.Task:
    """Return the chat with this name as a task. BeRay extension."""
    task = await run_in_threadpool(app.chat_repository.find, user.id, chat_id)
    if task is None:
        raise HTTPException(404, f"Chat {chat_id!r} does not exist.")
    return task_to_wire(task)


class ChatMessageRequest(BaseModel):
    """Body of a message to a chat's agent."""

    text: str
    attachments: list[str] = Field(
        default_factory=list, description="Paths of files in the chat's work_dir."
    )


@router.post(
    "/{chat_id}/messages",
    status_code=202,
    responses=error_statuses(
        {
            409: "Another answer is being written, or another client is connected to the chat.",
            422: "The message or the name of the chat is invalid.",
            429: "As many messages of the user wait as `BERAY_USER_QUEUED` permits.",
            503: "The server is being maintained.",
        }
    ),
)
async def send_message(
    chat_id: ChatName, body: ChatMessageRequest, user: TaskWriter, app: AppServices
) -> schema.Task:
    """Send a message to a chat's agent; create the chat if it does not exist. BeRay extension.

    The answer consists of the events of the chat's stream after its previous `last_seq`, up to
    the status `INPUT_REQUIRED`. 409 while another answer is being written, or while another
    client is connected to the chat.
    """
    app.maintenance.require_off()
    task = await app.chats.open(user.id, chat_id)
    message = MsgUserMessage(text=body.text, attachments=body.attachments)
    if app.chat_connections.is_connected(task.id):
        raise HTTPException(
            409, f"Another client is connected to chat {chat_id!r}. Try again after it has left."
        )
    try:
        await app.chats.validate(task, message)
        await app.chats.send(task, message)
    except MessageRejected as error:
        if isinstance(error.__cause__, QueueFull):
            raise queue_full_error(error.__cause__) from None
        status = 422 if error.code in _INVALID_MESSAGE_CODES else 409
        raise HTTPException(status, str(error)) from None
    return task_to_wire(task)


class ChatConnection:
    """Connection of a client to a chat.

    Args:
        websocket: The connection.
        app: Services of the server.
        task: The chat.
        sends_files: Whether the client supports ``AGENT_EVENT_SEND_FILE``; otherwise it gets a
            custom update with the path of the file.
    """

    def __init__(
        self, websocket: WebSocket, *, app: Services, task: Task, sends_files: bool = True
    ) -> None:
        self._websocket = websocket
        self._app = app
        self._chats = app.chats
        self._executor = app.executor
        self._task = task
        self._sends_files = sends_files
        self._sending = asyncio.Lock()
        self._idle = asyncio.Event()
        """Cleared from a user's message until the end of the answer was sent."""
        self._idle.set()

    async def serve(self) -> None:
        """Send the agent's status, then pass on messages and events until one side closes."""
        await self._send(_json(MsgStatus()))
        directions = {
            asyncio.create_task(self._send_events()),
            asyncio.create_task(self._receive_messages()),
        }
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            results = await asyncio.gather(*directions, return_exceptions=True)
            await self.close(1000)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def send_disconnect_notice(self) -> None:
        """Notify the client that the server is stopping."""
        await self._send(_json(MsgGracefulDisconnect()))

    async def close_after_answer(self) -> None:
        """Wait for the end of the current answer, then close the connection."""
        await self._executor.wait_ended(self._task.id)
        await self._idle.wait()
        await self.close(GOING_AWAY, "the server is going away")

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection, if it is open, with a status code of RFC 6455."""
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code, reason)

    async def _send_events(self) -> None:
        """Send new events of the agent to the client.

        The end of an answer is sent when the chat accepts the next message.
        """
        log = self._app.event_log
        end: EventFrame | None = None
        sent = array("q")  # seq of each event of the answer that was sent
        async for page in log.tail(self._task.id, self._task.last_seq):
            for event in page.events:
                frame = await _frame(log.pages, self._task.id, event)
                if frame.type in _END_TYPES:
                    # An answer has one end: an error takes precedence.
                    if end is None or end.type != "ERROR" or frame.type == "ERROR":
                        end = frame
                elif frame.type.startswith("AGENT_EVENT_") and not frame.is_from_watcher:
                    is_known = self._sends_files or frame.type != "AGENT_EVENT_SEND_FILE"
                    await self._send(_with_count(frame, sent) if is_known else _as_update(frame))
                    sent.append(event.seq)
                elif frame.type == "TASK_STATUS" and frame.is_input_required:
                    del sent[:]
                    if end is not None:
                        await self._send(end.text)
                    end = None
                    self._idle.set()

    async def _receive_messages(self) -> None:
        while True:
            message = await self._websocket.receive()
            # Messages that arrived before the session ended are ignored afterwards.
            if message["type"] == "websocket.disconnect" or self._has_ended():
                return
            try:
                await self._handle_message(message.get("text"))
            except MessageRejected as error:
                await self._send(_json(MsgError(code=error.code, details=str(error))))

    def _has_ended(self) -> bool:
        active = request_state(self._websocket.scope).active
        return active is not None and active.ended

    async def _handle_message(self, frame: str | None) -> None:
        if frame is None:
            raise MessageRejected(
                "UNEXPECTED_MSG_TYPE", "The message is binary. Send JSON in a text frame."
            )
        try:
            message = ClientMessage.validate_json(frame)
        except ValidationError as error:
            problem = from_validation_error(error.errors(include_url=False)[0]).sanitized()
            text = str(problem) if problem.loc else f"The message {problem.msg}."
            raise MessageRejected("INVALID_MESSAGE", text) from None
        await retry_on_shortage(lambda: self._chats.validate(self._task, message))
        if self._app.maintenance.on:
            raise MessageRejected("MAINTENANCE", MAINTENANCE_MESSAGE)
        self._idle.clear()
        try:
            await self._chats.send(self._task, message)
        except MessageRejected:
            if not self._executor.has_run(self._task.id):
                self._idle.set()
            raise

    async def _send(self, text: str) -> None:
        async with self._sending:
            # ``_receive_messages`` notices that a client has disconnected.
            with suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.send_text(text)


def _as_update(frame: EventFrame) -> str:
    """Return the frame of a sent file in the form that clients of version 1.0 understand."""
    payload = {"kind": "send_file", "path": json.loads(frame.text)["path"]}
    return _json(MsgEventCustomUpdate(payload=payload))


def _json(message: BaseModel) -> str:
    return json.dumps(message.model_dump(), ensure_ascii=False)


class EventFrame(NamedTuple):
    """An event as it is sent on the WebSocket, without ``seq``, ``task_id`` and ``created_at``.

    Attributes:
        type: Type of the event.
        text: JSON of the event.
        is_from_watcher: True for updates of the watcher of the work_dir.
        is_input_required: True for the status after which the chat accepts the next message.
        retracts: ``seq`` of the first and the last event that the event retracts.
    """

    type: str
    text: str
    is_from_watcher: bool
    is_input_required: bool
    retracts: tuple[int, int] | None


async def _frame(pages: EventPages, task_id: int, event: LoggedEvent) -> EventFrame:
    """Return an event as a frame. Its stored JSON is passed on without encoding it again."""
    body = b"".join([piece async for piece in pages.body(task_id, event)])
    found = _STORED_EVENT.match(body)
    fields: dict[str, Any] = {}
    needs_fields = _FROM_WATCHER in body or _RETRACTS in body
    if found is None or found["type"] == b"TASK_STATUS" or needs_fields:
        is_small = len(body) <= _INLINE_BYTES
        fields = json.loads(body) if is_small else await run_in_threadpool(json.loads, body)
    if found is None:
        bare = {name: value for name, value in fields.items() if name not in schema.EVENT_ENVELOPE}
        kind, text = str(fields.get("type")), json.dumps(bare, ensure_ascii=False)
    else:
        kind, text = found["type"].decode(), "{" + body[found.end("envelope") :].decode()
    is_from_watcher = fields.get("source") == "files"
    is_input_required = fields.get("status") == "INPUT_REQUIRED"
    return EventFrame(kind, text, is_from_watcher, is_input_required, retracted_range(fields))


def _with_count(frame: EventFrame, sent: array[int]) -> str:
    """Return the JSON of a frame with the number of retracted frames in ``retracts``.

    On the WebSocket, events have no ``seq``: the client retracts that many of the last frames. A
    client that connected after the retracted events gets the JSON without the field.

    Args:
        frame: EventFrame of the event.
        sent: ``seq`` of the events of the answer that were sent before.
    """
    if frame.retracts is None:
        return frame.text
    fields = json.loads(frame.text)
    del fields["retracts"]
    if count := len(sent) - bisect_left(sent, frame.retracts[0]):
        fields["retracts"] = count
    return json.dumps(fields, ensure_ascii=False)
