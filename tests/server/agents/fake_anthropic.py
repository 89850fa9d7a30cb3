"""Scripted provider with Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.server.agents.fake_openai import Api, Failure, FakeOpenAI, Reply

MODEL = "claude-sonnet-4-6"


def _frames(fake: FakeOpenAI, reply: Reply, model: str) -> Iterator[str]:
    for event in _events(fake, reply, model):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _events(fake: FakeOpenAI, reply: Reply, model: str) -> Iterator[dict[str, Any]]:
    usage = {
        "input_tokens": reply.prompt_tokens - reply.cached_tokens,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    yield {"type": "message_start", "message": message}
    index = 0
    if reply.thinking:
        yield from _start(index, {"type": "thinking", "thinking": "", "signature": ""})
        for piece in reply.thinking:
            yield _delta(index, {"type": "thinking_delta", "thinking": piece})
        yield _delta(index, {"type": "signature_delta", "signature": "s"})
        yield {"type": "content_block_stop", "index": index}
        index += 1
    chunks = [*reply.refusal, *reply.text]
    if chunks or reply.stall_after == 0 or reply.cut_after == 0:
        yield from _start(index, {"type": "text", "text": ""})
        for number, piece in enumerate(chunks):
            fake.pause(reply, number)
            yield _delta(index, {"type": "text_delta", "text": piece})
        fake.pause(reply, len(chunks))
        yield {"type": "content_block_stop", "index": index}
        index += 1
    for call in reply.calls:
        block = {"type": "tool_use", "id": fake.new_id(), "name": call.name, "input": {}}
        yield from _start(index, block)
        for piece in call.chunks():
            yield _delta(index, {"type": "input_json_delta", "partial_json": piece})
        yield {"type": "content_block_stop", "index": index}
        index += 1
    if reply.finish == "":
        return
    usual = "tool_use" if reply.calls else "end_turn"
    delta = {"stop_reason": reply.finish or usual, "stop_sequence": None}
    tokens = {"output_tokens": reply.completion_tokens}
    yield {"type": "message_delta", "delta": delta, "usage": tokens}
    yield {"type": "message_stop"}


def _start(index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _error(failure: Failure) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "api_error", "message": failure.message}}


ANTHROPIC = Api("/messages", _frames, _error)
