"""Test of the memory that transfers of large files need."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SIZE = 100_000_000
SCRIPT = """
import resource, sys
from beray.gateway import GatewayClient
url, large, target = sys.argv[1:]
client = GatewayClient("t", url)
client.list_files()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
client.upload_temp_file(large)
client.upload_input_file(large)
client.download_file("s3://b/k", target)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


class _Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received: list[int]

    def do_GET(self) -> None:
        if self.path.startswith("/internal/files/download"):
            self._respond(b'{"presigned_url": "%s/f?s"}' % self._base_url())
        elif self.path.startswith("/internal"):
            self._respond(b'{"files": []}')
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()
            for _ in range(SIZE // 1_000_000):
                self.wfile.write(b"x" * 1_000_000)

    def do_POST(self) -> None:
        self._read_body()
        self._respond(b'{"s3_url": "s3://b/k", "upload_url": "%s/f?s"}' % self._base_url())

    def do_PUT(self) -> None:
        self._read_body()
        self._respond(b"")

    def _read_body(self) -> None:
        remaining = length = int(self.headers["Content-Length"])
        while remaining:
            remaining -= len(self.rfile.read(min(remaining, 1_000_000)))
        self.received.append(length)

    def _respond(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _base_url(self) -> bytes:
        return f"http://{self.headers['Host']}".encode()

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


@pytest.fixture
def store() -> Iterator[tuple[str, list[int]]]:
    received: list[int] = []
    handler = type("Handler", (_Store,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


@pytest.mark.skipif(sys.platform == "win32", reason="measured by getrusage")
def test_the_memory_stays_flat(store: tuple[str, list[int]], tmp_path: Path) -> None:
    url, received = store
    large, target = tmp_path / "large", tmp_path / "target"
    with large.open("wb") as file:
        file.truncate(SIZE)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url, str(large), str(target)],
        capture_output=True, text=True, timeout=110, check=True,
    )  # fmt: skip
    grown = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 30_000_000
    assert received[0] > SIZE
    assert received[-1] == SIZE
    assert target.stat().st_size == SIZE
    with target.open("rb") as file:
        assert all(block == b"x" * len(block) for block in iter(lambda: file.read(1_000_000), b""))
    target.unlink()
    large.unlink()
