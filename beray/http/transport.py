"""One way to make a request, one to open a stream.

Everything a call has in common is here: its deadlines, what signs it, and whether it is
made again. What one attempt is, :mod:`beray.http.exchange` knows.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import requests
from requests.structures import CaseInsensitiveDict

from beray.config import checked_token
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConnectionFailed,
    InvalidArgument,
    InvalidResponseError,
)
from beray.http import paging, retry
from beray.http.auth import Credential, Signature, bearer
from beray.http.calls import (
    MAX_JSON_BYTES,
    MAX_MEMORY_BYTES,
    BodyLimit,
    Call,
    Timeout,
    json_limit,
    memory_limit,
    unknown,
)
from beray.http.connection import Cancel, new_session
from beray.http.errors import context, decoded_json, excerpt, mocked_json
from beray.http.exchange import Exchange
from beray.http.response_body import Body
from beray.schema import Shape

T = TypeVar("T")
DEFAULT_TIMEOUT: Final[Timeout] = (10.0, 60.0)
DEFAULT_DEADLINE: Final = 300.0
API_PREFIX: Final = "/api/v1"
_PROBE_SECONDS: Final = 10.0

log = logging.getLogger("beray.transport")


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


class Transport(Exchange):
    """Makes calls of one server. Safe to share between threads.

    Args:
        prefix: what every path begins with, as ``/api/v1``.
        credential: signs every request; otherwise ``set_token`` says what does.
        timeout, deadline, …: as for :class:`beray.client.BeRayClient`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        prefix: str = API_PREFIX,
        credential: Credential | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_retries: int = retry.RETRIES,
        session: requests.Session | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        max_json_bytes: int = MAX_JSON_BYTES,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        super().__init__(
            base_url, prefix, session or new_session(), verify=verify, cert=cert, proxies=proxies
        )
        self.timeout = timeout
        self.deadline = deadline
        self.max_retries = max_retries
        self.json_limit = json_limit(max_json_bytes)
        self.memory_limit = memory_limit(max_memory_bytes)
        self._own = session is None
        self._credential = credential or Credential()

    def set_token(self, token: str | None) -> None:
        """Sign every later request with ``token``, or with nothing.

        Raises:
            InvalidArgument: for characters that a header cannot carry.
        """
        if token is not None:
            token = checked_token(token)
        if not self._own:
            self._credential = Credential(bearer(token))
        else:
            # Where scripts look for it. Replaced as a whole: other threads may be reading.
            headers = CaseInsensitiveDict(self.session.headers)
            headers.pop("Authorization", None)
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            self.session.headers = headers

    def set_credential(self, credential: Credential) -> None:
        """Sign every later request with ``credential``."""
        self._credential = credential

    def _authorization(self, cancel: Cancel | None = None) -> Signature:
        """On a session of our own its header counts, also where a script has set it."""
        return self._credential.signature(cancel)

    def json(self, shape: Shape[T], method: str, path: str, **options: Any) -> T:
        """Make a request and return its JSON, checked against ``shape``."""
        response = self.request(method, path, limit=self.json_limit, **options)
        return self.checked(shape, response, method, path)

    def pages(
        self,
        shape: Shape[list[T]],
        path: str,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[list[T]]:
        """Yield the pages of a list, following the ``Link`` from each page to the next.

        Raises:
            InvalidResponseError: A link leads elsewhere, or to a page that was read already.
        """
        read: set[frozenset[tuple[str, str]]] = set()
        query: Mapping[str, Any] | None = params
        while True:
            page, query = self.page(shape, path, query, **options)
            if query is not None:
                key = frozenset(query.items())
                if key in read:
                    raise InvalidResponseError(
                        f"GET {path}: the Link to the next page leads back to {dict(query)}",
                        body="",
                        method="GET",
                        path=path,
                    )
                read.add(key)
            yield page
            if query is None:
                return

    def page(
        self,
        shape: Shape[list[T]],
        path: str,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> tuple[list[T], dict[str, str] | None]:
        """Return a page of a list, and the query of the next page if there is one.

        Raises:
            InvalidResponseError: The link to the next page leads elsewhere.
        """
        response = self.request("GET", path, params=params, limit=self.json_limit, **options)
        page = self.checked(shape, response, "GET", path)
        return page, paging.next_query(response, path)

    @staticmethod
    def checked(shape: Shape[T], response: requests.Response, method: str, path: str) -> T:
        """Return the JSON of an answer, checked against ``shape``.

        A 204 has no content; what a mocked one has is used if it has the right shape.
        """
        data: Any
        if response.status_code == requests.codes.no_content:
            data = mocked_json(response)
            if data is None or shape.problem(data) is not None:
                data = shape.empty()
        else:
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
        deadline: float | None = None,
        harmless: bool = False,
        idempotency_key: str | None = None,
        patient: bool = True,
        cancel: Cancel | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        limit: BodyLimit | None = None,
        **content: Any,
    ) -> requests.Response:
        """Make a request below the prefix and return its successful response.

        It is made again where that is certain to be harmless (:mod:`beray.http.retry`).

        Args:
            stream: leave the body to be read, and to be closed, by the caller.
            timeout, deadline: other than the client's.
            harmless: twice is the same as once, though the method does not say so.
            idempotency_key: makes a POST one that may be repeated, with a server that
                honours it.
            patient: ``False`` raises at once where the server asks to wait.
            cancel: calls it off, in whichever wait it is; that ends as ConnectionFailed.
            limit: of the body, if it is not streamed; ``memory_limit`` by default.
            content: ``params``, ``json`` and ``data``, as for ``requests``.

        Raises:
            APIError: the server said no; the subclass says how.
            ResponseTooLarge: the body is larger than ``limit``.
            ConnectionFailed, DeadlineExceeded: there was no whole answer.
            OutcomeUnknown: nor is it known whether the call was done.
            InvalidResponseError: it redirects elsewhere.
        """
        sent = dict(headers or {})
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        call = Call(
            method, path, stream, timeout or self.timeout, {"headers": sent, **content},
            deadline or self.deadline, harmless,
            None if stream else limit or self.memory_limit,
        )  # fmt: skip
        until = math.inf if call.uploads else time.monotonic() + call.deadline
        idle = cancel or Cancel()
        attempt, delivered = 0, False
        while True:
            attempt += 1
            try:
                return self._signed(call, until, idle)
            except BeRayException as error:
                wait = self._pause(call, error, attempt, until, patient=patient)
                delivered |= isinstance(error, ConnectionFailed) and error.delivered
                if wait is None or idle.cancelled:
                    if delivered and not _repeatable(call) and retry.leaves_open(error):
                        raise unknown(call, error) from None
                    raise
                log.debug("%s: again in %.2f s after %s", call, wait, type(error).__name__)
            idle.wait(wait)
            call.rewind()

    def open_stream(
        self,
        path: str,
        *,
        headers: Mapping[str, str | bytes],
        idle: float,
        cancel: Cancel,
        method: str = "GET",
        deadline: float | None = None,
        **content: Any,
    ) -> Body:
        """Open a body that is read as it arrives; ``idle`` seconds of silence break it.

        Args:
            deadline: seconds until it begins to arrive, other than the client's.

        Raises:
            as ``request``; a stream is opened once, its reader decides about again.
        """
        options = {"headers": dict(headers), **content}
        seconds = deadline or self.deadline
        call = Call(method, path, True, (self.timeout[0], idle), options, seconds)
        try:
            response = self._signed(call, time.monotonic() + seconds, cancel)
        except ConnectionFailed as error:
            if _repeatable(call) or not error.delivered:
                raise
            raise unknown(call, error) from None
        return Body(response, f"{call} from {self.base_url}")

    def _pause(
        self, call: Call, error: BeRayException, attempt: int, until: float, *, patient: bool
    ) -> float | None:
        """Seconds until the call is made again; ``None`` where it is not."""
        may_wait = patient or isinstance(error, ConnectionFailed)
        if attempt > self.max_retries or not call.replayable or not may_wait:
            return None
        wait = retry.pause(error, attempt, may_repeat=self._may_repeat(call, error))
        return None if wait is None or time.monotonic() + wait > until else wait

    def _signed(self, call: Call, until: float, cancel: Cancel) -> requests.Response:
        """Make a request; once more where what signed it has expired and can be renewed."""
        signature = self._authorization(cancel)
        try:
            return self.once(call, until, cancel, signature)
        except AuthenticationError as error:
            renewable = error.status_code == 401 and call.replayable
            renewed = self._credential.renewed(signature, cancel) if renewable else None
            if renewed is None:
                raise
        call.rewind()
        return self.once(call, until, cancel, renewed)

    def _may_repeat(self, call: Call, error: BeRayException) -> bool:
        """Whether ``call`` may be made twice."""
        if _repeatable(call):
            return True
        keyed = "Idempotency-Key" in call.options["headers"]
        if not keyed or not isinstance(error, ConnectionFailed) or not error.delivered:
            return False
        if not self.honours_keys:
            # Nothing is known of this server yet; any answer tells.
            probe = Call("GET", "/users/me", False, self.timeout, {"headers": {}})
            try:
                self._signed(probe, time.monotonic() + _PROBE_SECONDS, Cancel())
            except BeRayException as failed:
                log.debug("%s: %s", probe, type(failed).__name__)
        return self.honours_keys


def _repeatable(call: Call) -> bool:
    return call.harmless or retry.repeatable(call.method)
