"""Validation of arguments before a request is sent.

Messages name the argument and the position of the invalid value in it.

Source: the Gateway wire page (``files`` are ``s3://`` URLs); RFC 8259 (JSON); the S3 rules for
bucket names, and for keys, which have at most 1,024 bytes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final, cast

from beray.exceptions import InvalidArgument
from beray.gateway.models import PrefabCall
from beray.sanitize import is_encodable
from beray.transfers.transfer import Transfer

_MAX_COUNT: Final = 10**9
_S3_URL: Final = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]{0,254}/(?P<key>[^\0-\x1f\x7f]+)")
_MAX_KEY_BYTES: Final = 1024
_MAX_DEPTH: Final = 200
_MAX_INTEGER_BITS: Final = 13_000
"""Python converts no integers of more than 4,300 digits to or from text."""
_EXCERPT_CHARACTERS: Final = 80


def type_name(value: object) -> str:
    """Return the name of the type of ``value``, for a message."""
    return type(value).__name__


# Single values


def checked_string(value: object, name: str, *, empty: bool = False) -> str:
    """Return ``value``, a string.

    Args:
        value: The value of an argument.
        name: Name of the argument, for the message.
        empty: Whether the empty string is allowed.

    Raises:
        InvalidArgument: The value is not a string, is empty, or contains a lone surrogate, which
            UTF-8 cannot encode.
    """
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a string, not {type_name(value)}")
    if not value and not empty:
        raise InvalidArgument(f"{name} is empty")
    if not is_encodable(value):
        raise InvalidArgument(f"{name} is not valid Unicode: it contains a lone surrogate")
    return value


def checked_number(value: object, name: str, maximum: float, unit: str = "seconds") -> float:
    """Return ``value`` as a float.

    Raises:
        InvalidArgument: The value is not a number, is not positive, or exceeds ``maximum``.
    """
    try:
        number = (
            math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
        )
    except OverflowError:  # an integer that is too large for a float
        number = math.nan
    if not 0 < number <= maximum:
        raise InvalidArgument(
            f"{name} must be a number of {unit}, above 0 and up to {maximum:,.0f}"
        )
    return number


def checked_count(value: object, name: str, minimum: int) -> int:
    """Return ``value`` as an integer.

    Raises:
        InvalidArgument: The value is not an integer, is less than ``minimum``, or exceeds 10^9.
    """
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    number = int(cast(Integral, value)) if is_integer else minimum - 1
    if not minimum <= number <= _MAX_COUNT:
        raise InvalidArgument(f"{name} must be an integer from {minimum} to {_MAX_COUNT:,}")
    return number


def checked_path(path: object, name: str) -> str:
    """Return ``path`` as a string.

    Raises:
        InvalidArgument: The value is not a string or ``os.PathLike``, contains a NUL character, or
            cannot be encoded for the file system.
    """
    try:
        text = os.fspath(path)  # type: ignore[call-overload]
        os.fsencode(text)
    except (TypeError, UnicodeEncodeError):
        text = None
    if not isinstance(text, str) or "\0" in text:
        raise InvalidArgument(f"{name} must be the path of a file, not {type_name(path)}")
    return text


def checked_transfer(transfer: object) -> Transfer:
    """Return ``transfer``, or a new one for None.

    Raises:
        InvalidArgument: The value is neither a ``Transfer`` nor None.
    """
    if transfer is None:
        return Transfer()
    if not isinstance(transfer, Transfer):
        raise InvalidArgument(f"transfer must be a Transfer, not {type_name(transfer)}")
    return transfer


def checked_timeouts(value: object, name: str, maximum: float) -> tuple[float, float]:
    """Return ``value``: the connect timeout and the read timeout, in seconds.

    Raises:
        InvalidArgument: The value is not a pair of positive numbers up to ``maximum``.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise InvalidArgument(
            f"{name} must be a pair of seconds: the connect timeout and the read timeout"
        )
    connect, read = (
        checked_number(seconds, f"{name}[{index}]", maximum) for index, seconds in enumerate(value)
    )
    return connect, read


def checked_connection_options(
    session: Any, verify: Any, cert: Any, proxies: Any
) -> tuple[bool | str | None, str | tuple[str, str] | None]:
    """Return ``verify`` and ``cert``, with paths as strings.

    Raises:
        InvalidArgument: ``session`` has no method ``request``; ``verify`` is not a bool, a path or
            None; ``cert`` is not a path, a pair of paths or None; or ``proxies`` is not a
            dictionary of strings.
    """
    if session is not None and not callable(getattr(session, "request", None)):
        raise InvalidArgument(f"session must be a requests.Session, not {type_name(session)}")
    if verify is not None and not isinstance(verify, bool):
        verify = checked_path(verify, "verify")
    if isinstance(cert, (tuple, list)) and len(cert) == 2:
        cert = checked_path(cert[0], "cert[0]"), checked_path(cert[1], "cert[1]")
    elif cert is not None:
        cert = checked_path(cert, "cert")
    if proxies is not None:
        if not isinstance(proxies, Mapping):
            raise InvalidArgument(f"proxies must be a dictionary, not {type_name(proxies)}")
        for scheme, proxy in proxies.items():
            checked_string(scheme, "proxies: a scheme")
            if proxy is not None:  # None disables the proxy of this scheme in requests
                checked_string(proxy, f"proxies[{scheme!r}]", empty=True)
    return verify, cert


