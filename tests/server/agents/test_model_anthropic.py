"""Model runner with Anthropic's API: reasoning, cache, errors inside answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from beray.server.runners.base import Outcome, Usage
from tests.server.agents.model_bench import Bench, about

MODEL = "claude-sonnet-4-6"
Event = dict[str, Any]


def answer(*blocks: tuple[Event, list[Event]], ending: Event | None = None) -> list[Event]:
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 300,
        "output_tokens": 1,
    }
    message: Event = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    events: list[Event] = [{"type": "message_start", "message": message}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": d} for d in deltas]
        events.append({"type": "content_block_stop", "index": index})
    if ending is not None:
        return [*events, ending]
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 50}})
    return [*events, {"type": "message_stop"}]


def text(*pieces: str) -> tuple[Event, list[Event]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]


THOUGHT: tuple[Event, list[Event]] = (
    {"type": "thinking", "thinking": "", "signature": ""},
    [
        {"type": "thinking_delta", "thinking": "let me see"},
        {"type": "signature_delta", "signature": "s"},
    ],
)
CALL: tuple[Event, list[Event]] = (
    {"type": "tool_use", "id": "toolu_1", "name": "write_file", "input": {}},
    [
        {"type": "input_json_delta", "partial_json": '{"path": "a", '},
        {"type": "input_json_delta", "partial_json": '"content": "b"}'},
    ],
)


@pytest.fixture
def requests() -> list[Event]:
    return []


@pytest.fixture
def provider(
    monkeypatch: pytest.MonkeyPatch, requests: list[Event]
) -> Iterator[Callable[..., None]]:
    script: list[list[Event] | int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            reply = script.pop(0)
            if isinstance(reply, int):
                error = {"type": "overloaded_error", "message": "too many"}
                data = json.dumps({"type": "error", "error": error}).encode()
                self.send_response(reply)
                self.send_header("Content-Type", "application/json")
            else:
                lines = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in reply]
                data = "".join(lines).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: tests read ``requests``."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
    yield lambda *replies: script.extend(replies)
    server.shutdown()
    server.server_close()
    thread.join()


async def test_reasoning_calls_and_cached_tokens_are_logged(
    tmp_path: Path, provider: Callable[..., None], requests: list[Event]
) -> None:
    provider(529, answer(THOUGHT, text("I ", "write"), CALL), answer(text("done")))
    bench = await Bench.make(tmp_path, model=f"anthropic:{MODEL}")
    assert await bench.run() == Outcome("COMPLETED")
    assert bench.sink.text("thinking") == "let me see"
    assert bench.sink.text() == "I writedone"
    assert bench.sink.calls() == [("write_file", '{"path": "a", "content": "b"}')]
    assert (bench.work_dir / "a").read_text() == "b"
    assert "HTTP 529" in bench.sink.payloads("retry")[0]["message"]
    one = (100 * 3 + 600 * 0.3 + 300 * 3.75 + 50 * 15) / 1e6
    assert bench.sink.records == [Usage(2, 2000, 100, 1200, 600, about(2 * one))]
    assert len(requests) == 3
    assert "cache_control" in json.dumps(requests[-1])


async def test_an_error_inside_an_answer_is_retried_and_its_usage_is_counted(
    tmp_path: Path, provider: Callable[..., None]
) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    provider(answer(text("x" * 80), ending=error), answer(text("done")))
    bench = await Bench.make(tmp_path, model=f"anthropic:{MODEL}")
    assert await bench.run() == Outcome("COMPLETED")
    [payload] = bench.sink.payloads("retry")
    assert payload["answer_began"]
    [usage] = bench.sink.records
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 2000, 20 + 50)
    assert usage.estimated
