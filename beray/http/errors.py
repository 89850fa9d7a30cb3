"""What a server's answer, or the lack of one, means.

Source: the BeRay API v1 wire page, "Errors"; RFC 9110, 10.2.3 (Retry-After).
"""

from __future__ import annotations

import json
import math
import socket
import ssl
import sys
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, Final

import requests
import urllib3

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
from beray.http import decompression, tls
from beray.schema import BODY_EXCERPT, SHOULD_RETRY_HEADER

REFUSAL_BYTES: Final = 1024 * 1024
"""Of a refusal's body, unpacked, as much is read."""
NOT_JSON: Final = "is not JSON"
PRESIGNED: Final = "(presigned URL)"
"""Stands for the path of a presigned URL, which nobody is to see."""
_PRIVATE: Final = (
    "/auth/",
    "/v1/auth/",
    "/internal/files/download",
    "/internal/files/generate_upload_url",
    PRESIGNED,
)
"""Where an answer may hold a token or a signature."""
FromJson = Callable[[bytes], Any]

_ERRORS: Final[dict[int, type[APIError]]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


_NOT_SENDABLE: Final = (
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidJSONError,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
)


def read_whole(response: requests.Response, max_bytes: int | None) -> bool:
    """Read the body of a streamed ``response`` into its ``content``.

    A small compressed body can expand to any size, so its decoded size counts. At most
    1 MiB of an error response is read.

    Args:
        max_bytes: size of the largest successful body, in bytes; None accepts any size.

    Returns:
        False if a successful body is larger than ``max_bytes``. The connection is then closed.

    Raises:
        requests.RequestException: as requests itself would raise.
    """
    pieces: list[bytes] = []
    refused = response.status_code >= 300
    limit = REFUSAL_BYTES if refused else sys.maxsize if max_bytes is None else max_bytes
    if not refused and _announced_bytes(response) > limit:
        response.close()
        return False
    if getattr(response, "_content", False) is not False:
        return refused or len(response.content) <= limit  # made by a mock, without a connection
    if response.status_code == requests.codes.no_content and hasattr(
        response.raw, "enforce_content_length"
    ):
        response.raw.enforce_content_length = False  # mocked ones have a body
    size = 0
    try:
        receive = decompression.receiver(response)
        while size <= limit and (piece := receive()):
            pieces.append(piece)
            size += len(piece)
        if size > limit:
            response.close()
            if not refused:
                return False
    except (zlib.error, urllib3.exceptions.DecodeError) as error:
        response.close()
        raise requests.exceptions.ContentDecodingError(error) from None
    except (urllib3.exceptions.ReadTimeoutError, TimeoutError) as error:
        response.close()
        raise requests.ReadTimeout(error) from None
    except (urllib3.exceptions.HTTPError, OSError, AttributeError, EOFError) as error:
        response.close()
        if isinstance(error, requests.RequestException):
            raise
        raise requests.exceptions.ChunkedEncodingError(error) from None
    # What requests itself does in ``content``, which can end in another thread's hands.
    response._content = b"".join(pieces)
    response._content_consumed = True  # type: ignore[attr-defined]
    return True


def _announced_bytes(response: requests.Response) -> int:
    """Return the ``Content-Length`` of a body that is sent as it is; 0 if it is unknown."""
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").strip().lower() != "identity"
    known = length.isascii() and length.isdigit() and not encoded
    return int(length[:20]) if known and getattr(response.request, "method", "") != "HEAD" else 0


def excerpt(response: requests.Response, path: str) -> str:
    """The first part of a body, for an exception; none where it may hold a secret."""
    if path.startswith(_PRIVATE):
        return ""
    # Not its ``text``, for which the whole of a large body would be looked through.
    return response.content[: 4 * BODY_EXCERPT].decode("utf-8", "replace")[:BODY_EXCERPT]


def decoded_json(response: requests.Response, method: str, path: str) -> Any:
    """Decode the body of ``response``.

    Raises:
        InvalidResponseError: with the first part of a body that is not JSON.
    """
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        problem = why_unreadable(error)
    if problem == NOT_JSON:
        kind = response.headers.get("Content-Type", "no content type")
        problem += f" ({response.status_code}, {kind}); is this the URL of a BeRay server?"
    raise InvalidResponseError(
        f"{method} {path}: the answer {problem}",
        body=excerpt(response, path),
        **context(response, method, path),
    )


def mocked_json(response: requests.Response) -> Any:
    """Return the JSON body of an answer that should have none, or None."""
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError):
        return None


def why_unreadable(error: ValueError | RecursionError) -> str:
    """What is wrong with what JSON's decoder has refused, as the rest of a sentence."""
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, (json.JSONDecodeError, UnicodeError)):
        return NOT_JSON
    return f"holds a number of more than {sys.get_int_max_str_digits()} digits"


