"""Connections that another thread can shut: what gives every wait an end.

A blocked read notices neither a deadline for the whole call nor a caller who has lost
interest. So each attempt has a handle that knows the connection it uses, and whoever
wants it to end shuts the socket under it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from beray.http import decompression
from beray.version import __version__

_CONNECTIONS: Final = 64
_attempts = threading.local()


class Cancel:
    """Calls off what one thread waits for, from another."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._wakers: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        """Wake whoever waits, now and from now on. Idempotent; returns at once."""
        self._event.set()
        with self._lock:
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def wait(self, seconds: float) -> bool:
        """Sleep; whether it was called off meanwhile."""
        return self._event.wait(seconds)

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Have ``cancel`` call ``wake`` while the block runs, at once if it came before."""
        with self._lock:
            self._wakers.append(wake)
        try:
            if self.cancelled:
                wake()
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)


class Attempt:
    """One request on its way, until its headers have come.

    Attributes:
        connected: ``False`` where surely nothing has reached the server.
        expired: whether the deadline has shut it.
    """

    def __init__(self) -> None:
        self.connected = False
        self.expired = False
        self._connection: HTTPConnection | None = None
        self._shut = False

    def shut(self) -> None:
        """End the attempt, in whichever wait it is; from any thread."""
        self._shut = True
        self._shut_socket()

    def expire(self) -> None:
        self.expired = True
        self.shut()

    @contextmanager
    def under_way(self, until: float, cancel: Cancel) -> Iterator[None]:
        """Make this the attempt of the current thread, and end it at ``until``."""
        seconds = until - time.monotonic()
        timer = threading.Timer(max(seconds, 0.0), self.expire) if seconds < 1e6 else None
        _attempts.current = self
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            with cancel.waking(self.shut):
                yield
        finally:
            _attempts.current = None
            if timer is not None:
                timer.cancel()

    def uses(self, connection: HTTPConnection) -> None:
        self._connection = connection
        if connection.sock is not None:
            self.connected = True
        if self._shut:
            self._shut_socket()

    def _shut_socket(self) -> None:
        sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):
                # Under TLS, too: the reader sees the end of the stream, whatever is inside.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _tell(connection: HTTPConnection) -> None:
    attempt: Attempt | None = getattr(_attempts, "current", None)
    if attempt is not None:
        attempt.uses(connection)


class _Telling(HTTPConnection):
    """Tells the attempt of its thread that it is used, and once it is connected."""

    def connect(self) -> None:
        super().connect()
        _tell(self)

    def putrequest(self, *args: Any, **options: Any) -> None:
        _tell(self)
        super().putrequest(*args, **options)


class _SecureTelling(_Telling, HTTPSConnection):
    """The same over TLS; connected is said behind the handshake."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Telling


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureTelling


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        pools = {"http": _Pool, "https": _SecurePool}
        self.poolmanager.pool_classes_by_scheme = pools


def tells_attempts(session: requests.Session, url: str) -> bool:
    """Whether connections of ``session`` tell what has become of an attempt."""
    try:
        return isinstance(session.get_adapter(url), _Adapter)
    except (AttributeError, requests.exceptions.InvalidSchema):
        return False  # a session of the caller's own may be of any make


def new_session() -> requests.Session:
    """A session for many threads at once, without a memory for cookies."""
    session = requests.Session()
    session.headers["User-Agent"] = f"beray/{__version__}"
    session.headers["Accept-Encoding"] = decompression.ACCEPTED
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    _mount(session)
    return session


def _mount(session: requests.Session) -> None:
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(pool_maxsize=_CONNECTIONS))


@cache
def shared_session() -> requests.Session:
    """The one session for clients that come and go, and for what no credential belongs to.

    Nobody puts anything into it. What tells connections apart (host, certificates, proxy)
    goes with each request, and the pools beneath keep them apart.
    """
    session = new_session()
    if hasattr(os, "register_at_fork"):
        # Two processes on one connection would take each other's answers.
        os.register_at_fork(after_in_child=lambda: _mount(session))
    return session
