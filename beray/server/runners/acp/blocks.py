"""Blocks of content, in the words of our log.

Source: ACP, "Content" and "Tool Calls".
"""

from __future__ import annotations

from typing import Any

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

from beray.server.runners.acp.bounded import NAME_CHARACTERS, PATH_CHARACTERS, TEXT_CHARACTERS, cut
from beray.server.runners.task_paths import TaskPaths

Block = (
    TextContentBlock
    | ImageContentBlock
    | AudioContentBlock
    | ResourceContentBlock
    | EmbeddedResourceContentBlock
)
ToolContent = ContentToolCallContent | FileEditToolCallContent | TerminalToolCallContent


def attachment(block: Block, paths: TaskPaths, most: int = TEXT_CHARACTERS) -> dict[str, Any]:
    """What is said of a block that is not text. Pictures and sound themselves are not kept."""
    match block:
        case TextContentBlock():
            return {"kind": "attachment", "type": "text", "message": cut(block.text, most)}
        case ImageContentBlock() | AudioContentBlock():
            size = len(block.data) * 3 // 4
            return {
                "kind": "attachment",
                "type": block.type,
                "mime_type": cut(block.mime_type, NAME_CHARACTERS),
                "size": size,
                "message": f"({block.type}, {cut(block.mime_type, NAME_CHARACTERS)}, {size} bytes)",
            }
        case ResourceContentBlock():
            name = cut(block.title or block.name, NAME_CHARACTERS)
            return {**_reference(block.uri, block.type, paths), "message": f"({name})"}
        case EmbeddedResourceContentBlock():
            told = _reference(block.resource.uri, block.type, paths)
            if isinstance(block.resource, TextResourceContents):
                return {
                    **told,
                    "text": cut(block.resource.text, most),
                    "message": f"({told['uri']})",
                }
            size = len(block.resource.blob) * 3 // 4
            return {**told, "size": size, "message": f"({told['uri']}, {size} bytes)"}


def _reference(uri: str, kind: str, paths: TaskPaths) -> dict[str, Any]:
    path = paths.of_uri(uri)
    where = {} if path is None else {"path": path}
    return {"kind": "attachment", "type": kind, "uri": cut(uri, 2000), **where}


def in_result(content: ToolContent, paths: TaskPaths, most: int) -> dict[str, JsonValue]:
    """One block of what a tool has done, for its result; ``most``: the length of its text.

    Of a terminal, its id: what it has said is known when the tool ends.
    """
    match content:
        case FileEditToolCallContent():
            diff: dict[str, JsonValue] = {"path": cut(paths.shown(content.path), PATH_CHARACTERS)}
            if content.old_text is not None:
                diff["old_text"] = cut(content.old_text, most // 2)
            diff["new_text"] = cut(content.new_text, most // 2)
            return {"diff": diff}
        case TerminalToolCallContent():
            return {"terminal": cut(content.terminal_id, NAME_CHARACTERS)}
        case ContentToolCallContent(content=TextContentBlock(text=text)):
            return {"text": cut(text, most)}
        case ContentToolCallContent():
            return attachment(content.content, paths, most)
