"""A real server in a process of its own, for tests."""

from __future__ import annotations

import email
import email.policy
import os
import re
import secrets
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

import requests

from beray.client import BeRayClient
from beray.exceptions import RateLimitError
from beray.testing.fork_server import Fork, Forks

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 20.0
PASSWORD: Final = "correct horse battery"

FORKS: Final = Forks()
"""What all servers of this process are forked from."""


class RunningServer:
    """``python -m beray.server`` on a free port. Also a context manager.

    The second and later ones of a process start in a fraction of the time of the first.
    ``kill`` ends it as a power cut would, ``restart`` brings it back on the same data
    and the same address.
    """

    def __init__(
        self, data_dir: Path, port: int, environ: dict[str, str], *, cheap_passwords: bool = True
    ) -> None:
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{port}"
        self.log = data_dir / "test-server.log"
        self._port = port
        self._environ = environ
        self._cheap_passwords = cheap_passwords
        self._process: Fork | None = None

    @classmethod
    def start(cls, data_dir: Path, *, cheap_passwords: bool = True, **environ: str) -> Self:
        """Start a server on ``data_dir`` and return once it answers.

        Args:
            cheap_passwords: hash passwords with the least work there is, so that an account
                is made at once. ``False``: with as much as every other server does.
            environ: settings, such as ``BERAY_SLOTS="1"``. Nothing of the caller's own
                BeRay settings reaches the server.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if key[:6] != "BERAY_"}
        server = cls(data_dir, free_port(), inherited | environ, cheap_passwords=cheap_passwords)
        server._spawn()
        return server

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it as SIGTERM does, and wait. Does nothing where it has ended already."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Start it again on the same data and address, after ``stop`` or ``kill``."""
        self.stop()
        self._spawn()

    def client(self, token: str | None = None) -> BeRayClient:
        return BeRayClient(self.url, token)

    def sign_up(self, email_address: str | None = None, password: str = PASSWORD) -> BeRayClient:
        """Create an account with a mailed code, and return a client that is signed in to it.

        A server sends at most 100 codes a minute to local clients; later calls wait for that.
        """
        address = email_address or f"user-{secrets.token_hex(6)}@example.test"
        client = self.client()
        try:
            client.request_verification_code(address)
        except RateLimitError as error:
            if error.retry_after is None:
                raise
            time.sleep(error.retry_after)
            client.request_verification_code(address)
        client.register(address, self.mailed_code(address), password)
        return client

    def mailed_code(self, address: str) -> str:
        """The code in the newest mail to ``address`` in the outbox."""
        outbox = self.data_dir / "outbox"
        mails = sorted(outbox.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
        for path in reversed(mails):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if mail["To"] == address:
                found = re.search(r"\b\d{6}\b", str(mail.get_payload()))
                assert found is not None, f"no code in {path}"
                return found[0]
        raise AssertionError(f"no mail to {address} in {outbox}")

    def _spawn(self) -> None:
        arguments = ["--port", str(self._port), "--data-dir", str(self.data_dir)]
        process = FORKS.start(
            arguments, self._environ, self.log, cheap_passwords=self._cheap_passwords
        )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            # A whole request is too dear to ask again and again while nobody listens.
            socket.create_connection(("127.0.0.1", self._port), timeout=5).close()
            return requests.get(f"{self.url}/healthz", timeout=5).ok
        except (OSError, requests.ConnectionError):
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
