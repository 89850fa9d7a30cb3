"""History of a chat as messages of pydantic-ai, recorded while a run produces them."""

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

from beray.server.chats.history import ChatHistory, Record
from beray.server.runners.model.sinks import SinkFailed

log = structlog.get_logger("beray.model")


class Memory:
    """Messages before a run, and those that it adds.

    Args:
        path: The history of the chat; None for a task, of which nothing is recorded.
        prompt: What the run is asked.

    Raises:
        OSError: The history exists and cannot be read.
    """

    def __init__(self, path: Path | None, prompt: str) -> None:
        self._history = ChatHistory(path) if path is not None else None
        records = self._history.records() if self._history is not None else []
        asked = {"kind": "user", "text": prompt}
        if records and {**records[-1], "seq": 0} == {**asked, "seq": 0}:
            records.pop()  # the server has recorded it
        elif self._history is not None:
            self._history.append(asked)
        self.messages = messages_of(records)
        """Messages before the prompt, with a result for every tool call."""
        self._requests = 0

    async def sent(self, messages: Sequence[ModelMessage]) -> None:
        """Record the results of tools that ``messages`` end with, as they are sent.

        Raises:
            SinkFailed: They cannot be saved.
        """
        self._requests += 1
        # The first request is the prompt. One that continues a suspended answer ends with that.
        if self._requests > 1 and isinstance(messages[-1], ModelRequest):
            await self._append("message", messages[-1])

    def begin_answer(self) -> None:
        """Prepare for an answer, and forget what was streamed of one that broke off.

        Raises:
            SinkFailed: It cannot be saved.
        """
        if self._history is not None:
            try:
                self._history.begin_answer()
            except OSError as error:
                raise SinkFailed(error) from error

    def streamed(self, text: str) -> None:
        """Record a piece of the text of the answer.

        Raises:
            SinkFailed: It cannot be saved.
        """
        if self._history is not None:
            try:
                self._history.add_text(text)
            except OSError as error:
                raise SinkFailed(error) from error

    async def answered(self, response: ModelResponse) -> None:
        """Record a complete answer.

        Raises:
            SinkFailed: It cannot be saved.
        """
        await self._append("message", response)

    async def returned(self, result: ToolReturnPart) -> None:
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
            message = replace(message, instructions=None)  # each run has its own

        def append() -> None:
            [encoded] = json.loads(ModelMessagesTypeAdapter.dump_json([message]))
            history.append({"kind": kind, "message": encoded})

        try:
            await asyncio.to_thread(append)
        except OSError as error:
            raise SinkFailed(error) from error


def messages_of(records: Iterable[Record]) -> list[ModelMessage]:
    """Return the messages of a history, as a provider accepts them.

    A tool call whose result is missing gets one that states the interruption.
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
        # The request with all results of an answer replaces those that came one by one.
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
            # Providers reject blank texts.
            return ModelResponse(parts=[TextPart(text)]) if text.strip() else None
        case {"kind": "message" | "result", "message": message}:
            try:
                # As JSON: binary contents are validated in another way as Python objects.
                [found] = ModelMessagesTypeAdapter.validate_json(json.dumps([message]))
            except ValidationError:
                log.error("a message of a chat's history is invalid", kind=record["kind"])
                return None
            if isinstance(found, ModelResponse) and found.state == "suspended":
                # Its continuation never came: pydantic-ai accepts no prompt after it as it is.
                return replace(found, state="complete")
            if isinstance(found, ModelResponse) and found.finish_reason == "length":
                return _with_usable_calls(found)
            return found
    log.error("a record of a chat's history is of an unknown kind")
    return None


def _with_usable_calls(response: ModelResponse) -> ModelResponse | None:
    """Return an answer without tool calls that were cut off; None if nothing is left."""
    parts = [part for part in response.parts if not _is_cut_off(part)]
    return replace(response, parts=parts) if parts else None


def _is_cut_off(part: object) -> bool:
    if not isinstance(part, ToolCallPart) or not isinstance(part.args, str) or not part.args:
        return False
    try:
        json.loads(part.args)
    except ValueError:
        return True
    return False