def decoded_event(data: bytes, from_json: FromJson, path: str) -> Any:
    """Decode the data of an event, a JSON object.

    Args:
        from_json: pydantic's, which costs to import; its caller has it by then.

    Raises:
        InvalidResponseError: it is no JSON object.
    """
    problem = "is not a JSON object"
    try:
        event = from_json(data)
    except ValueError:
        try:
            # It takes what the stricter and faster decoder does not: lone surrogates, and
            # bytes that are not UTF-8, once they are replaced.
            event = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError) as error:
            event, problem = None, why_unreadable(error)
    if event.__class__ is not dict:
        raise InvalidResponseError(
            f"{path}: an event {problem}",
            body=data[:BODY_EXCERPT].decode("utf-8", "replace"),
            path=path,
        )
    return event


def api_error(response: requests.Response, method: str, path: str, *, advice: str = "") -> APIError:
    """Return the exception for an error response.

    Args:
        advice: a sentence on what the user can do, appended to the message.
    """
    try:
        body = json.loads(response.content)
        detail = body["detail"] if isinstance(body, dict) and "detail" in body else body
    except (ValueError, RecursionError):
        detail = excerpt(response, path)
    if isinstance(detail, list):
        detail = [_without_input(item) for item in detail]
    elif isinstance(detail, dict) and isinstance(detail.get("errors"), list):
        detail = detail | {"errors": [_without_input(item) for item in detail["errors"]]}
    status = response.status_code
    reason = in_words(detail) or response.reason or ""
    if advice:
        reason = f"{reason.rstrip('.')}. {advice}"
    return _ERRORS.get(status, APIError)(
        f"{status} for {method} {path}: {reason}",
        error_detail=detail,
        retry_after=_seconds(response.headers.get("Retry-After")),
        is_permanent=response.headers.get(SHOULD_RETRY_HEADER, "").strip().lower() == "false",
        **context(response, method, path),
    )


def _without_input(problem: Any) -> Any:
    """A validation error repeats what was sent, which may be a password."""
    if not isinstance(problem, dict):
        return problem
    return {name: value for name, value in problem.items() if name not in ("input", "ctx")}


def context(response: requests.Response, method: str, path: str) -> dict[str, Any]:
    """What every exception says of the call behind it."""
    return {
        "method": method,
        "path": path,
        "status_code": response.status_code,
        "request_id": response.headers.get("X-Request-ID"),
    }


def connection_error(
    error: requests.RequestException, method: str, path: str, *, server: str, unsent: bool
) -> BeRayException:
    """The exception that a failure below HTTP stands for, without the request in it.

    Args:
        server: URL of the server, without credentials.
        unsent: whether it is known that nothing has reached the server.
    """
    call = f"{method} {path}"
    at: dict[str, Any] = {"method": method, "path": path}
    if isinstance(error, _NOT_SENDABLE):
        return InvalidArgument(f"{call}: the request cannot be sent as it is", **at)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return InvalidResponseError(f"{call}: the answer is not encoded as it says", body="", **at)
    innermost = _innermost(error)
    refused = tls.refusal(innermost, call, at) if isinstance(innermost, ssl.SSLError) else None
    if refused is not None:
        return refused
    unsent |= isinstance(error, requests.ConnectTimeout)
    unsent |= isinstance(innermost, (ConnectionRefusedError, socket.gaierror))
    if isinstance(error, requests.ConnectTimeout):
        text = f"{server} did not accept the connection in time"
        return DeadlineExceeded(f"{call}: {text}", delivered=False, **at)
    if isinstance(error, requests.Timeout):
        text = f"{server} did not answer in time"
        return DeadlineExceeded(f"{call}: {text}", delivered=not unsent, **at)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return ConnectionFailed(
            f"{call}: the connection to {server} broke before the answer was complete", **at
        )
    text = f"could not reach {server} ({_root_cause(error)})"
    return ConnectionFailed(f"{call}: {text}", delivered=not unsent, **at)


def _root_cause(error: BaseException) -> str:
    """The innermost reason, which says "Connection refused" where the outer ones say names."""
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


def in_words(detail: Any) -> str:
    """What the ``detail`` of an answer says, in at most 2,048 characters."""
    if isinstance(detail, str):
        return detail[:BODY_EXCERPT]
    if isinstance(detail, list):
        return "; ".join(_problem(item) for item in detail)[:BODY_EXCERPT]
    return json.dumps(detail, ensure_ascii=False)[:BODY_EXCERPT] if detail else ""


def _problem(item: Any) -> str:
    if not isinstance(item, dict) or "msg" not in item:
        return str(item)
    place = item.get("loc")
    parts = [str(part) for part in place if part != "body"] if isinstance(place, list) else []
    return f"{'.'.join(parts)}: {item['msg']}" if parts else str(item["msg"])


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds from now: it is a number of them, or a date."""
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
