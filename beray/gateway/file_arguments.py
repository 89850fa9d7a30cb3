"""Arguments of the file methods of ``GatewayClient``, in their published forms.

Source: the Gateway wire page (``file_path`` and ``path``; the two published forms of
``upload_temp_file``).
"""

from __future__ import annotations

import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from beray.exceptions import InvalidArgument
from beray.gateway.validation import checked_number, checked_string

LocalPath = str | os.PathLike[str]

DAY_SECONDS: Final = 86400
PAGE_SIZE: Final = 100
"""Number of files of a page."""
_MAX_SECONDS: Final = 1e10
"""About three hundred years, to reject values in another unit."""


def one_path(file_path: LocalPath | None, path: LocalPath | None) -> LocalPath:
    """Return the path that was passed as ``file_path`` or as ``path``.

    Raises:
        InvalidArgument: Both or none of the two were passed.
    """
    if (file_path is None) == (path is None):
        raise InvalidArgument("path must be the path of a file (file_path or path, not both)")
    passed = path if file_path is None else file_path
    assert passed is not None
    return passed


def checked_content_type(path: str, content_type: str | None) -> str:
    """Return the media type of a file; ``None`` guesses it from the name.

    Raises:
        InvalidArgument: The media type is empty, or contains characters that a header cannot carry.
    """
    if content_type is None:
        # guess_type() would interpret some whole paths as URLs.
        return mimetypes.guess_type(Path(path).name)[0] or "application/octet-stream"
    media_type = checked_string(content_type, "content_type")
    if not media_type.isascii() or not media_type.isprintable():
        raise InvalidArgument("content_type must consist of printable ASCII characters")
    return media_type


def whole_seconds(value: float, name: str) -> int:
    """Return ``value`` as a whole number of seconds.

    Raises:
        InvalidArgument: The value is not a number, or is less than one second.
    """
    seconds = int(checked_number(value, name, _MAX_SECONDS))
    if not seconds:
        raise InvalidArgument(f"{name} must be at least one second")
    return seconds


def ttl_seconds(ttl: float | None, ttl_hours: float | None) -> int:
    """Return the time to live of a temporary file, in seconds.

    Raises:
        InvalidArgument: A value is not a positive number, or both were passed.
    """
    if ttl_hours is None:
        return whole_seconds(DAY_SECONDS if ttl is None else ttl, "ttl")
    if ttl not in (None, DAY_SECONDS):
        raise InvalidArgument("ttl and ttl_hours contradict each other; pass one")
    return _hours(ttl_hours, "ttl_hours")


def _hours(value: float, name: str) -> int:
    return whole_seconds(checked_number(value, name, _MAX_SECONDS / 3600, "hours") * 3600, name)


def checked_session_id(session_id: str) -> str:
    """Return ``session_id``.

    Raises:
        InvalidArgument: The value is not a non-empty string of printable characters.
    """
    if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
        raise InvalidArgument("session_id must be a non-empty string of printable characters")
    return session_id


@dataclass
class TempUploadArguments:
    """Arguments of ``upload_temp_file`` other than the path; None for one that was not passed."""

    ttl: Any = None
    ttl_hours: Any = None
    session_id: Any = None
    content_type: Any = None


def temp_upload_arguments(positional: tuple[Any, ...], **named: Any) -> TempUploadArguments:
    """Return the arguments of ``upload_temp_file`` by name.

    Versions 0.5.0 to 0.7.2 of the published package have ``upload_temp_file(file_path, ttl,
    session_id)``; its guide for agents has ``upload_temp_file(file_path, content_type, ttl_hours,
    session_id)``. As the second argument, a string is therefore the content type and a number the
    seconds; as the third and fourth, a string is the session and a number the hours.

    Args:
        positional: Positional arguments after the path.
        named: Keyword arguments; None stands for one that was not passed.

    Raises:
        InvalidArgument: An argument was passed twice, or there are too many.
    """
    if len(positional) > 3:
        raise InvalidArgument(
            "upload_temp_file takes (file_path, ttl, session_id) or "
            "(file_path, content_type, ttl_hours, session_id)"
        )
    arguments = TempUploadArguments(**named)
    session_or_hours = "session_id", "ttl_hours"
    names_by_position = ("content_type", "ttl"), session_or_hours, session_or_hours
    for value, (string_name, number_name) in zip(positional, names_by_position, strict=False):
        name = string_name if isinstance(value, str) else number_name
        if value is None:
            continue
        if getattr(arguments, name) is not None:
            raise InvalidArgument(f"upload_temp_file got {name} twice")
        setattr(arguments, name, value)
    return arguments
