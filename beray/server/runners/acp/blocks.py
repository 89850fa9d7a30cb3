"""Conversion of values from an agent to JSON of limited size for the event log.

Source: ACP, "Content" and "Tool Calls".
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from acp.schema import (
    AudioContentBlock,
    ContentToolCallContent,
    EmbeddedResourceContentBlock,
    FileEditToolCallContent,
    ImageContentBlock,
    ResourceContentBlock,
    TerminalToolCallContent,
    TextContentBlock,
    TextResourceContents,
)
from pydantic import JsonValue

from beray.server.runners.task_paths import TaskPaths

Block = (
    TextContentBlock
    | ImageContentBlock
    | AudioContentBlock
    | ResourceContentBlock
    | EmbeddedResourceContentBlock
)
ToolContent = ContentToolCallContent | FileEditToolCallContent | TerminalToolCallContent

TEXT_CHARACTERS: Final = 100_000
"""Maximum length of one string in a result or a diff."""
NAME_CHARACTERS: Final = 200
PATH_CHARACTERS: Final = 4096
JSON_CHARACTERS: Final = 100_000
"""Maximum length of one JSON value, such as the arguments of a tool."""
_MAX_DEPTH: Final = 24


def attachment(
    block: Block, paths: TaskPaths, max_characters: int = TEXT_CHARACTERS
) -> dict[str, Any]:
    """Return the event payload for a content block. Image and audio data is omitted."""
    match block:
        case TextContentBlock():
            message = truncate(block.text, max_characters)
            return {"kind": "attachment", "type": "text", "message": message}
        case ImageContentBlock() | AudioContentBlock():
            size = len(block.data) * 3 // 4
            mime_type = truncate(block.mime_type, NAME_CHARACTERS)
            return {
                "kind": "attachment",
                "type": block.type,
                "mime_type": mime_type,
                "size": size,
                "message": f"({block.type}, {mime_type}, {size} bytes)",
            }
        case ResourceContentBlock():
            name = truncate(block.title or block.name, NAME_CHARACTERS)
            return {**_reference(block.uri, block.type, paths), "message": f"({name})"}
        case EmbeddedResourceContentBlock():
            reference = _reference(block.resource.uri, block.type, paths)
            if isinstance(block.resource, TextResourceContents):
                return {
                    **reference,
                    "text": truncate(block.resource.text, max_characters),
                    "message": f"({reference['uri']})",
                }
            size = len(block.resource.blob) * 3 // 4
            message = f"({reference['uri']}, {size} bytes)"
            return {**reference, "size": size, "message": message}


def _reference(uri: str, kind: str, paths: TaskPaths) -> dict[str, Any]:
    path = paths.of_uri(uri)
    location = {} if path is None else {"path": path}
    return {"kind": "attachment", "type": kind, "uri": truncate(uri, 2000), **location}


def result_block(
    content: ToolContent, paths: TaskPaths, max_characters: int
) -> dict[str, JsonValue]:
    """Return the JSON for one content block of a tool call's result.

    A terminal is represented by its id, because its output is complete only when the tool ends.

    Args:
        content: The block.
        paths: Converter for the paths in it.
        max_characters: Maximum length of its text.
    """
    match content:
        case FileEditToolCallContent():
            diff: dict[str, JsonValue] = {
                "path": truncate(paths.shown(content.path), PATH_CHARACTERS)
            }
            if content.old_text is not None:
                diff["old_text"] = truncate(content.old_text, max_characters // 2)
            diff["new_text"] = truncate(content.new_text, max_characters // 2)
            return {"diff": diff}
        case TerminalToolCallContent():
            return {"terminal": truncate(content.terminal_id, NAME_CHARACTERS)}
        case ContentToolCallContent(content=TextContentBlock(text=text)):
            return {"text": truncate(text, max_characters)}
        case ContentToolCallContent():
            return attachment(content.content, paths, max_characters)


def truncate(text: str, max_characters: int = TEXT_CHARACTERS) -> str:
    """Return ``text``, shortened to the limit with a final ``…`` if it is longer."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def to_loggable(value: Any) -> JsonValue:
    """Return decoded JSON in a loggable form: limited in size and depth, with finite numbers."""
    limited = _limit_depth(value, _MAX_DEPTH)
    text = json.dumps(limited, ensure_ascii=False)
    return limited if len(text) <= JSON_CHARACTERS else {"cut": truncate(text, JSON_CHARACTERS)}


def _limit_depth(value: Any, depth: int) -> JsonValue:
    if isinstance(value, dict | list) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(key): _limit_depth(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_limit_depth(item, depth - 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
