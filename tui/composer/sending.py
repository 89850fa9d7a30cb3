"""An order becomes a task: what goes with it is there before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from beray.exceptions import AuthenticationError, BeRayException
from beray.schema import Task
from beray.transfers.transfer import Transfer
from tui import sanitize
from tui.composer.attachments import Attachment, plan
from tui.state.task_draft import TaskDraft

if TYPE_CHECKING:
    from beray.client import BeRayClient

EXPECTED_ERRORS = (BeRayException, OSError)


@dataclass(frozen=True)
class Sent:
    """A task that was created; ``note`` says what was not as one might expect."""

    task: Task
    note: str = ""


class LeftBehind(BeRayException):
    """What goes with a task could not be sent, and the task is still on the server."""


def send(client: BeRayClient, order: TaskDraft, transfer: Transfer | None = None) -> Sent:
    """Create the task of ``order``; blocks.

    With attachments the task is held until they are all in its work_dir. Where one
    cannot be sent the task is deleted again. Nothing is created where it is known
    before that something cannot be sent.

    Args:
        transfer: reports the bytes of all attachments, and cancels.

    Raises:
        ConfigurationError: an attachment is not there, cannot be read or named.
        LeftBehind: it failed, and so did deleting the task; or a server that cannot
            hold a task has started it already.
        BeRayException, OSError: as the calls do.
    """
    if not order.attachments:
        return Sent(client.create_task(order.goal, order.tools, **order.options))
    handle = transfer or Transfer()
    attachments = plan(order.attachments, lambda: handle.wait(0))
    handle.advance(0, sum(one.size for one in attachments))
    task = client.create_task(order.goal, order.tools, start=False, **order.options)
    held = task.get("held") is True
    try:
        left_out = upload(client, task["id"], attachments, handle)
        if held:
            task = client.start_task(task["id"])
    except EXPECTED_ERRORS as error:
        _take_back(client, task["id"], held, error)
        raise
    return Sent(task, note(attachments, left_out, held=held))


def upload(
    client: BeRayClient, task_id: int, attachments: list[Attachment], transfer: Transfer
) -> list[str]:
    """Put ``attachments`` into a work_dir; return the folders that the server cannot create."""
    left_out: list[str] = []
    done, total = 0, sum(one.size for one in attachments)
    for one in attachments:
        part = transfer.part(done, total)
        if one.is_folder:
            sent = client.upload_dir(task_id, one.path, one.name or ".", transfer=part)
            left_out += sent.left_out
        else:
            client.upload_path(task_id, one.path, transfer=part)
        done += one.size
        transfer.advance(done, total)
    return left_out


def _take_back(client: BeRayClient, task_id: int, held: bool, error: Exception) -> None:
    """Delete a task whose files are not complete, or raise what says that it is there."""
    if not held:
        raise LeftBehind(
            f"{sanitize.error_text(error)} - task #{task_id} runs already, without all of its files"
        ) from error
    try:
        client.delete_task(task_id)
    except EXPECTED_ERRORS:
        if isinstance(error, AuthenticationError):
            return
        raise LeftBehind(
            f"{sanitize.error_text(error)} - task #{task_id} is still there, held; delete it"
        ) from error


def note(attachments: list[Attachment], missing: list[str], *, held: bool) -> str:
    """What there is to know of ``attachments`` that were sent; "" where there is nothing.

    Args:
        missing: empty folders that the server cannot create.
    """
    notes = []
    if not held:
        notes.append("This server starts tasks at once: it may have begun before its files came.")
    if missing:
        notes.append(f"Empty folders, which this server cannot create: {', '.join(missing)}.")
    left_out = sum(one.left_out for one in attachments)
    if left_out:
        notes.append(f"Links and special files that were left out: {left_out}.")
    return " ".join(notes)
