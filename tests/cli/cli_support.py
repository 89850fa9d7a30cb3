"""Support for tests of the command: outcomes of runs, and a scripted server."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from beray.client import BeRayClient
from beray.testing import access_token


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    raw_out: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw_out.decode()

    @property
    def json(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Outcome]


def use(client: BeRayClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the command to use the account of ``client``."""
    monkeypatch.setenv("BERAY_URL", client.base_url)
    monkeypatch.setenv("BERAY_TOKEN", access_token(client))


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


class ScriptedServer:
    """Server with scripted responses.

    ``answers`` maps a request such as "GET /tasks/" to a pair of status and JSON or bytes, or to a
    list of pairs that are returned in turn; the last one is repeated.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"GET /users/me": (200, {"id": 1, "email": "a@b"})}
        self.requests: list[Request] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                parts = urlsplit(self.path)
                path = parts.path.removeprefix("/api/v1")
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                script.requests.append(
                    Request(self.command, path, parts.query, dict(self.headers), body)
                )
                answer = script.answers.get(f"{self.command} {path}", (404, {"detail": "nothing"}))
                if isinstance(answer, list):
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                status, value = answer
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                kind = "text/event-stream" if path.endswith("/stream") else "application/json"
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def calls(self) -> list[str]:
        return [f"{request.method} {request.path}" for request in self.requests]


def stream(events: Iterable[Mapping[str, Any]]) -> tuple[int, bytes]:
    """Return a text/event-stream response with ``events``."""
    body = b"".join(
        (b"id: %d\n" % event["seq"] if "seq" in event else b"")
        + b"data: %s\n\n" % json.dumps(event).encode()
        for event in events
    )
    return 200, b"retry: 10\n\n" + body


class Script(io.StringIO):
    """A stdin that determines its lines when they are read."""

    def __init__(self, *lines: str | Callable[[], str]) -> None:
        super().__init__()
        self._lines = list(lines)

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        line = self._lines.pop(0) if self._lines else ""
        return (line if isinstance(line, str) else line()) + "\n"


def program(*argv: str) -> list[str]:
    """Return a command line that handles SIGINT even if the tests run in the background."""
    start = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from beray.cli import main; sys.argv[0] = 'beray'; sys.exit(main())"
    )
    return [sys.executable, "-c", start, *argv]
