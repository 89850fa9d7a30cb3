"""MCP servers as a user names them, and as the wire carries them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from tui.composer.task_draft import Tool

MOST_SERVERS: Final = 100
MOST_NAME_CHARACTERS: Final = 200
_MOST_DEPTH: Final = 30
_WORD: Final = re.compile(r"[\w-]+")


class Unusable(ValueError):
    """What was entered names no MCP server; the message says why."""


def parsed(text: str) -> list[Tool]:
    """Return the servers that ``text`` names.

    It is ``name https://…``, a single word for a server that the server's operator defines, or
    JSON as the wire has it. JSON with several names gives several servers; ``{"mcpServers": {…}}``,
    as other programs keep it, is accepted as well.

    Raises:
        Unusable: it is none of these, or a server has no name or no http(s) address.
    """
    text = text.strip()
    if not text:
        raise Unusable("Give a name and an address: docs https://example.org/mcp")
    if text.startswith(("{", "[")):
        return _from_json(text)
    if _WORD.fullmatch(text):
        return [_checked(text, {"server": text})]
    name, _, url = text.rpartition(" ")
    if not name.strip():
        raise Unusable("Give a name before the address: docs https://example.org/mcp")
    return [_checked(name.strip(), {"url": url})]


def with_servers(tools: Sequence[Tool], added: Sequence[Tool]) -> list[Tool]:
    """``tools`` and ``added``; of two by the same name the added one stays.

    Raises:
        Unusable: they are too many.
    """
    by_name = {name_of(tool): tool for tool in [*tools, *added]}
    if len(by_name) > MOST_SERVERS:
        raise Unusable(f"A task has at most {MOST_SERVERS} MCP servers.")
    return list(by_name.values())


def name_of(tool: Tool) -> str:
    return str(next(iter(tool), ""))


def place_of(tool: Tool) -> str:
    """Return where a server is, without what may be secret in its address or its arguments."""
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
        data = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise Unusable(f"This is not JSON: {error.msg}, at character {error.pos + 1}.") from None
    except (ValueError, RecursionError):
        raise Unusable("This is not JSON that a server can keep.") from None
    if _depth(data) > _MOST_DEPTH:
        raise Unusable("The objects are too deep in one another.")
    if isinstance(data, dict) and list(data) == ["mcpServers"]:
        data = data["mcpServers"]
    entries = data if isinstance(data, list) else [data]
    tools = [
        _checked(name, settings)
        for entry in entries
        for name, settings in (entry.items() if isinstance(entry, dict) else [("", None)])
    ]
    if not tools:
        raise Unusable('Give it as {"name": {"url": "https://…"}}.')
    return tools


def _checked(name: str, settings: Any) -> Tool:
    if not isinstance(settings, dict):
        raise Unusable('Give it as {"name": {"url": "https://…"}}.')
    if not name.strip() or len(name) > MOST_NAME_CHARACTERS:
        raise Unusable(f"A server has a name, of at most {MOST_NAME_CHARACTERS} characters.")
    kinds = [kind for kind in ("url", "command", "server") if settings.get(kind) is not None]
    if len(kinds) > 1:
        raise Unusable(f"A server has only one of {' and '.join(kinds)}.")
    if kinds in (["command"], ["server"]):
        if not isinstance(settings[kinds[0]], str) or not settings[kinds[0]].strip():
            raise Unusable(
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
        raise Unusable("The address must look like https://example.org/mcp")
    return {name: settings}


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        level = [
            child for one in level for child in (one.values() if isinstance(one, dict) else one)
        ]
        depth += 1
    return depth


def _refuse_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)
