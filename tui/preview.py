"""Preview of a file: its first lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from beray.exceptions import TransferError
from tui import messages
from tui.document import Document

if TYPE_CHECKING:
    from beray.client import BeRayClient

PREVIEW_BYTES: Final = 256 * 1024
_PREVIEW_LINES: Final = 4000
_SNIFFED_BYTES: Final = 8192


def read(
    client: BeRayClient, task_id: int, path: str, at: str | None = None
) -> messages.PreviewArrived:
    """Read at most ``PREVIEW_BYTES`` of a file, or of its version in a checkpoint. Blocks.

    Raises:
        TransferError: The connection broke while the content was read.
    """
    import requests  # not needed by the first screen

    content = bytearray()
    with client.get_file_content(task_id, path, stream=True, at=at) as response:
        try:
            for chunk in response.iter_content(64 * 1024):
                content += chunk
                if len(content) > PREVIEW_BYTES:
                    break
        except requests.RequestException:
            raise TransferError(f"{path}: the connection broke; select the file again") from None
    complete = len(content) <= PREVIEW_BYTES
    return messages.PreviewArrived(task_id, path, bytes(content[:PREVIEW_BYTES]), complete, at)


def document(content: bytes, complete: bool) -> Document | None:
    """Return ``content`` as numbered lines, or None if it is not text.

    Args:
        content: First bytes of a file.
        complete: Whether ``content`` is the whole file.
    """
    text = _decoded(content, complete)
    if text is None:
        return None
    lines = text.split("\n")
    if lines[-1] == "" and complete:
        lines.pop()
    shown = lines[:_PREVIEW_LINES]
    digits = len(str(len(shown)))
    result = Document(gutter=digits + 2)
    for number, line in enumerate(shown, 1):
        result.append(line.removesuffix("\r"), "event--output", f"{number:>{digits}}")
    if not complete or len(lines) > len(shown):
        result.append("… the rest is not shown; press d to download the whole file", "event--note")
    return result


def _decoded(content: bytes, complete: bool) -> str | None:
    """Decode ``content`` as UTF-8; return None if it is not text."""
    if b"\0" in content[:_SNIFFED_BYTES]:
        return None
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    if not complete and broken:
        broken -= 1  # the last character may be incomplete
    return text if broken * 10 <= len(text) else None
