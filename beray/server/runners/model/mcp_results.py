"""Conversion of MCP tool results for the model and for the log.

Images, audio and other binary content are saved as files in the work_dir. The log and the model
get their paths; the model also gets images themselves.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import mimetypes
import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import BinaryContent, ToolReturn

from beray.sanitize import one_line
from beray.server.runners.model.file_tools import FileTools
from beray.server.workspace.safe_open import PathError

CHARACTERS: Final = 100_000
"""Maximum length of one result for the model."""
IMAGE_BYTES: Final = 3_500_000
"""Maximum size of an image for the model. Providers accept 5 MB in base64."""
MAX_FILES: Final = 50
"""Maximum number of files that one result can add to the work_dir."""
FOLDER: Final = "outputs"
_NAME_CHARACTERS: Final = 80
_IMAGES: Final = (
    ("image/png", b"\x89PNG\r\n\x1a\n", b""),
    ("image/jpeg", b"\xff\xd8\xff", b""),
    ("image/gif", b"GIF8", b""),
    ("image/webp", b"RIFF", b"WEBP"),
)
"""Image types that providers accept, with the signatures at offset 0 and at offset 8."""
_SUFFIXES: Final = {"image/jpeg": ".jpg", "audio/wav": ".wav", "audio/mpeg": ".mp3"}


@dataclass(frozen=True, slots=True)
class ResultPart:
    """Converted content block of a result.

    Attributes:
        model: Strings and images for the model.
        log: JSON for the log.
    """

    model: list[str | BinaryContent]
    log: Any


class ResultConverter:
    """Converter for the results of a run's MCP tools.

    Args:
        files: Tools that save binary content.
        images: Whether the model accepts images.
    """

    def __init__(self, files: FileTools, *, images: bool) -> None:
        self._files = files
        self._images = images

    async def convert(self, result: CallToolResult, name: str) -> Any:
        """Return the result for the model; with files, also a separate one for the log.

        Args:
            result: The result of a tool.
            name: Beginning of the names of saved files.

        Raises:
            ToolFailed: The tool reported an error; the message is its text.
        """
        parts: list[ResultPart] = []
        remaining = MAX_FILES
        for block in result.content:
            data = _data(block)
            if data is None:
                parts.append(_text_part(_block_text(block)))
            elif remaining == 0:
                note = f"[not saved: a result can have at most {MAX_FILES} files]"
                parts.append(_text_part(note))
            else:
                remaining -= 1
                parts.append(await self._save(block, data, name))
        if not parts and result.structured_content is not None:
            parts = [_text_part(json.dumps(result.structured_content, ensure_ascii=False))]
        model = [item for part in parts for item in part.model]
        strings = [item for item in model if isinstance(item, str)]
        if result.is_error:
            raise ToolFailed(_truncate("\n".join(strings)) or "the tool failed without a message")
        if len(strings) < len(model):
            content: Any = [_truncate(item) if isinstance(item, str) else item for item in model]
        else:
            content = _truncate("\n".join(strings))
        if remaining == MAX_FILES:
            return content
        return ToolReturn(content, metadata=[part.log for part in parts])

    async def _save(self, block: Any, data: bytes, name: str) -> ResultPart:
        declared = _media_type(block)
        image = _image_type(data)
        media_type = image or declared
        preferred = f"{FOLDER}/{_file_name(block, name, media_type)}"
        log: dict[str, Any] = {"media_type": media_type, "bytes": len(data)}
        try:
            path = await asyncio.to_thread(self._files.add, preferred, io.BytesIO(data))
        except (PathError, OSError) as error:
            reason = error.reason if isinstance(error, PathError) else error.strerror
            log["problem"] = f"not saved: {reason}"
            note = f"[{media_type}, {len(data):,} bytes, could not be saved: {reason}]"
        else:
            log["path"] = path
            note = f"[{media_type}, {len(data):,} bytes, saved as {path}]"
        if image is None or not self._images or len(data) > IMAGE_BYTES:
            return ResultPart([note], log)
        return ResultPart([note, BinaryContent(data, media_type=image)], log)


def _text_part(text: str) -> ResultPart:
    return ResultPart([text], text)


def _block_text(block: object) -> str:
    """Return the text of a block, or a note in its place."""
    match block:
        case TextContent():
            return block.text
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return resource.text
        case ImageContent() | AudioContent() | EmbeddedResource():
            return f"[{_media_type(block)}: its base64 is invalid]"
        case ResourceLink():
            return f"[resource: {block.uri}]"
        case _:
            return "[content of an unknown type]"


def _data(block: object) -> bytes | None:
    """Return the bytes of binary content, or None if there is none or its base64 is invalid."""
    match block:
        case ImageContent() | AudioContent():
            encoded = block.data
        case EmbeddedResource(resource=BlobResourceContents() as resource):
            encoded = resource.blob
        case _:
            return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None


def _media_type(block: object) -> str:
    match block:
        case ImageContent() | AudioContent():
            declared: str | None = block.mime_type
        case EmbeddedResource():
            declared = block.resource.mime_type
        case _:
            declared = None
    return one_line(declared or "application/octet-stream", 100)


def _image_type(data: bytes) -> str | None:
    """Return the type of an image by its signature, because providers reject a wrong type."""
    for media_type, start, after in _IMAGES:
        if data.startswith(start) and data[8 : 8 + len(after)] == after:
            return media_type
    return None


def _file_name(block: object, name: str, media_type: str) -> str:
    """Return a file name without characters that are special in shells or on other systems."""
    stem, suffix = name, ""
    if isinstance(block, EmbeddedResource):
        last = unquote(urlsplit(str(block.resource.uri)).path).rpartition("/")[2]
        base, dot, extension = last.rpartition(".")
        if base and re.fullmatch(r"[A-Za-z0-9]{1,10}", extension):
            stem, suffix = base, dot + extension
        elif last:
            stem = last
    if not suffix:
        plain = media_type.partition(";")[0].strip().lower()
        suffix = _SUFFIXES.get(plain) or mimetypes.guess_extension(plain) or ".bin"
    safe = re.sub(r"[^\w.-]+", "_", stem).strip("._-")[:_NAME_CHARACTERS]
    return f"{safe or 'file'}{suffix}"


def _truncate(text: str) -> str:
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]}\n[cut off here: {len(text):,} characters in all]"
