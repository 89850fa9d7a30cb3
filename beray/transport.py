"""One way to make a request, one to open a stream.

Everything a call has in common is here: the session, the deadlines, retries, redirects
that stay on the server, and the translation of answers and failures into exceptions.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import requests
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from beray import retries, tls
from beray.answers import (
    api_error,
    connection_error,
    context,
    decoded_json,
    excerpt,
    read_whole,
)
from beray.body import Body
from beray.calls import Call, Timeout, redirected, unknown
from beray.config import checked_base_url, is_loopback
from beray.connections import Attempt, Cancel, new_session
from beray.exceptions import (
    BeRayException,
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
)
from beray.schema import IDEMPOTENCY_HEADER, Shape

T = TypeVar("T")
DEFAULT_TIMEOUT: Final[Timeout] = (10.0, 60.0)
DEFAULT_DEADLINE: Final = 300.0
MAX_REDIRECTS: Final = 5
API_PREFIX: Final = "/api/v1"
_PROBE_SECONDS: Final = 10.0

log = logging.getLogger("beray.transport")


class _Authorization(AuthBase):
    """Signs a request, in a way that neither netrc nor a session's own auth can replace."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def segment(value: object) -> str:
    """Return ``value`` quoted as one segment of a path.

    Raises:
        InvalidArgument: for "", "." and "..", which would name another path.
    """
    try:
        text = str(value)
    except ValueError as error:
        raise InvalidArgument(f"that cannot be an id: {error}") from None
    if text in ("", ".", ".."):
        raise InvalidArgument(f"{text!r} cannot be an id")
    return quote(text, safe="")


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
        self._own = session is None
        self._token: str | None = None
        given: dict[str, Any] = {"verify": verify, "cert": cert, "proxies": proxies}
        self._given = {name: value for name, value in given.items() if value is not None}
        # What the environment names as a proxy is not meant for this machine's own.
        local = is_loopback(self.base_url)
        self._no_proxies = {"proxies": dict.fromkeys(("http", "https", "all"))} if local else {}
        tls.require_usable(verify, cert)
        self._honours_keys = False

    def set_token(self, token: str | None) -> None:
        """Sign every later request with ``token``, or with nothing.

        Raises:
            InvalidArgument: for characters that a header cannot carry.
        """
        if token is not None and not (token and all("!" <= letter <= "~" for letter in token)):
            raise InvalidArgument("the token has characters that no token of a server has")
        self._token = token
        if self._own:
            # Where scripts look for it. Replaced as a whole: other threads may be reading.
            headers = CaseInsensitiveDict(self.session.headers)
            headers.pop("Authorization", None)
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            self.session.headers = headers

    def _authorization(self) -> AuthBase:
        """On a session of our own its header counts, also where a script has set it."""
        return _Authorization(None if self._own else self._token)

    def json(self, shape: Shape[T], method: str, path: str, **options: Any) -> T:
        """Make a request and return its JSON, checked against ``shape``."""
        response = self.request(method, path, **options)
        data = decoded_json(response, method, path)
        problem = shape.problem(data)
        if problem is not None:
            raise InvalidResponseError(
                f"{method} {path}: the answer has an unexpected shape: {problem}",
                body=excerpt(response, path),
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
        cancel: Cancel | None = None,
        headers: Mapping[str, str | bytes] | None = None,
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
            cancel: calls it off, in whichever wait it is; that ends as ConnectionFailed.
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
        call = Call(method, path, stream, timeout or self.timeout, {"headers": sent, **content})
        until = math.inf if call.uploads else time.monotonic() + self.deadline
        idle = cancel or Cancel()
        attempt, delivered = 0, False
        while True:
            attempt += 1
            try:
                return self._once(call, until, idle)
            except BeRayException as error:
                wait = self._pause(call, error, attempt, until, patient=patient)
                delivered |= isinstance(error, ConnectionFailed) and error.delivered
                if wait is None or idle.cancelled:
                    if delivered and not retries.repeatable(method) and retries.leaves_open(error):
                        raise unknown(call, error) from None
                    raise
                log.debug("%s: again in %.2f s after %s", call, wait, type(error).__name__)
            idle.wait(wait)
            call.rewind()

    def open_stream(
        self, path: str, *, headers: Mapping[str, str | bytes], idle: float, cancel: Cancel
    ) -> Body:
        """GET a body that is read as it arrives; ``idle`` seconds of silence break it.

        Raises:
            as ``request``; a stream is opened once, its reader decides about again.
        """
        call = Call("GET", path, True, (self.timeout[0], idle), {"headers": dict(headers)})
        response = self._once(call, time.monotonic() + self.deadline, cancel)
        return Body(response, str(call))

    def close(self) -> None:
        self.session.close()

    def _pause(
        self, call: Call, error: BeRayException, attempt: int, until: float, *, patient: bool
    ) -> float | None:
        """Seconds until the call is made again; ``None`` where it is not."""
        may_wait = patient or isinstance(error, ConnectionFailed)
        if attempt > self.max_retries or not call.replayable or not may_wait:
            return None
        wait = retries.pause(error, attempt, may_repeat=self._may_repeat(call, error))
        return None if wait is None or time.monotonic() + wait > until else wait

    def _once(self, call: Call, until: float, cancel: Cancel) -> requests.Response:
        """Make a request, follow it where it may go, and judge the answer."""
        url = f"{self.base_url}{API_PREFIX}{call.path}"
        options = call.options | self._way()
        for _ in range(MAX_REDIRECTS + 1):
            started = time.monotonic()
            answer = self._sent(call, url, options, until, cancel)
            if isinstance(answer, BeRayException):
                # Raised here and not where it arose: so it keeps nothing of the request.
                raise answer
            seconds = time.monotonic() - started
            log.debug("%s -> %d in %.3f s", call, answer.status_code, seconds)
            self._honours_keys |= IDEMPOTENCY_HEADER in answer.headers
            target = answer.headers.get("Location")
            if not (300 <= answer.status_code < 400 and target):
                break
            url = redirected(call, answer, url, target)
            options.pop("params", None)
        else:
            raise InvalidResponseError(
                f"{call}: more than {MAX_REDIRECTS} redirects",
                body="", method=call.method, path=call.path,
            )  # fmt: skip
        if answer.status_code >= 300 and answer.status_code != 304:
            raise api_error(answer, call.method, call.path)
        return answer

    def _way(self) -> dict[str, Any]:
        """What a request says of the way to the server.

        What the session says is said again, because the environment would overrule it.
        """
        session: dict[str, Any] = {}
        if self.session.verify is not True:
            session["verify"] = self.session.verify
        if self.session.proxies:
            session["proxies"] = self.session.proxies
        return self._no_proxies | session | self._given

    def _sent(
        self, call: Call, url: str, options: dict[str, Any], until: float, cancel: Cancel
    ) -> requests.Response | BeRayException:
        """The answer to one request, or what kept it from coming."""
        attempt = Attempt()
        left = until - time.monotonic()
        connect, read = call.timeout
        at: dict[str, Any] = {"method": call.method, "path": call.path}
        try:
            with attempt.under_way(until, cancel):
                response = self.session.request(
                    call.method, url, stream=True, allow_redirects=False,
                    timeout=(max(min(connect, left), 0.001), max(min(read, left), 0.001)),
                    auth=self._authorization(), **options,
                )  # fmt: skip
                if not call.stream or response.status_code >= 300:
                    read_whole(response)
                return response
        except requests.RequestException as error:
            if attempt.expired:
                text = f"{call}: no whole answer within {self.deadline:g} s"
                return DeadlineExceeded(text, delivered=attempt.connected, **at)
            unsent = self._own and not attempt.connected
            return connection_error(error, call.method, call.path, unsent=unsent)
        except OSError as error:
            # Of certificates that a session, or the environment, names and that are not there.
            return ConfigurationError(f"{call}: {error}", **at)
        except UnicodeError:
            return InvalidArgument(f"{call}: an argument is not valid text", **at)
        except ValueError:
            # requests looks at a redirect's target before anybody asks it to.
            return InvalidResponseError(f"{call}: the answer is malformed", body="", **at)

    def _may_repeat(self, call: Call, error: BeRayException) -> bool:
        """Whether ``call`` may be made twice."""
        if retries.repeatable(call.method):
            return True
        keyed = "Idempotency-Key" in call.options["headers"]
        if not keyed or not isinstance(error, ConnectionFailed) or not error.delivered:
            return False
        if not self._honours_keys:
            # Nothing is known of this server yet; any answer tells.
            probe = Call("GET", "/users/me", False, self.timeout, {"headers": {}})
            try:
                self._once(probe, time.monotonic() + _PROBE_SECONDS, Cancel())
            except BeRayException as failed:
                log.debug("%s: %s", probe, type(failed).__name__)
        return self._honours_keys
