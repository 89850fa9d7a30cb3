"""Arguments of calls for temporary files, whose two published forms differ in their positions.

Source: the Gateway wire page. Versions 0.5.0 to 0.7.2 have ``upload_temp_file(file_path, ttl,
session_id)`` and ``list_temp_files(session_id, limit, continuation_token)``; the guide for agents
has ``upload_temp_file(file_path, content_type, ttl_hours, session_id)`` and
``list_temp_files(prefix, session_id)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from beray.exceptions import InvalidArgument


@dataclass
class TempUpload:
    """The arguments beside the path; None for one that was not passed."""

    ttl: Any = None
    ttl_hours: Any = None
    session_id: Any = None
    content_type: Any = None


def arguments(positional: tuple[Any, ...], **named: Any) -> TempUpload:
    """Return the arguments by name.

    As the second argument of the call, a string is the content type, a number the seconds. As
    the third and fourth, a string is the session, a number the hours.

    Raises:
        InvalidArgument: One was passed twice, or there are too many.
    """
    if len(positional) > 3:
        raise InvalidArgument(
            "upload_temp_file takes (file_path, ttl, session_id) or "
            "(file_path, content_type, ttl_hours, session_id)"
        )
    found = TempUpload(**named)
    third = "session_id", "ttl_hours"
    names = ("content_type", "ttl"), third, third
    for value, (of_string, of_number) in zip(positional, names, strict=False):
        name = of_string if isinstance(value, str) else of_number
        if value is None:
            continue
        if getattr(found, name) is not None:
            raise InvalidArgument(f"upload_temp_file got {name} twice")
        setattr(found, name, value)
    return found
