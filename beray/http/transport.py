"""HTTP transport of all clients: authentication, retries, redirects, deadlines and error mapping.

A request (:class:`beray.http.request.ApiRequest`) may take several attempts. Redirects are followed
only on the same server. Every failure becomes an exception that holds no reference to the
request, which may contain a credential.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn, Self, TypeVar
from urllib.parse import quote

import requests
from requests.structures import CaseInsensitiveDict

from beray.config import checked_base_url, checked_token, is_loopback, origin
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
)
from beray.http import paging, retry
from beray.http.auth import AuthProvider, HeaderAuth, bearer_auth
from beray.http.connection import (
    CancelToken,
    RequestAttempt,
    check_certificate_files,
    new_session,
    tracks_attempts,
)
from beray.http.errors import (
    api_error,
    body_excerpt,
    connection_error,
    decode_json,
    decode_optional_json,
    response_context,
)
from beray.http.request import (
    ApiRequest,
    Timeout,
    outcome_unknown_error,
    redirect_target,
)
from beray.http.response_body import (
    MAX_JSON_BYTES,
    MAX_MEMORY_BYTES,
    BodyLimit,
    ResponseBody,
    json_limit,
    memory_limit,
    read_content,
)
from beray.schema import API_PREFIX, IDEMPOTENCY_HEADER, ResponseSchema

T = TypeVar("T")
DEFAULT_TIMEOUT: Final[Timeout] = (10.0, 60.0)
DEFAULT_DEADLINE: Final = 300.0
"""Seconds for a request with all its attempts."""
MAX_REDIRECTS: Final = 5
SIGN_IN_PATHS: Final = (
    "/auth/register", "/auth/login", "/auth/token", "/auth/reset-password", "/auth/setup",
)  # fmt: skip
_PROBE_SECONDS: Final = 10.0

log = logging.getLogger("beray.transport")


def quote_path_segment(value: object) -> str:
    """Return ``value`` percent-encoded as one segment of a path.

    Raises:
        InvalidArgument: The value is "", "." or "..", which would address another path.
    """
    try:
        text = str(value)
    except ValueError:  # a very large integer
        limit = sys.get_int_max_str_digits()
        raise InvalidArgument(f"the id must not have more than {limit} digits") from None
    if text in ("", ".", ".."):
        raise InvalidArgument(f"{text!r} is not a valid id")
    return quote(text, safe="")


class Transport:
    """Sends requests to one server. Thread-safe.

    Args:
        base_url: URL of the server.
        prefix: Start of every path, such as ``/api/v1``.
        auth_provider: Authenticates every request; without it, ``set_token`` does.
        timeout: Seconds to connect, and seconds without a received byte.
        deadline: Seconds for a request with all its attempts.
        max_retries: Maximum number of attempts after the first one.
        session: A session of the caller; ``None`` creates one.
        verify: False, or the path of trusted certificates.
        cert: Path of a client certificate, or the paths of certificate and key.
        proxies: Proxy URLs by scheme; ``None`` uses those of the environment.
        max_json_bytes: Limit of a JSON response, in bytes after decompression.
        max_memory_bytes: Limit of any other response that is read into memory.

    Attributes:
        honours_idempotency_keys: True once a response stated that the server honours
            ``Idempotency-Key``.
        sign_in_advice: Sentence that is appended to the message of a 401 after a request without
            authentication.

    Raises:
        ConfigurationError: ``base_url`` or a certificate file is invalid.
        InvalidArgument: A limit is not a positive integer.
    """

    sign_in_advice = ""

    def __init__(
        self,
        base_url: str,
        *,
        prefix: str = API_PREFIX,
        auth_provider: AuthProvider | None = None,
        timeout: Timeout = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_retries: int = retry.MAX_RETRIES,
        session: requests.Session | None = None,
        verify: bool | str | None = None,
        cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        max_json_bytes: int = MAX_JSON_BYTES,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self.base_url = checked_base_url(base_url)
        self.session = session or new_session()
        self.timeout = timeout
        self.deadline = deadline
        self.max_retries = max_retries
        self.json_limit = json_limit(max_json_bytes)
        self.memory_limit = memory_limit(max_memory_bytes)
        self.honours_idempotency_keys = False
        self._prefix = prefix
        self._owns_session = session is None
        self._auth_provider = auth_provider or AuthProvider()
        options: dict[str, Any] = {"verify": verify, "cert": cert, "proxies": proxies}
        self._options = {name: value for name, value in options.items() if value is not None}
        # Proxies of the environment are not meant for servers on this machine.
        local = is_loopback(self.base_url)
        self._no_proxies = {"proxies": dict.fromkeys(("http", "https", "all"))} if local else {}
        check_certificate_files(verify, cert)

    def close(self) -> None:
        """Close the connections. Later requests open new ones."""
        self.session.close()

    # Authentication and connection options

    def set_token(self, token: str | None) -> None:
        """Authenticate later requests with ``token``; ``None`` sends them without one.

        Raises:
            InvalidArgument: The token contains characters that a header cannot carry.
        """
        if token is not None:
            token = checked_token(token)
        if not self._owns_session:
            self._auth_provider = AuthProvider(bearer_auth(token))
        else:
            # Scripts read the token from this header. It is replaced as a whole, because other
            # threads may be reading it.
            headers = CaseInsensitiveDict(self.session.headers)
            headers.pop("Authorization", None)
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            self.session.headers = headers

    def set_auth_provider(self, auth_provider: AuthProvider) -> None:
        """Authenticate later requests with ``auth_provider``."""
        self._auth_provider = auth_provider

    def connection_options(self, url: str) -> dict[str, Any]:
        """Return proxies and TLS options for a URL received from this server.

        The client certificate is a credential: it is omitted for URLs on another server.
        """
        options = self._session_options() | self._options
        if origin(url) != origin(self.base_url):
            options.pop("cert", None)
        return options

    def _request_options(self) -> dict[str, Any]:
        """Return the connection options of a request.

        Session settings are repeated because requests lets environment variables override them.
        """
        return self._no_proxies | self._session_options() | self._options

    def _session_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.session.verify is not True:
            options["verify"] = self.session.verify
        if self.session.proxies:
            options["proxies"] = self.session.proxies
        return options

    # Requests with retries

    def json(self, schema: ResponseSchema[T], method: str, path: str, **options: Any) -> T:
        """Send a request and return its JSON body, validated by ``schema``.

        Args:
            schema: Schema of the body.
            method: HTTP method.
            path: Path below the prefix.
            options: As for ``request``.
        """
        response = self.request(method, path, body_limit=self.json_limit, **options)
        return self.validated_json(schema, response, method, path)

    def pages(
        self,
        schema: ResponseSchema[list[T]],
        path: str,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[list[T]]:
        """Yield the pages of a list, following the ``Link`` header from page to page.

        Raises:
            InvalidResponseError: A link leads to another list, or to a page that was read before.
        """
        return paging.iter_pages(
            lambda query: self.page(schema, path, query, **options), path, params
        )

    def page(
        self,
        schema: ResponseSchema[list[T]],
        path: str,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> tuple[list[T], dict[str, str] | None]:
        """Return a page of a list, and the query of the next page or ``None``.

        Raises:
            InvalidResponseError: The link to the next page leads to another list.
        """
        response = self.request("GET", path, params=params, body_limit=self.json_limit, **options)
        page = self.validated_json(schema, response, "GET", path)
        return page, paging.next_query(response, path)

    @staticmethod
    def validated_json(
        schema: ResponseSchema[T], response: requests.Response, method: str, path: str
    ) -> T:
        """Return the JSON body of a response, validated by ``schema``.

        A 204 has no body; the body of a mocked 204 is returned if it is valid.

        Raises:
            InvalidResponseError: The body is not JSON, or is invalid.
        """
        data: Any
        if response.status_code == requests.codes.no_content:
            data = decode_optional_json(response)
            if data is None or schema.problem(data) is not None:
                data = schema.empty()
        else:
            data = decode_json(response, method, path)
        problem = schema.problem(data)
        if problem is not None:
            raise InvalidResponseError.for_request(
                method,
                path,
                f"the response does not have the documented form: {problem}",
                body=body_excerpt(response, path),
                **response_context(response),
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
        idempotent: bool = False,
        idempotency_key: str | None = None,
        retry_error_responses: bool = True,
        cancel: CancelToken | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        body_limit: BodyLimit | None = None,
        **content: Any,
    ) -> requests.Response:
        """Send a request and return its successful response, retrying as ``beray.http.retry`` says.

        Args:
            method: HTTP method.
            path: Path below the prefix.
            stream: Leave the body to be read and closed by the caller.
            timeout: Overrides the transport's timeout.
            deadline: Overrides the transport's deadline, in seconds.
            idempotent: True if repeating the request has no additional effect, although its
                method is not idempotent.
            idempotency_key: Value of ``Idempotency-Key``. With a server that honours it, a POST
                is retried like an idempotent request.
            retry_error_responses: False raises the first error response, for example if a person
                waits for the result.
            cancel: Cancels the request, which then raises ConnectionFailed.
            headers: Additional headers.
            body_limit: Limit of a body that is not streamed; ``memory_limit`` by default.
            content: ``params``, ``json`` and ``data`` of requests.

        Raises:
            APIError: The server returned an error; the subclass depends on the status.
            ResponseTooLarge: The body is larger than ``body_limit``.
            ConnectionFailed: The server could not be reached, or the connection broke.
            DeadlineExceeded: There was no complete response in time.
            OutcomeUnknown: The same, and the request may have been processed.
            InvalidResponseError: The response is malformed or redirects to another server.
            InvalidArgument: The request contains a value that cannot be sent.
            ConfigurationError: A certificate file is unusable.
        """
        all_headers = dict(headers or {})
        if idempotency_key is not None:
            all_headers["Idempotency-Key"] = idempotency_key
        request = ApiRequest(
            method, path, stream, timeout or self.timeout, {"headers": all_headers, **content},
            deadline or self.deadline, idempotent,
            None if stream else body_limit or self.memory_limit,
        )  # fmt: skip
        ends_at = math.inf if request.is_upload else time.monotonic() + request.deadline
        token = cancel or CancelToken()
        attempt, delivered = 0, False
        while True:
            attempt += 1
            try:
                return self._send_authenticated(request, ends_at, token)
            except BeRayException as error:
                delay = self._retry_delay(
                    request, error, attempt, ends_at, retry_error_responses=retry_error_responses
                )
                if isinstance(error, ConnectionFailed) and error.delivered:
                    delivered = True
                if delay is None or token.cancelled:
                    if delivered and not request.is_idempotent and retry.outcome_unknown(error):
                        raise outcome_unknown_error(request, error) from None
                    raise
                log.debug("%s: retry in %.2f s after %s", request, delay, type(error).__name__)
            token.wait(delay)
            request.rewind()

    def open_stream(
        self,
        path: str,
        *,
        headers: Mapping[str, str | bytes],
        idle: float,
        cancel: CancelToken,
        method: str = "GET",
        deadline: float | None = None,
        **content: Any,
    ) -> ResponseBody:
        """Send a request once and return its body, to be read as it arrives.

        Retries are up to the reader of the stream.

        Args:
            path: Path below the prefix.
            headers: Additional headers.
            idle: Seconds without a received byte after which the connection counts as broken.
            cancel: Cancels the request until its headers have arrived.
            method: HTTP method.
            deadline: Seconds until the headers have arrived; overrides the transport's deadline.
            content: ``params``, ``json`` and ``data`` of requests.

        Raises:
            BeRayException: As for ``request``.
        """
        options = {"headers": dict(headers), **content}
        seconds = deadline or self.deadline
        request = ApiRequest(method, path, True, (self.timeout[0], idle), options, seconds)
        try:
            response = self._send_authenticated(request, time.monotonic() + seconds, cancel)
        except ConnectionFailed as error:
            if request.is_idempotent or not error.delivered:
                raise
            raise outcome_unknown_error(request, error) from None
        return ResponseBody(response, f"{request} from {self.base_url}")

    def _retry_delay(
        self,
        request: ApiRequest,
        error: BeRayException,
        attempt: int,
        ends_at: float,
        *,
        retry_error_responses: bool,
    ) -> float | None:
        """Return the seconds until the next attempt; ``None`` if there must be none."""
        is_retryable = retry_error_responses or isinstance(error, ConnectionFailed)
        if attempt > self.max_retries or not request.is_replayable or not is_retryable:
            return None
        delay = retry.retry_delay(error, attempt, idempotent=self._may_repeat(request, error))
        return None if delay is None or time.monotonic() + delay > ends_at else delay

    def _may_repeat(self, request: ApiRequest, error: BeRayException) -> bool:
        """Return True if the server may process ``request`` twice."""
        if request.is_idempotent:
            return True
        has_key = "Idempotency-Key" in request.options["headers"]
        if not has_key or not isinstance(error, ConnectionFailed) or not error.delivered:
            return False
        if not self.honours_idempotency_keys:
            # The headers of any response show whether the server honours keys.
            probe = ApiRequest("GET", "/users/me", False, self.timeout, {"headers": {}})
            try:
                self._send_authenticated(probe, time.monotonic() + _PROBE_SECONDS, CancelToken())
            except BeRayException as failed:
                log.debug("%s: %s", probe, type(failed).__name__)
        return self.honours_idempotency_keys

    def _send_authenticated(
        self, request: ApiRequest, ends_at: float, cancel: CancelToken
    ) -> requests.Response:
        """Send a request; once more if its credential has expired and can be renewed."""
        auth = self._auth_provider.auth(cancel)
        try:
            return self.send_once(request, ends_at, cancel, auth)
        except AuthenticationError as error:
            is_renewable = error.status_code == 401 and request.is_replayable
            renewed = self._auth_provider.renew(auth, cancel) if is_renewable else None
            if renewed is None:
                raise
        request.rewind()
        return self.send_once(request, ends_at, cancel, renewed)

    # Single attempts

    def _url(self, request: ApiRequest) -> str:
        return f"{self.base_url}{self._prefix}{request.path}"

    def send_once(
        self, request: ApiRequest, ends_at: float, cancel: CancelToken, auth: HeaderAuth
    ) -> requests.Response:
        """Make one attempt at a request, following redirects on the same server.

        Args:
            request: The request.
            ends_at: Monotonic time at which the attempt is interrupted.
            cancel: Interrupts the attempt earlier.
            auth: Authentication of the attempt.

        Raises:
            BeRayException: As for ``request``.
        """
        url = self._url(request)
        options = request.options | self._request_options()
        for _ in range(MAX_REDIRECTS + 1):
            started = time.monotonic()
            response = self._attempt(request, url, options | {"auth": auth}, ends_at, cancel)
            if isinstance(response, BeRayException):
                # Raised here, so that its traceback does not reference the prepared request.
                raise response
            seconds = time.monotonic() - started
            log.debug("%s -> %d in %.3f s", request, response.status_code, seconds)
            self.honours_idempotency_keys |= IDEMPOTENCY_HEADER in response.headers
            location = response.headers.get("Location")
            if not (300 <= response.status_code < 400 and location):
                break
            url = redirect_target(request, response, url, location)
            options.pop("params", None)
        else:
            reason = f"more than {MAX_REDIRECTS} redirects"
            raise InvalidResponseError.for_request(request.method, request.path, reason, body="")
        if response.status_code >= 300 and response.status_code != 304:
            advice = self._advice(request, response)
            raise api_error(response, request.method, request.path, advice=advice)
        return response

    def _advice(self, request: ApiRequest, response: requests.Response) -> str:
        """Return how to sign in, after a 401 for a request without authentication."""
        headers: Mapping[str, str] = getattr(response.request, "headers", {})
        is_unauthenticated = response.status_code == 401 and "Authorization" not in headers
        return (
            "" if not is_unauthenticated or request.path in SIGN_IN_PATHS else self.sign_in_advice
        )

    def _attempt(
        self,
        request: ApiRequest,
        url: str,
        options: dict[str, Any],
        ends_at: float,
        cancel: CancelToken,
    ) -> requests.Response | BeRayException:
        """Return the response to one HTTP request, or the exception to raise."""
        attempt = RequestAttempt()
        remaining = ends_at - time.monotonic()
        connect, read = request.timeout
        method, path = request.method, request.path
        try:
            with attempt.active(ends_at, cancel):
                response = self.session.request(
                    method, url, stream=True, allow_redirects=False,
                    timeout=(max(min(connect, remaining), 0.001), max(min(read, remaining), 0.001)),
                    **options,
                )  # fmt: skip
                if not request.stream or response.status_code >= 300:
                    limit = request.body_limit
                    if not read_content(response, limit.max_bytes if limit else None) and limit:
                        return limit.error(method, path)
                return response
        except requests.RequestException as error:
            if attempt.expired:
                seconds = f"{request.deadline:g} s"
                reason = f"no complete response from {self.base_url} within {seconds}"
                return DeadlineExceeded.for_request(
                    method, path, reason, delivered=attempt.connected
                )
            unsent = tracks_attempts(self.session, url) and not attempt.connected
            return connection_error(error, method, path, server=self.base_url, unsent=unsent)
        except OSError as error:
            # A certificate file of the session or the environment is missing.
            return ConfigurationError.for_request(method, path, str(error))
        except UnicodeError:
            return InvalidArgument.for_request(method, path, "an argument is not valid Unicode")
        except ValueError:
            # requests parses the target of a redirect even if it does not follow it.
            reason = "the response is malformed"
            return InvalidResponseError.for_request(method, path, reason, body="")


class BaseClient:
    """Base class of the clients: a context manager that owns a transport.

    Its ``repr`` contains the server's URL, and no credential.
    """

    _transport: Transport

    @property
    def base_url(self) -> str:
        """URL of the server, without a path prefix."""
        return self._transport.base_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds credentials and connections and cannot be pickled")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client opens new ones if it is used again."""
        self._transport.close()
