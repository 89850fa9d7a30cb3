"""Connections that can be interrupted from another thread, and their TLS certificates.

A blocked socket read notices neither a deadline for the whole request nor a cancellation. Each
request attempt therefore registers the connection it uses, and its socket is shut down when the
deadline passes or the request is cancelled.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from beray.exceptions import ConfigurationError
from beray.http.response_body import ACCEPTED_ENCODINGS
from beray.version import __version__

_POOL_SIZE: Final = 64
_current = threading.local()


class CancelToken:
    """Cancellation of a wait or a request, triggered from another thread."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """True once ``cancel`` has been called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Cancel all current and later waits. Idempotent; returns immediately."""
        self._event.set()
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def wait(self, seconds: float) -> bool:
        """Sleep for ``seconds``; return True if it was cancelled before or meanwhile."""
        return self._event.wait(seconds)

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` if ``cancel`` is called during the block, or was called before it."""
        with self._lock:
            self._callbacks.append(callback)
        try:
            if self.cancelled:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)


class RequestAttempt:
    """One attempt at a request, until its response headers have arrived.

    Attributes:
        connected: False if certainly no byte has reached the server.
        expired: True if the deadline ended the attempt.
    """

    def __init__(self) -> None:
        self.connected = False
        self.expired = False
        self._connection: HTTPConnection | None = None
        self._is_shut_down = False

    def shut_down(self) -> None:
        """Interrupt the attempt in any of its waits. Thread-safe."""
        self._is_shut_down = True
        self._shut_down_socket()

    def expire(self) -> None:
        """Interrupt the attempt because its deadline has passed. Thread-safe."""
        self.expired = True
        self.shut_down()

    @contextmanager
    def active(self, deadline: float, cancel: CancelToken) -> Iterator[None]:
        """Make this the attempt of the current thread during the block.

        Args:
            deadline: Monotonic time at which the attempt is interrupted.
            cancel: Interrupts the attempt earlier.
        """
        seconds = deadline - time.monotonic()
        timer = threading.Timer(max(seconds, 0.0), self.expire) if seconds < 1e6 else None
        _current.attempt = self
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            with cancel.on_cancel(self.shut_down):
                yield
        finally:
            _current.attempt = None
            if timer is not None:
                timer.cancel()

    def attach(self, connection: HTTPConnection) -> None:
        """Register the connection that the attempt uses."""
        self._connection = connection
        if connection.sock is not None:
            self.connected = True
        if self._is_shut_down:
            self._shut_down_socket()

    def _shut_down_socket(self) -> None:
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):
                # Below TLS as well: the reader then sees the end of the connection.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _attach_to_current_attempt(connection: HTTPConnection) -> None:
    attempt: RequestAttempt | None = getattr(_current, "attempt", None)
    if attempt is not None:
        attempt.attach(connection)


class _TrackedConnection(HTTPConnection):
    """HTTP connection that registers with its thread's attempt when it is connected and used."""

    def connect(self) -> None:
        super().connect()
        _attach_to_current_attempt(self)

    def putrequest(self, *args: Any, **options: Any) -> None:
        _attach_to_current_attempt(self)
        super().putrequest(*args, **options)


class _TrackedTLSConnection(_TrackedConnection, HTTPSConnection):
    """The same over TLS; it counts as connected after the handshake."""


class _TrackedPool(HTTPConnectionPool):
    ConnectionCls = _TrackedConnection


class _TrackedTLSPool(HTTPSConnectionPool):
    ConnectionCls = _TrackedTLSConnection


class _TrackingAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        pools = {"http": _TrackedPool, "https": _TrackedTLSPool}
        self.poolmanager.pool_classes_by_scheme = pools


def tracks_attempts(session: requests.Session, url: str) -> bool:
    """Return True if ``RequestAttempt.connected`` is reliable for requests of ``session``."""
    try:
        return isinstance(session.get_adapter(url), _TrackingAdapter)
    except (AttributeError, requests.exceptions.InvalidSchema):
        return False  # the caller's session may be of any class


def new_session() -> requests.Session:
    """Return a session that can be shared between threads and stores no cookies."""
    session = requests.Session()
    # Users distinguish their sessions by it.
    system = f"{platform.system()} {platform.machine()}"
    session.headers["User-Agent"] = f"beray/{__version__} ({system})"
    session.headers["Accept-Encoding"] = ACCEPTED_ENCODINGS
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    _mount_adapters(session)
    return session


def _mount_adapters(session: requests.Session) -> None:
    for scheme in ("http://", "https://"):
        session.mount(scheme, _TrackingAdapter(pool_maxsize=_POOL_SIZE))


@cache
def shared_session() -> requests.Session:
    """Return the session for short-lived clients and for requests without credentials.

    Callers must not modify it. Host, certificates and proxies are passed with each request, and
    its connection pools are separated by them.
    """
    session = new_session()
    if hasattr(os, "register_at_fork"):
        # Two processes that share a connection would receive each other's responses.
        os.register_at_fork(after_in_child=lambda: _mount_adapters(session))
    return session


def check_certificate_files(verify: bool | str | None, cert: str | tuple[str, str] | None) -> None:
    """Check that the certificate files of a client can be loaded.

    Args:
        verify: Path of a file or directory of trusted certificates; other values are ignored.
        cert: Path of a client certificate with its key, or the paths of both.

    Raises:
        ConfigurationError: A file is missing or cannot be used for its purpose.
    """
    own, key = cert if isinstance(cert, tuple) else (cert, None)
    trusted = verify if isinstance(verify, str) else None
    for path in (trusted, own, key):
        if path is not None and not Path(path).exists():
            raise ConfigurationError(f"certificate file {path} does not exist")
    if trusted is None and own is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trusted is not None:
        option = "capath" if Path(trusted).is_dir() else "cafile"
        try:
            context.load_verify_locations(**{option: trusted})
        except OSError as error:
            raise _unusable_file(trusted, "trusted certificates", error) from None
    if own is not None:
        try:
            # Without a password, OpenSSL would prompt for that of an encrypted key.
            context.load_cert_chain(own, key, password="")
        except OSError as error:
            raise _unusable_file(own, "a client certificate", error) from None


def _unusable_file(path: str, purpose: str, error: OSError) -> ConfigurationError:
    reason = getattr(error, "reason", None)
    text = tls_reason(reason) if reason else error.strerror
    return ConfigurationError(f"{path} cannot be used as {purpose} ({text})")


def tls_reason(reason: str) -> str:
    """Return OpenSSL's name of an error, such as ``WRONG_VERSION_NUMBER``, as words."""
    return reason.lower().replace("_", " ")
