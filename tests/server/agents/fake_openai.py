"""Server with OpenAI's chat completions API that streams scripted replies.

It runs in threads, so that synchronous and asynchronous tests can use it, and records requests.
"""

from __future__ import annotations

import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

MODEL = "gpt-4o"


@dataclass(frozen=True)
class Call:
    """Tool call in a reply, whose arguments are sent in ``pieces`` chunks."""

    name: str
    arguments: Mapping[str, Any] | str
    pieces: int = 3

    def chunks(self) -> Iterator[str]:
        text = self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)
        step = max(1, -(-len(text) // self.pieces))
        for start in range(0, max(1, len(text)), step):
            yield text[start : start + step]


@dataclass(frozen=True)
class Reply:
    """Streamed reply.

    Attributes:
        text: Chunks of text.
        calls: Tool calls after the text.
        prompt_tokens: Number of input tokens, including ``cached_tokens``.
        stall_after: Number of text chunks after which the server waits for ``release``.
        cut_after: Number of text chunks after which the server closes the connection.
        has_usage: Whether the reply reports its usage.
        thinking: Chunks of reasoning before the text.
        refusal: Chunks of a refusal, which chat completions separate from the text.
        finish: Finish reason; None for the usual one, "" for a stream without one.
    """

    text: Sequence[str] = ()
    calls: Sequence[Call] = ()
    prompt_tokens: int = 100
    completion_tokens: int = 20
    cached_tokens: int = 0
    stall_after: int | None = None
    cut_after: int | None = None
    has_usage: bool = True
    thinking: Sequence[str] = ()
    refusal: Sequence[str] = ()
    finish: str | None = None


@dataclass(frozen=True)
class Failure:
    """Error response.

    Attributes:
        status: HTTP status; 0 closes the connection without a response.
        message: Message in the error object of the API.
        headers: Additional headers. With the encoding gzip, the body is compressed.
        body: Body to send unchanged instead of the error object.
    """

    status: int
    message: str = "the server is not well"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None


Script = Sequence[Reply | Failure] | Callable[[dict[str, Any]], Reply | Failure]


@dataclass(frozen=True)
class Api:
    """API of a provider: path, frames of a streamed reply, and body of an error response."""

    path: str
    frames: Callable[[FakeOpenAI, Reply, str], Iterator[str]]
    error: Callable[[Failure], dict[str, Any]]


class FakeOpenAI:
    """Scripted server. A context manager.

    Args:
        script: List of replies, or a function that returns the reply for the body of a request.
        api: API of another provider.

    Attributes:
        url: Base URL, for ``OPENAI_BASE_URL``.
        requests: Bodies of the requests so far.
        headers: Headers of the requests, with names in lower case.
    """

    def __init__(self, script: Script, api: Api | None = None) -> None:
        self.api = api or OPENAI
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._replies = None if callable(script) else iter(script)
        self._script = script
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._ids = itertools.count(1)
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def stall(self) -> None:
        """Wait for ``release``."""
        self._released.wait(60)

    def release(self) -> None:
        """Continue replies that stall."""
        self._released.set()

    def tool_messages(self) -> list[str]:
        """Return the tool results in the last request."""
        messages = self.requests[-1]["messages"]
        return [str(message["content"]) for message in messages if message["role"] == "tool"]

    def next_reply(self, body: dict[str, Any], headers: dict[str, str]) -> Reply | Failure:
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            if self._replies is not None:
                return next(self._replies, Failure(400, "the script has ended"))
        assert callable(self._script)
        return self._script(body)

    def pause(self, reply: Reply, sent: int) -> None:
        """Stall or close the connection if ``reply`` does so after ``sent`` chunks of text."""
        if reply.stall_after == sent:
            self.stall()
        if reply.cut_after == sent:
            raise _ConnectionCut

    def new_id(self) -> str:
        return f"call_{next(self._ids)}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: tests disconnect clients on purpose."""


class _ConnectionCut(Exception):
    pass


def _handler(fake: FakeOpenAI) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = fake.next_reply(body, headers)
            if not self.path.partition("?")[0].endswith(fake.api.path):
                reply = Failure(404, f"unknown path {self.path}")
            if isinstance(reply, Failure):
                self._fail(reply)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for frame in fake.api.frames(fake, reply, body.get("model", MODEL)):
                    self._chunk(frame.encode())
            except _ConnectionCut:
                self.close_connection = True
                return
            self._chunk(b"")

        def _fail(self, failure: Failure) -> None:
            if failure.status == 0:
                self.close_connection = True
                return
            body = failure.body
            data = (json.dumps(fake.api.error(failure)) if body is None else body).encode()
            if failure.headers.get("Content-Encoding") == "gzip":
                data = gzip.compress(data)
            is_html = body is not None and body.lstrip().startswith("<")
            self.send_response(failure.status)
            self.send_header("Content-Type", "text/html" if is_html else "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in failure.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: tests read ``requests``."""

    return Handler


def _frames(fake: FakeOpenAI, reply: Reply, model: str) -> Iterator[str]:
    for chunk in _chunks(fake, reply, model):
        yield f"data: {json.dumps(chunk)}\n\n"
    if reply.finish != "":
        yield "data: [DONE]\n\n"


def _error(failure: Failure) -> dict[str, Any]:
    return {"error": {"message": failure.message, "type": "error", "code": None}}


def _chunks(fake: FakeOpenAI, reply: Reply, model: str) -> Iterator[dict[str, Any]]:
    yield _chunk(model, {"role": "assistant", "content": ""})
    for piece in reply.thinking:
        yield _chunk(model, {"reasoning_content": piece})
    for piece in reply.refusal:
        yield _chunk(model, {"refusal": piece})
    for number, piece in enumerate(reply.text):
        fake.pause(reply, number)
        yield _chunk(model, {"content": piece})
    fake.pause(reply, len(reply.text))
    for index, call in enumerate(reply.calls):
        name = {"name": call.name, "arguments": ""}
        first = {"index": index, "id": fake.new_id(), "type": "function", "function": name}
        yield _chunk(model, {"tool_calls": [first]})
        for piece in call.chunks():
            more = {"index": index, "function": {"arguments": piece}}
            yield _chunk(model, {"tool_calls": [more]})
    if reply.finish != "":
        yield _chunk(model, {}, reply.finish or ("tool_calls" if reply.calls else "stop"))
    if reply.has_usage:
        yield {**_chunk(model, {}), "choices": [], "usage": _usage(reply)}


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [choice],
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


OPENAI = Api("/chat/completions", _frames, _error)
