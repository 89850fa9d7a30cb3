"""Real server in a separate process, for tests."""

from __future__ import annotations

import email
import email.policy
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import requests

from beray.client import BeRayClient
from beray.exceptions import RateLimitError
from beray.testing.fork_server import ForkedServer, ServerForker

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
PASSWORD: Final = "correct horse battery"

FORKER: Final = ServerForker()
"""Process that all test servers of this process are forked from."""


class RunningServer:
    """``python -m beray.server`` on a free port; also a context manager.

    The first server of a process takes longer to start than later ones. ``kill`` ends the server
    like a power failure; ``restart`` starts it again with the same data and address.

    Attributes:
        data_dir: Data directory of the server.
        url: URL of the server.
        log: Path of the file with its output.
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
        self._process: ForkedServer | None = None

    @classmethod
    def start(
        cls,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        *,
        cheap_passwords: bool = True,
        **environ: str,
    ) -> Self:
        """Start a server and return when it accepts requests.

        Args:
            data_dir: Data directory, which is created if it does not exist.
            settings: Settings, such as ``{"BERAY_SLOTS": "1"}``. Registration is open by default.
            cheap_passwords: Hash passwords with the minimum cost, so that accounts are created
                quickly. False uses the cost of a normal server.
            environ: Further settings, such as ``BERAY_SLOTS="1"``. BeRay settings in the
                environment of the caller are not passed on.

        Raises:
            RuntimeError: The server did not start; the message contains the end of its log.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if key[:6] != "BERAY_"}
        defaults = {"BERAY_REGISTRATION": "open"}  # shared servers need invitations otherwise
        environ = {**inherited, **defaults, **(settings or {}), **environ}
        server = cls(data_dir, free_port(), environ, cheap_passwords=cheap_passwords)
        server._spawn()
        return server

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server with SIGTERM and wait for its end. Does nothing if it does not run.

        Raises:
            subprocess.TimeoutExpired: It did not stop in time, and was killed.
        """
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
        """Kill the server with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, **environ: str) -> None:
        """Stop the server if it runs, and start it with the same data and address.

        Args:
            environ: Settings that change, for this and later starts.
        """
        self.stop()
        self._environ |= environ
        self._spawn()

    def accepts_requests(self) -> bool:
        """Return True if the server answers requests."""
        try:
            # A failed connection is cheaper than a failed request while the server starts.
            socket.create_connection(("127.0.0.1", self._port), timeout=5).close()
            return requests.get(f"{self.url}/healthz", timeout=5).ok
        except (OSError, requests.ConnectionError):
            return False

    def client(self, token: str | None = None) -> BeRayClient:
        """Return a new client of the server."""
        return BeRayClient(self.url, token)

    def sign_up(self, email_address: str | None = None, password: str = PASSWORD) -> BeRayClient:
        """Create an account and return a client that is signed in to it.

        A server sends at most 100 verification codes per minute to local clients; further calls
        wait until it sends the next one.

        Args:
            email_address: Address of the account; None for a random one.
            password: Password of the account.
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
        """Return the verification code in the newest mail to ``address`` in the outbox."""
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
        process = FORKER.start(
            arguments, self._environ, self.log, cheap_passwords=self._cheap_passwords
        )
        self._process = process
        deadline = time.monotonic() + START_SECONDS
        while not self.accepts_requests():
            if process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.01)


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
