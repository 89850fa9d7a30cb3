"""What an MCP tool answers, for the model and for the log."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from mcp_types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import BinaryContent

CHARACTERS: Final = 100_000
"""Most that the model is given of one answer."""


def for_model(result: CallToolResult) -> Any:
    """The answer: text, or a list of texts and pictures.

    Raises:
        ToolFailed: the tool says that it failed; the text is what it says.
    """
    parts = [_part(block) for block in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    if result.is_error:
        texts = [part for part in parts if isinstance(part, str)]
        raise ToolFailed(_cut("\n".join(texts)) or "the tool failed, and does not say why")
    if all(isinstance(part, str) for part in parts):
        return _cut("\n".join(part for part in parts if isinstance(part, str)))
    return [_cut(part) if isinstance(part, str) else part for part in parts]


def _part(block: object) -> str | BinaryContent:
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            try:
                data = base64.b64decode(block.data, validate=True)
            except binascii.Error:
                return "[a picture or sound that cannot be decoded]"
            return BinaryContent(data, media_type=block.mime_type)
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return resource.text
        case EmbeddedResource():
            return f"[a resource that is not text: {block.resource.uri}]"
        case ResourceLink():
            return f"[a resource: {block.uri}]"
        case _:
            return "[an answer of an unknown kind]"


def _cut(text: str) -> str:
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]}\n[cut off here: {len(text):,} characters in all]"
