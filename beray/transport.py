"""One way to make a request, one to open a stream.

Everything a call has in common is here: the session, the deadlines, redirects that
stay on the server, and the translation of answers and failures into exceptions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urljoin

import requests
from pydantic import TypeAdapter
from requests.auth import AuthBase

from beray.config import checked_base_url, origin
from beray.exceptions import (
    APIError,
    AuthenticationError,
    BeRayException,
    ConflictError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
    NotFoundError,
    RateLimitError,
    UnprocessableEntityError,
)
from beray.schema import BODY_EXCERPT, checked
from beray.version import __version__

T = TypeVar("T")
Timeout = tuple[float, float]
"""Seconds to connect, and seconds without a byte while reading."""

DEFAULT_TIMEOUT: Final[Timeout] = (10.0, 60.0)
MAX_REDIRECTS: Final = 5
API_PREFIX: Final = "/api/v1"
_ERRORS: Final[dict[int, type[APIError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}

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


class Transport:
    """A session bound to one server."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout: Timeout = DEFAULT_TIMEOUT,
        session: requests.Session | None = None,
    ) -> None:
        self.base_url = checked_base_url(base_url)
        self.timeout = timeout
        self.session = session or requests.Session()
        self.session.headers.setdefault("User-Agent", f"beray/{__version__}")
        if self.session.auth is None:
            self.session.auth = _SessionHeaderAuth()

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

    def json(self, adapter: TypeAdapter[T], method: str, path: str, **options: Any) -> T:
        """Make a request and return its JSON, checked against ``adapter``."""
        response = self.request(method, path, **options)
        what = f"{method} {path}"
        return checked(
            adapter,
            decoded_json(response, what),
            what=what,
            body=response.text,
            status_code=response.status_code,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        timeout: Timeout | None = None,
    ) -> requests.Response:
        """Make a request below ``/api/v1`` and return its successful response.

        With ``stream`` the body is left to be read, and to be closed, by the caller.

        Raises:
            APIError: the server said no; the subclass says how.
            ConnectionFailed, DeadlineExceeded: there was no whole answer.
            InvalidResponseError: it redirects elsewhere.
        """
        what = f"{method} {path}"
        url = f"{self.base_url}{API_PREFIX}{path}"
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = self.session.request(
                    method,
                    url,
                    params=params,
                    json=json,
                    data=data,
                    headers=headers,
                    stream=stream,
                    timeout=timeout or self.timeout,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise connection_error(error, what) from None
            except UnicodeError:
                raise InvalidArgument(f"{what}: an argument is not valid text") from None
            except ValueError:
                # requests looks at a redirect's target before anybody asks it to.
                raise InvalidResponseError(
                    f"{what}: the answer is malformed", body="", status_code=None
                ) from None
            log.debug("%s -> %d", what, response.status_code)
            target = response.headers.get("Location")
            if not (300 <= response.status_code < 400 and target):
                break
            url = self._redirected(response, url, target, what, replayable=data is None)
            params = None
        else:
            raise InvalidResponseError(
                f"{what}: more than {MAX_REDIRECTS} redirects", body="", status_code=None
            )
        if response.status_code >= 300 and response.status_code != 304:
            with response:
                raise api_error(response, method, path)
        return response

    def _redirected(
        self, response: requests.Response, url: str, target: str, what: str, *, replayable: bool
    ) -> str:
        """Where a redirect leads, if it may be followed: same server, same request."""
        response.close()
        try:
            location = urljoin(url, target)
            same = origin(location) == origin(url)
        except ValueError:
            location, same = url, False
        keeps_method = response.status_code in (307, 308) or what.startswith(("GET ", "HEAD "))
        if same and keeps_method and replayable:
            return location
        where = "a place that the request cannot follow" if same else "another server"
        raise InvalidResponseError(
            f"{what}: the server redirects to {where}, which gets no credentials from here; "
            "check the server's URL",
            body="",
            status_code=response.status_code,
        )

    def close(self) -> None:
        self.session.close()


def decoded_json(response: requests.Response, what: str) -> Any:
    """Decode the body of ``response``.

    Raises:
        InvalidResponseError: with the first part of a body that is not JSON.
    """
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        kind = response.headers.get("Content-Type", "no content type")
        raise InvalidResponseError(
            f"{what}: the answer is not JSON ({response.status_code}, {kind}); "
            "is this the URL of a BeRay server?",
            body=response.text[:BODY_EXCERPT],
            status_code=response.status_code,
        ) from None


def api_error(response: requests.Response, method: str, path: str) -> APIError:
    """The exception that an unsuccessful response stands for."""
    try:
        body = json.loads(response.content)
        detail = body["detail"] if isinstance(body, dict) and "detail" in body else body
    except (ValueError, RecursionError):
        detail = response.text[:BODY_EXCERPT]
    except requests.RequestException:
        detail = "the connection broke before the reason arrived"
    status = response.status_code
    return _ERRORS.get(status, APIError)(
        f"{status} for {method} {path}: {_in_words(detail) or response.reason}",
        status_code=status,
        error_detail=detail,
        method=method,
        path=path,
        request_id=response.headers.get("X-Request-ID"),
        retry_after=_seconds(response.headers.get("Retry-After")),
    )


def connection_error(error: Exception, what: str) -> BeRayException:
    """The exception that a failure below HTTP stands for, without the request in it."""
    if isinstance(error, requests.ConnectTimeout):
        return DeadlineExceeded(f"{what}: the server did not accept the connection in time")
    if isinstance(error, requests.Timeout):
        return DeadlineExceeded(f"{what}: the server did not answer in time")
    if isinstance(error, requests.exceptions.SSLError):
        return ConnectionFailed(f"{what}: the server's TLS certificate was not accepted")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader)):
        return InvalidArgument(f"{what}: the request cannot be sent as it is")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return ConnectionFailed(f"{what}: the connection broke before the answer was complete")
    return ConnectionFailed(f"{what}: could not reach the server ({_root_cause(error)})")


def _root_cause(error: BaseException) -> str:
    """The innermost reason, which says "Connection refused" where the outer ones say names."""
    seen = {id(error)}
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException) or id(inner) in seen:
            break
        seen.add(id(inner))
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _in_words(detail: Any) -> str:
    if isinstance(detail, str):
        return detail
    if isinstance(detail, list):
        return "; ".join(_problem(item) for item in detail)
    return json.dumps(detail, ensure_ascii=False)[:BODY_EXCERPT] if detail else ""


def _problem(item: Any) -> str:
    if not isinstance(item, dict) or "msg" not in item:
        return str(item)
    place = item.get("loc")
    parts = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
    return f"{'.'.join(parts)}: {item['msg']}" if parts else str(item["msg"])


def _seconds(value: str | None) -> float | None:
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
