"""Creation of a task from a draft, with its attachments uploaded before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from beray.exceptions import AuthenticationError, BeRayException
from beray.schema import Task
from beray.transfers.transfer import Transfer
from tui import sanitize
from tui.composer.attachments import Attachment, inspect_attachments
from tui.state.task_draft import TaskDraft

if TYPE_CHECKING:
    from beray.client import BeRayClient

EXPECTED_ERRORS = (BeRayException, OSError)


@dataclass(frozen=True)
class SubmitResult:
    """Created task, or task of the chat that received a message.

    Attributes:
        task: The task.
        note: Message about unexpected circumstances, such as skipped files, or "".
    """

    task: Task
    note: str = ""


class IncompleteTaskRemains(BeRayException):
    """The attachments could not be uploaded, and the task still exists on the server."""


def submit_draft(
    client: BeRayClient, draft: TaskDraft, transfer: Transfer | None = None
) -> SubmitResult:
    """Create the task of ``draft``. Blocks until all attachments are uploaded.

    A task with attachments is held until all of them are in its work_dir. If an upload fails,
    the task is deleted. If an attachment is invalid, no task is created.

    Args:
        client: Client of the server.
        draft: The task to create.
        transfer: Handle that reports the progress over all attachments and can cancel.

    Raises:
        ConfigurationError: An attachment does not exist, is not readable, or has the name of
            another one.
        IncompleteTaskRemains: An upload failed and the task could not be deleted, or the
            server does not support held tasks and has already started it.
        BeRayException: A request failed, or the transfer was cancelled.
        OSError: A local file could not be read.
    """
    if not draft.attachments:
        return SubmitResult(client.create_task(draft.goal, draft.tools, **draft.all_options))
    handle = transfer or Transfer()
    attachments = inspect_attachments(draft.attachments, lambda: handle.wait(0))
    handle.advance(0, sum(attachment.size for attachment in attachments))
    task = client.create_task(draft.goal, draft.tools, start=False, **draft.all_options)
    held = task.get("held") is True
    try:
        left_out = upload_attachments(client, task["id"], attachments, handle)
        if held:
            task = client.start_task(task["id"])
    except EXPECTED_ERRORS as error:
        _delete_incomplete_task(client, task["id"], held, error)
        raise
    return SubmitResult(task, upload_note(attachments, left_out, held=held))


def upload_attachments(
    client: BeRayClient, task_id: int, attachments: list[Attachment], transfer: Transfer
) -> list[str]:
    """Upload attachments into a work_dir.

    Returns:
        The empty directories that the server cannot create.
    """
    left_out: list[str] = []
    done, total = 0, sum(attachment.size for attachment in attachments)
    for attachment in attachments:
        part = transfer.part(done, total)
        if attachment.is_dir:
            sent = client.upload_dir(
                task_id, attachment.path, attachment.name or ".", transfer=part
            )
            left_out += sent.left_out
        else:
            client.upload_path(task_id, attachment.path, transfer=part)
        done += attachment.size
        transfer.advance(done, total)
    return left_out


def _delete_incomplete_task(
    client: BeRayClient, task_id: int, held: bool, error: Exception
) -> None:
    """Delete a task whose files are incomplete.

    Raises:
        IncompleteTaskRemains: The task could not be deleted, or is already running.
    """
    if not held:
        raise IncompleteTaskRemains(
            f"{sanitize.error_text(error)} - task #{task_id} is already running without all of "
            "its files"
        ) from error
    try:
        client.delete_task(task_id)
    except EXPECTED_ERRORS:
        if isinstance(error, AuthenticationError):
            return
        raise IncompleteTaskRemains(
            f"{sanitize.error_text(error)} - task #{task_id} still exists and is held; delete it"
        ) from error


def upload_note(attachments: list[Attachment], missing: list[str], *, held: bool) -> str:
    """Return a message about unexpected circumstances of an upload, or "".

    Args:
        attachments: The uploaded attachments.
        missing: Empty directories that the server cannot create.
        held: Whether the task was held until the upload was complete.
    """
    notes = []
    if not held:
        notes.append(
            "This server starts tasks immediately; the task may have started without its files."
        )
    if missing:
        notes.append(f"This server cannot create empty folders: {', '.join(missing)}.")
    left_out = sum(attachment.left_out for attachment in attachments)
    if left_out:
        notes.append(f"Skipped links and special files: {left_out:,}.")
    return " ".join(notes)
