"""Error statuses of routes in the OpenAPI schema, from which the documentation is generated.

Statuses that every call can have, such as 400 for an ambiguous request or 503 during a shortage,
are described on the page of the HTTP API.
"""

from __future__ import annotations

from typing import Any, Final

TASK: Final = {404: "The task does not exist, or belongs to another user."}
TASK_FILE: Final = {404: "The task or the path does not exist."}
NO_SPACE: Final = {
    413: "The content is larger than a work_dir may be; nothing was written.",
    507: "The space in the work_dir or on the disk is insufficient; nothing was written.",
}
GATEWAY_CALLER: Final = {401: "The credentials are missing or invalid."}
GATEWAY_AGENT: Final = {
    **GATEWAY_CALLER,
    400: "`MISSING_AGENT_CONTEXT`: the credentials do not belong to an agent.",
}
GATEWAY_UPLOAD: Final = {
    **GATEWAY_AGENT,
    413: "`TOO_LARGE`: the file is larger than `BERAY_GATEWAY_OBJECT_BYTES`.",
    422: "`INVALID_INPUT`: the form is invalid.",
    503: "`STORAGE_UNAVAILABLE`: the object store does not respond.",
    507: "`STORAGE_FULL`: the object store is full.",
}


def error_statuses(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return the argument ``responses`` of a route for error statuses with their reasons."""
    return {status: {"description": text} for status, text in sorted(descriptions.items())}
