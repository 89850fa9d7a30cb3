"""Parser for the MCP servers that a user enters."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from tui.state.task_draft import Tool

MAX_SERVERS: Final = 100
MAX_NAME_CHARS: Final = 200
_MAX_DEPTH: Final = 30
_BARE_NAME: Final = re.compile(r"[\w-]+")


class InvalidServer(ValueError):
    """The entered MCP server is invalid; the message contains the reason."""


def parse_servers(text: str) -> list[Tool]:
    """Parse the MCP servers in ``text``.

    Args:
        text: ``name https://…``, a single word for a server that the operator has defined, or
            JSON in the format of the API. JSON with several names yields several servers.
            ``{"mcpServers": {…}}``, the format of other programs, is also accepted.

    Raises:
        InvalidServer: The text has none of these formats, or a server has no name or no
            http(s) URL.
    """
    text = text.strip()
    if not text:
        raise InvalidServer("Enter a name and a URL, for example: docs https://example.org/mcp")
    if text.startswith(("{", "[")):
        return _from_json(text)
    if _BARE_NAME.fullmatch(text):
        return [_validated(text, {"server": text})]
    name, _, url = text.rpartition(" ")
    if not name.strip():
        raise InvalidServer(
            "Enter a name before the URL, for example: docs https://example.org/mcp"
        )
    return [_validated(name.strip(), {"url": url})]


def merge_servers(tools: Sequence[Tool], add_attachments: Sequence[Tool]) -> list[Tool]:
    """Return ``tools`` and ``added``; an added server replaces one with the same name.

    Raises:
        InvalidServer: There are more than ``MAX_SERVERS`` servers.
    """
    by_name = {server_name(tool): tool for tool in [*tools, *add_attachments]}
    if len(by_name) > MAX_SERVERS:
        raise InvalidServer(f"A task can have at most {MAX_SERVERS} MCP servers.")
    return list(by_name.values())


def server_name(tool: Tool) -> str:
    """Return the name of an MCP server."""
    return str(next(iter(tool), ""))


def server_location(tool: Tool) -> str:
    """Return the location of a server, without parts that may contain secrets."""
    settings = next(iter(tool.values()), None)
    if not isinstance(settings, dict):
        return ""
    if isinstance(server := settings.get("server"), str):
        return f"defined by the server as {server}"
    if isinstance(command := settings.get("command"), str):
        return f"program {command}"
    url = settings.get("url")
    if not isinstance(url, str):
        return ""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def _from_json(text: str) -> list[Tool]:
    try:
        data = json.loads(text, parse_constant=_reject_constant)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise InvalidServer(f"Invalid JSON: {error.msg}, at character {error.pos + 1}.") from None
    except (ValueError, RecursionError):
        raise InvalidServer(
            "Invalid JSON: a number or a character cannot be stored by the server."
        ) from None
    if _nesting_depth(data) > _MAX_DEPTH:
        raise InvalidServer(f"The JSON is nested too deeply; the maximum is {_MAX_DEPTH} levels.")
    if isinstance(data, dict) and list(data) == ["mcpServers"]:
        data = data["mcpServers"]
    entries = data if isinstance(data, list) else [data]
    tools = [
        _validated(name, settings)
        for entry in entries
        for name, settings in (entry.items() if isinstance(entry, dict) else [("", None)])
    ]
    if not tools:
        raise InvalidServer('Enter the server as {"name": {"url": "https://…"}}.')
    return tools


def _validated(name: str, settings: Any) -> Tool:
    if not isinstance(settings, dict):
        raise InvalidServer('Enter the server as {"name": {"url": "https://…"}}.')
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise InvalidServer(f"The name of a server must have 1 to {MAX_NAME_CHARS} characters.")
    kinds = [kind for kind in ("url", "command", "server") if settings.get(kind) is not None]
    if len(kinds) > 1:
        raise InvalidServer(f"{name!r} has {' and '.join(kinds)}; only one of them is allowed.")
    if kinds in (["command"], ["server"]):
        if not isinstance(settings[kinds[0]], str) or not settings[kinds[0]].strip():
            raise InvalidServer(
                f'The {kinds[0]} of {name!r} must be a string, as in {{"{kinds[0]}": "…"}}'
            )
        return {name: settings}
    url = settings.get("url")
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in str(url)):
        raise InvalidServer("The URL must have the form https://example.org/mcp")
    return {name: settings}


def _nesting_depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        depth += 1
    return depth


def _reject_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)