# Calls of prefabs


def checked_call(call: PrefabCall, name: str = "") -> dict[str, Any]:
    """Return ``call`` as the JSON object of a request.

    Args:
        call: The call.
        name: Position of the call in a batch (``calls[2]``), for messages.

    Raises:
        InvalidArgument: The prefab, its version or the function is not a non-empty string; the
            parameters are not valid JSON; or the files are not lists of ``s3://`` URLs.
    """
    if not isinstance(call, PrefabCall):
        raise InvalidArgument(f"{name or 'a call'} must be a PrefabCall, not {type_name(call)}")
    prefix = f"{name}." if name else ""
    for field in ("prefab_id", "version", "function_name"):
        value = getattr(call, field)
        if not isinstance(value, str) or not value.strip() or not is_encodable(value):
            raise InvalidArgument(f"{prefix}{field} must be a non-empty string")
    parameters = _checked_parameters(call.parameters, f"{prefix}parameters")
    inputs: dict[str, Any] = {"parameters": parameters}
    files = _checked_files(call.files, f"{prefix}files")
    if files:
        inputs["files"] = files
    return {
        "prefab_id": call.prefab_id,
        "version": call.version,
        "function_name": call.function_name,
        "inputs": inputs,
    }


def checked_s3_url(url: object, name: str = "s3_url") -> str:
    """Return ``url``, an S3 URL.

    Raises:
        InvalidArgument: The value does not have the form ``s3://bucket/key``.
    """
    match = _S3_URL.fullmatch(url) if isinstance(url, str) else None
    if (
        match is None
        or not is_encodable(match["key"])
        or len(match["key"].encode()) > _MAX_KEY_BYTES
    ):
        raise InvalidArgument(f"{name} must be an s3://bucket/key URL, not {_url_excerpt(url)}")
    assert isinstance(url, str)
    return url


def _checked_parameters(parameters: Any, name: str) -> dict[str, Any]:
    if not isinstance(parameters, Mapping):
        raise InvalidArgument(f"{name} must be a dictionary, not {type_name(parameters)}")
    json: dict[str, Any] = _json_value(parameters, name, ())
    return json


def _json_value(value: Any, name: str, container_ids: tuple[int, ...]) -> Any:
    """Return ``value`` with mappings as dictionaries, and tuples as lists.

    Args:
        value: The value.
        name: Position of the value, for messages.
        container_ids: ``id()`` of each container around the value, to detect cycles.

    Raises:
        InvalidArgument: JSON cannot represent the value.
    """
    if value is None or isinstance(value, (bool, int)):
        if value is not None and value.bit_length() > _MAX_INTEGER_BITS:
            raise InvalidArgument(f"{name} has too many digits: at most 3,913 can be sent")
        return value
    if isinstance(value, str):
        if not is_encodable(value):
            raise InvalidArgument(f"{name} is not valid Unicode: it contains a lone surrogate")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(f"{name} is {value}, which JSON cannot represent")
        return value
    if not isinstance(value, (Mapping, list, tuple)):
        raise InvalidArgument(f"{name} is of type {type_name(value)}, which JSON cannot represent")
    if id(value) in container_ids:
        raise InvalidArgument(f"{name} contains itself")
    if len(container_ids) >= _MAX_DEPTH:
        raise InvalidArgument(
            f"{name[:_EXCERPT_CHARACTERS]}… is nested deeper than {_MAX_DEPTH} levels"
        )
    container_ids = (*container_ids, id(value))
    if not isinstance(value, Mapping):
        return [
            _json_value(item, f"{name}[{index}]", container_ids) for index, item in enumerate(value)
        ]
    for key in value:
        if not isinstance(key, str) or not is_encodable(key):
            raise InvalidArgument(f"{name}: a key must be a string, not {_excerpt(key)}")
    return {key: _json_value(item, f"{name}.{key}", container_ids) for key, item in value.items()}


def _checked_files(files: Any, name: str) -> dict[str, list[str]]:
    if files is None:
        return {}
    if not isinstance(files, Mapping):
        raise InvalidArgument(f"{name} must be a dictionary of lists, not {type_name(files)}")
    checked: dict[str, list[str]] = {}
    for key, urls in files.items():
        if not isinstance(key, str) or not key or not is_encodable(key):
            raise InvalidArgument(f"{name}: a key must be a non-empty string, not {_excerpt(key)}")
        if not isinstance(urls, (list, tuple)):
            raise InvalidArgument(
                f"{name}[{key!r}] must be a list of s3:// URLs, not {type_name(urls)}"
            )
        checked[key] = [
            _checked_input_url(url, f"{name}[{key!r}][{index}]") for index, url in enumerate(urls)
        ]
    return checked


def _checked_input_url(url: object, name: str) -> str:
    try:
        return checked_s3_url(url, name)
    except InvalidArgument as error:
        if isinstance(url, str) and "://" not in url:
            raise InvalidArgument(f"{error}; upload local files first") from None
        raise


def _excerpt(key: object) -> str:
    return repr(key)[:_EXCERPT_CHARACTERS]


def _url_excerpt(url: object) -> str:
    if not isinstance(url, str):
        return type_name(url)
    scheme, separator, _ = url.partition("://")
    # A presigned URL grants access to its file: messages contain only the scheme of other URLs.
    if separator and scheme != "s3":
        return f"a {scheme[:_EXCERPT_CHARACTERS]!r} URL"
    return _excerpt(url)
