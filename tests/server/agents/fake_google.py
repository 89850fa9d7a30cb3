"""Scripted provider with Google's Gemini API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.server.agents.fake_openai import Api, Failure, FakeOpenAI, Reply


def _frames(fake: FakeOpenAI, reply: Reply, model: str) -> Iterator[str]:
    for chunk in _chunks(fake, reply):
        yield f"data: {json.dumps({**chunk, 'modelVersion': model})}\r\n\r\n"


def _chunks(fake: FakeOpenAI, reply: Reply) -> Iterator[dict[str, Any]]:
    for number, piece in enumerate(reply.text):
        fake.pause(reply, number)
        yield _candidate([{"text": piece}])
    fake.pause(reply, len(reply.text))
    for call in reply.calls:
        yield _candidate([{"functionCall": {"name": call.name, "args": call.arguments}}])
    usage = {
        "promptTokenCount": reply.prompt_tokens,
        "candidatesTokenCount": reply.completion_tokens,
        "totalTokenCount": reply.prompt_tokens + reply.completion_tokens,
    }
    yield {**_candidate([{"text": ""}], reply.finish or "STOP"), "usageMetadata": usage}


def _candidate(parts: list[dict[str, Any]], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate]}


def _error(failure: Failure) -> dict[str, Any]:
    return {"error": {"code": failure.status, "message": failure.message, "status": "UNKNOWN"}}


GOOGLE = Api(":streamGenerateContent", _frames, _error)
