"""One way to make a request, one to open a stream.

Everything a call has in common is here: the session, the deadlines, retries, redirects
that stay on the server, and the translation of answers and failures into exceptions.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

from beray import retries
from beray.answers import api_error, connection_error, context, decoded_json, read_whole
from beray.body import Body
from beray.config import checked_base_url, origin
from beray.exceptions import (
    BeRayException,
    ConnectionFailed,
    InvalidArgument,
    InvalidResponseError,
    OutcomeUnknown,
)
from beray.schema import BODY_EXCERPT, IDEMPOTENCY_HEADER, Shape
from beray.version import __version__

T = TypeVar("T")
Timeout = tuple[float, float]
"""Seconds to connect, and seconds without a byte while reading."""

DEFAULT_TIMEOUT: Final[Timeout] = (10.0, 60.0)
DEFAULT_DEADLINE: Final = 300.0
MAX_REDIRECTS: Final = 5
API_PREFIX: Final = "/api/v1"
_CONNECTIONS: Final = 64

log = logging.getLogger("beray.transport")


class _SessionHeaderAuth(AuthBase):
    """Leaves the request as the session's headers made it.

    That there is an auth object at all keeps requests from putting the credentials
    of a netrc file in the place of ours.
    """

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def segment(value: object) -> str:
    """Return ``value`` quoted as one segment of a path.

    Raises:
        InvalidArgument: for "", "." and "..", which would name another path.
    """
    text = str(value)
    if text in ("", ".", ".."):
        raise InvalidArgument(f"{text!r} cannot be an id")
    return quote(text, safe="")


def new_session() -> requests.Session:
    """A session for many threads at once, without a memory for cookies."""
    session = requests.Session()
    session.headers["User-Agent"] = f"beray/{__version__}"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return session


class Transport:
    """A session bound to one server. Safe to share between threads."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_retries: int = retries.RETRIES,
        session: requests.Session | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = checked_base_url(base_url)
        self.timeout = timeout
        self.deadline = deadline
        self.max_retries = max_retries
        self.session = session or new_session()
        if self.session.auth is None:
            self.session.auth = _SessionHeaderAuth()
        # Given with each request: what the environment says would overrule the session's.
        given = {"verify": verify, "cert": cert, "proxies": proxies}
        self._tls = {name: value for name, value in given.items() if value is not None}
        self._honours_keys = False

    def set_token(self, token: str | None) -> None:
        """Sign every later request with ``token``, or with nothing.

        Raises:
            InvalidArgument: for characters that a header cannot carry.
        """
        if token is None:
            self.session.headers.pop("Authorization", None)
            return
        if not token or not all("!" <= character <= "~" for character in token):
            raise InvalidArgument("the token has characters that no token of a server has")
        self.session.headers["Authorization"] = f"Bearer {token}"

    def json(self, shape: Shape[T], method: str, path: str, **options: Any) -> T:
        """Make a request and return its JSON, checked against ``shape``."""
        response = self.request(method, path, **options)
        data = decoded_json(response, method, path)
        problem = shape.problem(data)
        if problem is not None:
            raise InvalidResponseError(
                f"{method} {path}: the answer has an unexpected shape: {problem}",
                body=response.text[:BODY_EXCERPT],
                **context(response, method, path),
            )
        result: T = data
        return result

    def request(
        self,
        method: str,
        path: str,
        *,
        stream: bool = False,
        timeout: Timeout | None = None,
        idempotency_key: str | None = None,
        patient: bool = True,
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> requests.Response:
        """Make a request below ``/api/v1`` and return its successful response.

        It is made again where that is certain to be harmless (:mod:`beray.retries`).

        Args:
            stream: leave the body to be read, and to be closed, by the caller.
            timeout: other than the client's.
            idempotency_key: makes a POST one that may be repeated, with a server that
                honours it.
            patient: ``False`` raises at once where the server asks to wait.
            content: ``params``, ``json`` and ``data``, as for ``requests``.

        Raises:
            APIError: the server said no; the subclass says how.
            ConnectionFailed, DeadlineExceeded: there was no whole answer.
            OutcomeUnknown: nor is it known whether the call was done.
            InvalidResponseError: it redirects elsewhere.
        """
        sent = dict(headers or {})
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        call = _Call(method, path, stream, timeout or self.timeout, {"headers": sent, **content})
        until = math.inf if call.uploads else time.monotonic() + self.deadline
        attempt, delivered = 0, False
        while True:
            attempt += 1
            try:
                return self._once(call, until)
            except BeRayException as error:
                delivered |= isinstance(error, ConnectionFailed) and error.delivered
                may_wait = patient or isinstance(error, ConnectionFailed)
                wait = None
                if attempt <= self.max_retries and call.replayable and may_wait:
                    may_repeat = self._may_repeat(call, error)
                    wait = retries.pause(error, attempt, may_repeat=may_repeat)
                if wait is None or time.monotonic() + wait > until:
                    once = not retries.repeatable(method)
                    if once and delivered and isinstance(error, ConnectionFailed):
                        raise _unknown(call, error) from None
                    raise
                log.debug("%s: again in %.2f s after %s", call, wait, type(error).__name__)
            time.sleep(wait)
            call.rewind()

    def open_stream(self, path: str, *, headers: Mapping[str, str], idle: float) -> Body:
        """GET a body that is read as it arrives; ``idle`` seconds of silence break it.

        Raises:
            as ``request``; a stream is opened once, its reader decides about again.
        """
        call = _Call("GET", path, True, (self.timeout[0], idle), {"headers": dict(headers)})
        return Body(self._once(call, time.monotonic() + self.deadline), str(call))

    def close(self) -> None:
        self.session.close()

    def _once(self, call: _Call, until: float) -> requests.Response:
        """Make a request, follow it where it may go, and judge the answer."""
        url = f"{self.base_url}{API_PREFIX}{call.path}"
        options = call.options | self._tls
        started = time.monotonic()
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self.session.request(
                    call.method, url, stream=True, timeout=call.timeout,
                    allow_redirects=False, **options,
                )  # fmt: skip
                if not call.stream or response.status_code >= 300:
                    read_whole(response, until)
            except requests.RequestException as error:
                raise connection_error(error, call.method, call.path) from None
            except UnicodeError:
                raise InvalidArgument(f"{call}: an argument is not valid text") from None
            except ValueError:
                # requests looks at a redirect's target before anybody asks it to.
                raise InvalidResponseError(
                    f"{call}: the answer is malformed", body="", method=call.method, path=call.path
                ) from None
            seconds = time.monotonic() - started
            log.debug("%s -> %d in %.3f s", call, response.status_code, seconds)
            self._honours_keys |= IDEMPOTENCY_HEADER in response.headers
            target = response.headers.get("Location")
            if not (300 <= response.status_code < 400 and target):
                break
            url = _redirected(call, response, url, target)
            options.pop("params", None)
        else:
            raise InvalidResponseError(
                f"{call}: more than {MAX_REDIRECTS} redirects",
                body="", method=call.method, path=call.path,
            )  # fmt: skip
        if response.status_code >= 300 and response.status_code != 304:
            raise api_error(response, call.method, call.path)
        return response

    def _may_repeat(self, call: _Call, error: BeRayException) -> bool:
        """Whether ``call`` may be made twice."""
        if retries.repeatable(call.method):
            return True
        keyed = "Idempotency-Key" in call.options["headers"]
        if not keyed or not isinstance(error, ConnectionFailed) or not error.delivered:
            return False
        if not self._honours_keys:
            # Nothing is known of this server yet; any answer tells.
            probe = _Call("GET", "/users/me", False, self.timeout, {"headers": {}})
            try:
                self._once(probe, time.monotonic() + sum(self.timeout))
            except BeRayException as failed:
                log.debug("%s: %s", probe, type(failed).__name__)
        return self._honours_keys


@dataclass(frozen=True)
class _Call:
    """One call, as often as it is made."""

    method: str
    path: str
    stream: bool
    timeout: Timeout
    options: dict[str, Any]
    _start: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self._is_file:
            object.__setattr__(self, "_start", self.options["data"].tell())

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def _is_file(self) -> bool:
        return hasattr(self.options.get("data"), "seek")

    @property
    def uploads(self) -> bool:
        """Whether it carries a file, which takes as long as its size and the line want."""
        return not isinstance(self.options.get("data"), (dict, type(None)))

    @property
    def replayable(self) -> bool:
        """Whether its body can be sent a second time."""
        return self._is_file or isinstance(self.options.get("data"), (bytes, str, dict, type(None)))

    def rewind(self) -> None:
        if self._is_file:
            self.options["data"].seek(self._start)


def _unknown(call: _Call, error: ConnectionFailed) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"{error}; it is not known whether the server has done {call}: look before you repeat it",
        method=call.method,
        path=call.path,
    )


def _redirected(call: _Call, response: requests.Response, url: str, target: str) -> str:
    """Where a redirect leads, if it may be followed: same server, same request."""
    try:
        location = urljoin(url, target)
        same = origin(location) == origin(url)
    except ValueError:
        location, same = url, False
    keeps_method = response.status_code in (307, 308) or call.method in ("GET", "HEAD")
    if same and keeps_method and call.replayable:
        call.rewind()
        return location
    where = "a place that the request cannot follow" if same else "another server"
    raise InvalidResponseError(
        f"{call}: the server redirects to {where}, which gets no credentials from here; "
        "check the server's URL",
        body="",
        method=call.method,
        path=call.path,
        status_code=response.status_code,
    )
