"""What a caller asks for, looked at before anything is sent.

Source: the Gateway wire page (``files`` are ``s3://`` URLs); RFC 8259 (JSON); the rules for
bucket names of S3 and the 1,024 bytes that a key may have.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from beray.exceptions import InvalidArgument
from beray.gateway.argument_checks import kind
from beray.gateway.models import PrefabCall
from beray.sanitize import is_encodable

_S3_URL: Final = re.compile(r"s3://[A-Za-z0-9][A-Za-z0-9._-]{0,254}/(?P<key>[^\0-\x1f\x7f]+)")
_KEY_BYTES: Final = 1024
_DEEPEST: Final = 200
_INTEGER_BITS: Final = 13_000
"""Python neither writes nor reads a number of more than 4,300 digits."""
_SHOWN: Final = 80


def checked_call(call: PrefabCall, place: str = "") -> dict[str, Any]:
    """Return ``call`` as the wire has it.

    Args:
        place: where it stands, for the name of a part that is wrong.

    Raises:
        InvalidArgument: it names no prefab, or the parameters are no JSON, or the files no
            lists of ``s3://`` URLs.
    """
    if not isinstance(call, PrefabCall):
        raise InvalidArgument(f"{place or 'a call'} must be a PrefabCall, not {kind(call)}")
    within = f"{place}." if place else ""
    for name in ("prefab_id", "version", "function_name"):
        value = getattr(call, name)
        if not isinstance(value, str) or not value.strip() or not is_encodable(value):
            raise InvalidArgument(f"{within}{name} must be a text that is not empty")
    inputs: dict[str, Any] = {"parameters": _parameters(call.parameters, f"{within}parameters")}
    files = _files(call.files, f"{within}files")
    if files:
        inputs["files"] = files
    return {
        "prefab_id": call.prefab_id,
        "version": call.version,
        "function_name": call.function_name,
        "inputs": inputs,
    }


def checked_s3_url(url: object, place: str = "s3_url") -> str:
    """Return ``url``.

    Raises:
        InvalidArgument: it is not ``s3://bucket/key``.
    """
    match = _S3_URL.fullmatch(url) if isinstance(url, str) else None
    if match is None or not is_encodable(match["key"]) or len(match["key"].encode()) > _KEY_BYTES:
        raise InvalidArgument(f"{place}: an s3://bucket/key URL is needed, not {_shown(url)}")
    assert isinstance(url, str)
    return url


def _parameters(given: Any, place: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{place} must be a dictionary, not {kind(given)}")
    json: dict[str, Any] = _json(given, place, ())
    return json


def _json(value: Any, place: str, around: tuple[int, ...]) -> Any:
    """``value`` made of what JSON has; ``around`` are the containers that it is in."""
    if value is None or isinstance(value, (bool, int)):
        if value is not None and value.bit_length() > _INTEGER_BITS:
            raise InvalidArgument(f"{place} has more digits than can be sent")
        return value
    if isinstance(value, str):
        if not is_encodable(value):
            raise InvalidArgument(f"{place} is not valid text: half a surrogate pair is in it")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(f"{place}: JSON has no {value}")
        return value
    if not isinstance(value, (Mapping, list, tuple)):
        raise InvalidArgument(f"{place}: JSON has no {kind(value)}")
    if id(value) in around:
        raise InvalidArgument(f"{place} contains itself")
    if len(around) >= _DEEPEST:
        raise InvalidArgument(f"{place[:_SHOWN]}… is nested too deeply")
    within = (*around, id(value))
    if not isinstance(value, Mapping):
        return [_json(each, f"{place}[{index}]", within) for index, each in enumerate(value)]
    for key in value:
        if not isinstance(key, str) or not is_encodable(key):
            raise InvalidArgument(f"{place}: a key in JSON is text, not {key!r:.{_SHOWN}}")
    return {key: _json(each, f"{place}.{key}", within) for key, each in value.items()}


def _files(given: Any, place: str) -> dict[str, list[str]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{place} must be a dictionary of lists, not {kind(given)}")
    checked: dict[str, list[str]] = {}
    for key, urls in given.items():
        if not isinstance(key, str) or not key or not is_encodable(key):
            raise InvalidArgument(f"{place}: a key is text, not {key!r:.{_SHOWN}}")
        if not isinstance(urls, (list, tuple)):
            raise InvalidArgument(
                f"{place}[{key!r}] must be a list of s3:// URLs, not {kind(urls)}"
            )
        checked[key] = [_input(url, f"{place}[{key!r}][{index}]") for index, url in enumerate(urls)]
    return checked


def _input(url: object, place: str) -> str:
    try:
        return checked_s3_url(url, place)
    except InvalidArgument as error:
        if isinstance(url, str) and "://" not in url:
            raise InvalidArgument(f"{error}; a local file is uploaded first") from None
        raise


def _shown(url: object) -> str:
    if not isinstance(url, str):
        return kind(url)
    scheme, separator, _ = url.partition("://")
    # Whoever has a presigned URL has the file: of other URLs nothing else is told.
    known = not separator or scheme == "s3"
    return repr(url)[:_SHOWN] if known else f"one of {scheme[:_SHOWN]!r}"
