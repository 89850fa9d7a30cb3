"""Sending of a message with its attachments to a chat, and names of chats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from beray.exceptions import ConfigurationError
from beray.schema import MAX_ATTACHMENTS, MAX_CHAT_NAME_CHARS, Task
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


def unused_chat_name(tasks: Iterable[Task]) -> str:
    """Return a default name that no chat in ``tasks`` has."""
    used_names = {task.get("chat") for task in tasks}
    return next(
        name for name in (f"chat {number}" for number in count(1)) if name not in used_names
    )


def chat_name_problem(name: str) -> str | None:
    """Return the reason why ``name`` is not a valid name for a chat, or ``None``."""
    if not name:
        return "The name is empty. Enter a name."
    if len(name) > MAX_CHAT_NAME_CHARS:
        return f"The name has {len(name)} characters; the maximum is {MAX_CHAT_NAME_CHARS}."
    if "/" in name or name in (".", "..") or not name.isprintable():
        return "The name must be printable, must not contain / and must not be . or .."
    return None
