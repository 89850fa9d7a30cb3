"""Sending of a message with its attachments to a chat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beray.exceptions import ConfigurationError
from beray.schema import MAX_ATTACHMENTS
from beray.transfers.transfer import Transfer
from tui.composer.attachments import inspect_attachments, work_dir_paths
from tui.composer.sending import SubmitResult, upload_attachments, upload_note

if TYPE_CHECKING:
    from beray.client import BeRayClient


def send_message(
    client: BeRayClient,
    chat: str,
    task_id: int,
    text: str,
    paths: Sequence[Path] = (),
    transfer: Transfer | None = None,
) -> SubmitResult:
    """Send a message to a chat. Blocks until its attachments are uploaded and it is sent.

    Args:
        client: Client of the server.
        chat: Name of the chat.
        task_id: Identifier of the chat's task.
        text: The message.
        paths: Local files and directories to attach. If one is invalid, nothing is sent.
        transfer: Handle that reports the progress over all attachments and can cancel.

    Raises:
        ConfigurationError: A file does not exist, is not readable or has the name of another
            one, or there are more than ``MAX_ATTACHMENTS`` files.
        BeRayException: A request failed, or the transfer was cancelled.
        OSError: A local file could not be read.
    """
    if not paths:
        return SubmitResult(client.send_chat_message(chat, text))
    handle = transfer or Transfer()
    attachments = inspect_attachments(paths, lambda: handle.wait(0))
    names = [name for attachment in attachments for name in work_dir_paths(attachment)]
    if len(names) > MAX_ATTACHMENTS:
        raise ConfigurationError(
            f"The attachments contain {len(names):,} files; the maximum per message is "
            f"{MAX_ATTACHMENTS}"
        )
    handle.advance(0, sum(attachment.size for attachment in attachments))
    left_out = upload_attachments(client, task_id, attachments, handle)
    handle.wait(0)
    return SubmitResult(
        client.send_chat_message(chat, text, names), upload_note(attachments, left_out, held=True)
    )
