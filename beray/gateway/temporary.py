"""Arguments of ``upload_temp_file``, whose two published forms differ in their positions.

Source: the Gateway wire page; versions 0.5.0 to 0.7.2 have ``(file_path, ttl, session_id)``, the
guide for agents has ``(file_path, content_type, ttl_hours, session_id)``.
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

    A string as the second argument of the call is the content type, a number the seconds. A
    string as the third is the session, a number the hours. The fourth is the session.

    Raises:
        InvalidArgument: One was passed twice, or there are too many.
    """
    if len(positional) > 3:
        raise InvalidArgument(
            "upload_temp_file takes (file_path, ttl, session_id) or "
            "(file_path, content_type, ttl_hours, session_id)"
        )
    found = TempUpload(**named)
    names = ("content_type", "ttl"), ("session_id", "ttl_hours"), ("session_id", "session_id")
    for value, (of_string, of_number) in zip(positional, names, strict=False):
        name = of_string if isinstance(value, str) else of_number
        if value is None:
            continue
        if getattr(found, name) is not None:
            raise InvalidArgument(f"upload_temp_file got {name} twice")
        setattr(found, name, value)
    return found
