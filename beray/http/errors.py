"""Exceptions for error responses, failed connections and malformed bodies.

Source: the BeRay API v1 wire page, "Errors"; RFC 9110, 10.2.3 (Retry-After); RFC 8446, 6.2 (TLS
alerts, by OpenSSL's names).
"""

from __future__ import annotations

import json
import math
import socket
import ssl
import sys
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests

from beray.exceptions import (
    APIError,
    AuthenticationError,
    BeRayException,
    ConfigurationError,
    ConflictError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
    NotFoundError,
    RateLimitError,
    UnprocessableEntityError,
)
from beray.http.connection import tls_reason
from beray.schema import BODY_EXCERPT, SHOULD_RETRY_HEADER

NOT_JSON: Final = "is not JSON"
PRESIGNED_PATH: Final = "(presigned URL)"
"""Replaces the path of a presigned URL, which is a secret, in messages."""
_PRIVATE_PREFIXES: Final = (
    "/auth/",
    "/apikeys",
    "/admin/users",
    "/v1/auth/",
    "/internal/files/download",
    "/internal/files/generate_upload_url",
    PRESIGNED_PATH,
)
"""Paths whose responses may contain a token, a key, a password or a signature."""
JsonDecoder = Callable[[bytes], Any]

_ERRORS: Final[dict[int, type[APIError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
_UNSENDABLE: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidJSONError,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)
_CERTIFICATE_ALERTS: Final = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_",  # REVOKED, EXPIRED, UNKNOWN
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
)
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


# Bodies


def body_excerpt(response: requests.Response, path: str) -> str:
    """Return the first part of a body, for an exception; "" if it may contain a secret."""
    if path.startswith(_PRIVATE_PREFIXES):
        return ""
    # Not ``response.text``, which would detect the encoding of the whole body.
    return response.content[: 4 * BODY_EXCERPT].decode("utf-8", "replace")[:BODY_EXCERPT]


def decode_json(response: requests.Response, method: str, path: str) -> Any:
    """Return the decoded JSON body of ``response``.

    Raises:
        InvalidResponseError: The body is not JSON. ``body`` contains its first part.
    """
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        problem = json_problem(error)
    if problem == NOT_JSON:
        content_type = response.headers.get("Content-Type", "no content type")
        problem += f" ({response.status_code}, {content_type}); is this the URL of a BeRay server?"
    raise InvalidResponseError.for_request(
        method,
        path,
        f"the response {problem}",
        body=body_excerpt(response, path),
        **response_context(response),
    )


def decode_optional_json(response: requests.Response) -> Any:
    """Return the decoded JSON body of a response that need not have one; ``None`` if missing."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def json_problem(error: ValueError | RecursionError) -> str:
    """Return why the JSON decoder failed, as the rest of a sentence such as "is not JSON"."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, (json.JSONDecodeError, UnicodeError)):
        return NOT_JSON
    return f"contains a number of more than {sys.get_int_max_str_digits()} digits"


def decode_event(data: bytes, from_json: JsonDecoder, path: str) -> Any:
    """Return the decoded data of an event, a JSON object.

    Args:
        data: The data of a server-sent event.
        from_json: ``pydantic_core.from_json``, passed because importing it takes time.
        path: Path of the stream, for messages.

    Raises:
        InvalidResponseError: The data is not a JSON object.
    """
    problem = "is not a JSON object"
    try:
        event = from_json(data)
    except ValueError:
        try:
            # The standard library accepts what the stricter and faster decoder rejects: lone
            # surrogates, and bytes that are not UTF-8, once they are replaced.
            event = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            event, problem = None, json_problem(error)
    if event.__class__ is not dict:
        raise InvalidResponseError.for_request(
            "", path, f"an event {problem}", body=data[:BODY_EXCERPT].decode("utf-8", "replace")
        )
    return event


# Error responses


def api_error(response: requests.Response, method: str, path: str, *, advice: str = "") -> APIError:
    """Return the exception for an error response.

    Args:
        response: A response with a status of at least 300.
        method: Method of the request.
        path: Path of the request.
        advice: Sentence that is appended to the message and states what the user can do.
    """
    try:
        body = json.loads(response.content)
        detail = body["detail"] if isinstance(body, dict) and "detail" in body else body
    except (ValueError, RecursionError):
        detail = body_excerpt(response, path)
    if isinstance(detail, list):
        detail = [_without_input(item) for item in detail]
    elif isinstance(detail, dict) and isinstance(detail.get("errors"), list):
        detail = detail | {"errors": [_without_input(item) for item in detail["errors"]]}
    status = response.status_code
    reason = detail_text(detail) or response.reason or ""
    if advice:
        reason = f"{reason.rstrip('.')}. {advice}"
    return _ERRORS.get(status, APIError)(
        f"{status} for {method} {path}: {reason}",
        reason=reason,
        method=method,
        path=path,
        error_detail=detail,
        retry_after=_retry_after_seconds(response.headers.get("Retry-After")),
        is_permanent=response.headers.get(SHOULD_RETRY_HEADER, "").strip().lower() == "false",
        **response_context(response),
    )


def _without_input(problem: Any) -> Any:
    """Remove the repeated input, which may be a password, from a validation error."""
    if not isinstance(problem, dict):
        return problem
    return {name: value for name, value in problem.items() if name not in ("input", "ctx")}


def response_context(response: requests.Response) -> dict[str, Any]:
    """Return the keyword arguments that describe the response in every exception."""
    return {
        "status_code": response.status_code,
        "request_id": response.headers.get("X-Request-ID"),
    }


def detail_text(detail: Any) -> str:
    """Return the ``detail`` of an error response as text of at most 2,048 characters."""
    if isinstance(detail, str):
        return detail[:BODY_EXCERPT]
    if isinstance(detail, list):
        return "; ".join(_problem_text(item) for item in detail)[:BODY_EXCERPT]
    return json.dumps(detail, ensure_ascii=False)[:BODY_EXCERPT] if detail else ""


def _problem_text(item: Any) -> str:
    if not isinstance(item, dict) or "msg" not in item:
        return str(item)
    location = item.get("loc")
    parts = [str(part) for part in location if part != "body"] if isinstance(location, list) else []
    return f"{'.'.join(parts)}: {item['msg']}" if parts else str(item["msg"])


def _retry_after_seconds(value: str | None) -> float | None:
    """Return a ``Retry-After``, which is a number of seconds or a date, in seconds from now."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


# Failed connections


def connection_error(
    error: requests.RequestException, method: str, path: str, *, server: str, unsent: bool
) -> BeRayException:
    """Return the exception for a failure below HTTP. It does not reference the request.

    Args:
        error: The exception of requests.
        method: Method of the request.
        path: Path of the request.
        server: URL of the server, without credentials.
        unsent: True if certainly no byte has reached the server.
    """
    if isinstance(error, _UNSENDABLE):
        reason = "the URL, a header or the body is invalid"
        return InvalidArgument.for_request(method, path, reason)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        reason = "the response does not match its Content-Encoding"
        return InvalidResponseError.for_request(method, path, reason, body="")
    innermost = _innermost(error)
    if isinstance(innermost, ssl.SSLError):
        tls_error = _tls_error(innermost, method, path)
        if tls_error is not None:
            return tls_error
    unsent |= isinstance(error, requests.ConnectTimeout)
    unsent |= isinstance(innermost, (ConnectionRefusedError, socket.gaierror))
    if isinstance(error, requests.ConnectTimeout):
        reason = f"{server} did not accept the connection in time"
        return DeadlineExceeded.for_request(method, path, reason, delivered=False)
    if isinstance(error, requests.Timeout):
        reason = f"{server} did not respond in time"
        return DeadlineExceeded.for_request(method, path, reason, delivered=not unsent)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        reason = f"the connection to {server} broke before the response was complete"
        return ConnectionFailed.for_request(method, path, reason)
    reason = f"could not reach {server} ({_root_cause(error)})"
    return ConnectionFailed.for_request(method, path, reason, delivered=not unsent)


def _tls_error(error: ssl.SSLError, method: str, path: str) -> BeRayException | None:
    """Return the exception for a TLS failure that retries cannot fix; ``None`` for others.

    The server has not received the request.
    """
    alert = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the server's certificate is not trusted ({error.verify_message})"
        return InvalidResponseError.for_request(method, path, reason, body="")
    if "ALERT_CERTIFICATE_REQUIRED" in alert:
        reason = "the server requires a client certificate"
        return ConfigurationError.for_request(method, path, reason)
    if any(name in alert for name in _CERTIFICATE_ALERTS):
        reason = f"the server rejected the client certificate ({tls_reason(alert)})"
        return ConfigurationError.for_request(method, path, reason)
    if "ALERT_HANDSHAKE_FAILURE" in alert:
        reason = "the server rejected the TLS connection; it may require a client certificate"
        return ConfigurationError.for_request(method, path, reason)
    if any(name in alert for name in _NOT_TLS):
        reason = "the server does not use TLS on this port; try a URL that begins with http://"
        return InvalidResponseError.for_request(method, path, reason, body="")
    return None


def _root_cause(error: BaseException) -> str:
    """Return the innermost reason: "Connection refused" instead of a list of class names."""
    innermost = _innermost(error)
    if isinstance(innermost, OSError) and innermost.strerror:
        return innermost.strerror
    return type(innermost).__name__


def _innermost(error: BaseException) -> BaseException:
    seen = {id(error)}
    while True:
        inner = getattr(error, "reason", None) or error.__cause__ or error.__context__
        inner = inner or next(iter(error.args), None)
        if not isinstance(inner, BaseException) or id(inner) in seen:
            return error
        seen.add(id(inner))
        error = inner
