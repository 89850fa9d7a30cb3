"""Results of MCP tools, for the model and for the log.

Images, sounds and other binary content become files in the work_dir. The log has their paths; the
model has their paths, too, and sees images.
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
"""Characters of one result that the model is given."""
IMAGE_BYTES: Final = 3_500_000
"""Size of an image that the model is given; in base64, providers accept 5 MB."""
MAX_FILES: Final = 50
"""Files that one result may add to the work_dir."""
FOLDER: Final = "outputs"
_NAME_CHARACTERS: Final = 80
_IMAGES: Final = (
    ("image/png", b"\x89PNG\r\n\x1a\n", b""),
    ("image/jpeg", b"\xff\xd8\xff", b""),
    ("image/gif", b"GIF8", b""),
    ("image/webp", b"RIFF", b"WEBP"),
)
"""Image types that providers accept, with their first bytes, and those after 8 bytes."""
_SUFFIXES: Final = {"image/jpeg": ".jpg", "audio/wav": ".wav", "audio/mpeg": ".mp3"}


@dataclass(frozen=True, slots=True)
class Parts:
    """One part of a result.

    Attributes:
        model: Strings and images.
        log: Its representation in the log.
    """

    model: list[str | BinaryContent]
    log: Any


class Results:
    """Converts results of one server's tools.

    Args:
        files: Where binary content is saved.
        images: Whether the model is given images.
    """

    def __init__(self, files: FileTools, *, images: bool) -> None:
        self._files = files
        self._images = images

    async def convert(self, result: CallToolResult, name: str) -> Any:
        """Return the result for the model, with its own representation for the log if it has files.

        Args:
            name: Beginning of the names of files.

        Raises:
            ToolFailed: The tool reports that it failed; the message is its text.
        """
        parts: list[Parts] = []
        left = MAX_FILES
        for block in result.content:
            data = _data(block)
            if data is None:
                parts.append(_text(_words(block)))
            elif left == 0:
                parts.append(_text(f"[not saved: a result may have {MAX_FILES} files]"))
            else:
                left -= 1
                parts.append(await self._file(block, data, name))
        if not parts and result.structured_content is not None:
            parts = [_text(json.dumps(result.structured_content, ensure_ascii=False))]
        model = [piece for part in parts for piece in part.model]
        texts = [piece for piece in model if isinstance(piece, str)]
        if result.is_error:
            raise ToolFailed(_cut("\n".join(texts)) or "the tool failed without a message")
        if len(texts) < len(model):
            shown: Any = [_cut(piece) if isinstance(piece, str) else piece for piece in model]
        else:
            shown = _cut("\n".join(texts))
        if left == MAX_FILES:
            return shown
        return ToolReturn(shown, metadata=[part.log for part in parts])

    async def _file(self, block: Any, data: bytes, name: str) -> Parts:
        declared = _media_type(block)
        image = _image_type(data)
        media_type = image or declared
        wanted = f"{FOLDER}/{_file_name(block, name, media_type)}"
        log: dict[str, Any] = {"media_type": media_type, "bytes": len(data)}
        try:
            path = await asyncio.to_thread(self._files.add, wanted, io.BytesIO(data))
        except (PathError, OSError) as error:
            reason = error.reason if isinstance(error, PathError) else error.strerror
            log["problem"] = f"not saved: {reason}"
            note = f"[{media_type}, {len(data):,} bytes, could not be saved: {reason}]"
        else:
            log["path"] = path
            note = f"[{media_type}, {len(data):,} bytes, saved as {path}]"
        if image is None or not self._images or len(data) > IMAGE_BYTES:
            return Parts([note], log)
        return Parts([note, BinaryContent(data, media_type=image)], log)


def _text(text: str) -> Parts:
    return Parts([text], text)


def _words(block: object) -> str:
    match block:
        case TextContent():
            return block.text
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return resource.text
        case ImageContent() | AudioContent() | EmbeddedResource():
            return f"[{_media_type(block)}: its base64 is invalid]"
        case ResourceLink():
            return f"[a resource: {block.uri}]"
        case _:
            return "[content of an unknown kind]"


def _data(block: object) -> bytes | None:
    """Return the bytes of binary content, None if the block has none that can be decoded."""
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
    """Return the type of an image by its content: a provider refuses one with the wrong type."""
    for media_type, start, after in _IMAGES:
        if data.startswith(start) and data[8 : 8 + len(after)] == after:
            return media_type
    return None


def _file_name(block: object, name: str, media_type: str) -> str:
    """Return a name without characters that a shell or another system interprets."""
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


def _cut(text: str) -> str:
    if len(text) <= CHARACTERS:
        return text
    return f"{text[:CHARACTERS]}\n[cut off here: {len(text):,} characters in all]"
