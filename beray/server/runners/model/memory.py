"""Message history of a chat or task in pydantic-ai's types, recorded during a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
    repair_messages,
)

from beray.server.runners.chat_history import ChatHistory, Record
from beray.server.runners.model.sinks import SinkFailed

log = structlog.get_logger("beray.model")


class MessageHistory:
    """Messages before a run, and recorder of the messages that the run adds.

    Args:
        path: File of the history; None if messages are not recorded.
        prompt: Goal or message that the run answers. It is recorded unless the history ends with
            it already.

    Attributes:
        messages: Messages before the prompt, with a result for every tool call.

    Raises:
        OSError: The history exists and cannot be read.
    """

    def __init__(self, path: Path | None, prompt: str) -> None:
        self._history = ChatHistory(path) if path is not None else None
        records = self._history.records() if self._history is not None else []
        record = {"kind": "user", "text": prompt}
        if records and {**records[-1], "seq": 0} == {**record, "seq": 0}:
            records.pop()  # recorded by the server, or by a run that could not start
        elif self._history is not None:
            self._history.append(record)
        self.messages = messages_of(records)
        self._requests = 0

    async def record_request(self, messages: Sequence[ModelMessage]) -> None:
        """Record the tool results at the end of a request, in the form that is sent.

        Raises:
            SinkFailed: They cannot be saved.
        """
        self._requests += 1
        # The first request ends with the prompt. A request that continues a suspended answer ends
        # with that answer.
        if self._requests > 1 and isinstance(messages[-1], ModelRequest):
            await self._append("message", messages[-1])

    def begin_answer(self) -> None:
        """Begin an answer, and discard the recorded text of an interrupted one.

        Raises:
            SinkFailed: The history cannot be written.
        """
        if self._history is not None:
            try:
                self._history.begin_answer()
            except OSError as error:
                raise SinkFailed(error) from error

    def record_text(self, text: str) -> None:
        """Record a chunk of the answer's text.

        Raises:
            SinkFailed: It cannot be saved.
        """
        if self._history is not None:
            try:
                self._history.add_text(text)
            except OSError as error:
                raise SinkFailed(error) from error

    async def record_answer(self, response: ModelResponse) -> None:
        """Record a complete answer.

        Raises:
            SinkFailed: It cannot be saved.
        """
        await self._append("message", response)

    async def record_tool_result(self, result: ToolReturnPart) -> None:
        """Record the result of one tool.

        Raises:
            SinkFailed: It cannot be saved.
        """
        await self._append("result", ModelRequest(parts=[result]))

    async def _append(self, kind: str, message: ModelMessage) -> None:
        history = self._history
        if history is None:
            return
        if isinstance(message, ModelRequest):
            message = replace(message, instructions=None)  # each run has its own instructions

        def append() -> None:
            [encoded] = json.loads(ModelMessagesTypeAdapter.dump_json([message]))
            history.append({"kind": kind, "message": encoded})

        try:
            await asyncio.to_thread(append)
        except OSError as error:
            raise SinkFailed(error) from error


def messages_of(records: Iterable[Record]) -> list[ModelMessage]:
    """Return the messages of a history in a form that providers accept.

    A tool call without a result gets one that states the interruption.
    """
    messages: list[ModelMessage] = []
    results: list[Any] = []
    for record in records:
        kind = record.get("kind")
        message = _message(record)
        if message is None:
            continue
        if kind == "result":
            results.extend(message.parts)
            continue
        # The request with all results of an answer replaces the individually recorded ones.
        if results and not (kind == "message" and isinstance(message, ModelRequest)):
            messages.append(ModelRequest(parts=results))
        results = []
        messages.append(message)
    if results:
        messages.append(ModelRequest(parts=results))
    return repair_messages(messages)


def _message(record: Record) -> ModelMessage | None:
    match record:
        case {"kind": "user", "text": str(text)}:
            return ModelRequest(parts=[UserPromptPart(text)])
        case {"kind": "text", "text": str(text)}:
            # Providers reject blank text.
            return ModelResponse(parts=[TextPart(text)]) if text.strip() else None
        case {"kind": "message" | "result", "message": message}:
            try:
                # From JSON, because binary content is validated differently in Python objects.
                [decoded] = ModelMessagesTypeAdapter.validate_json(json.dumps([message]))
            except ValidationError:
                log.error("a message of a conversation is invalid", kind=record["kind"])
                return None
            if isinstance(decoded, ModelResponse) and decoded.state == "suspended":
                # It was never continued. pydantic-ai accepts no prompt after a suspended answer.
                return replace(decoded, state="complete")
            if isinstance(decoded, ModelResponse) and decoded.finish_reason == "length":
                return _without_truncated_calls(decoded)
            return decoded
    log.error("a record of a conversation has an unknown kind")
    return None


def _without_truncated_calls(response: ModelResponse) -> ModelResponse | None:
    """Return an answer without truncated tool calls, or None if nothing remains."""
    parts = [part for part in response.parts if not _is_truncated_call(part)]
    return replace(response, parts=parts) if parts else None


def _is_truncated_call(part: object) -> bool:
    if not isinstance(part, ToolCallPart) or not isinstance(part.args, str) or not part.args:
        return False
    try:
        json.loads(part.args)
    except ValueError:
        return True
    return False
