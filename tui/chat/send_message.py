"""A message and the files that go with it, from here to a chat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from beray.exceptions import ConfigurationError
from beray.schema import MAX_ATTACHMENTS, Task
from beray.transfers.transfer import Transfer
from tui.composer.attachments import names_of, plan
from tui.composer.sending import Sent, note, upload

if TYPE_CHECKING:
    from beray.client import BeRayClient

LONGEST_NAME: Final = 100


def say(
    client: BeRayClient,
    chat: str,
    task_id: int,
    text: str,
    paths: Sequence[Path] = (),
    transfer: Transfer | None = None,
) -> Sent:
    """Say ``text`` in a chat; blocks. Its files are in the work_dir before it is said.

    Args:
        task_id: of the task that the chat is.
        paths: local files and folders that go with it; nothing is sent where it is known
            before that one of them cannot be.
        transfer: reports the bytes of all files, and cancels.

    Raises:
        ConfigurationError: a file is not there, cannot be read or named, or there are too
            many.
        BeRayException, OSError: as the calls do.
    """
    if not paths:
        return Sent(client.send_chat_message(chat, text))
    handle = transfer or Transfer()
    attachments = plan(paths, lambda: handle.wait(0))
    names = [name for one in attachments for name in names_of(one)]
    if len(names) > MAX_ATTACHMENTS:
        raise ConfigurationError(
            f"{len(names):,} files: with a message go at most {MAX_ATTACHMENTS}"
        )
    handle.advance(0, sum(one.size for one in attachments))
    left_out = upload(client, task_id, attachments, handle)
    handle.wait(0)
    return Sent(client.send_chat_message(chat, text, names), note(attachments, left_out, held=True))


def free_name(tasks: Iterable[Task]) -> str:
    """A name that no chat among ``tasks`` has."""
    taken = {task.get("chat") for task in tasks}
    return next(name for name in (f"chat {number}" for number in count(1)) if name not in taken)


def problem(name: str) -> str | None:
    """Why no chat can be called ``name``; ``None`` where one can."""
    if not name:
        return "What is it called?"
    if len(name) > LONGEST_NAME:
        return f"{len(name)} characters: a name has at most {LONGEST_NAME}."
    if "/" in name or name in (".", "..") or not name.isprintable():
        return "A name is printable, has no / in it, and is neither . nor .."
    return None
