"""Export of all data of an account as a ZIP archive, produced while it is sent.

``account.json`` and ``api_keys.json`` describe the account. ``tasks/ID`` and ``chats/ID`` contain
the properties of each task or chat (``task.json``), its events as JSON lines (``events.jsonl``)
and its files (``files``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from beray.server.accounts.presenters import api_key_to_wire
from beray.server.files.file_response import Blocks
from beray.server.storage.api_keys import ApiKeyRepository
from beray.server.storage.events import EventRepository
from beray.server.storage.tables import Task, User
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.task_pages import task_to_wire
from beray.server.workspace.archive import ZipStream
from beray.server.workspace.safe_open import MissingPath
from beray.server.workspace.workspace import Workspaces

PAGE_EVENTS: Final = 1_000
PAGE_BYTES: Final = 1024 * 1024
PART_BYTES: Final = 256 * 1024
"""Size of the parts in which a large event is read."""


class AccountExport:
    """Exports of accounts. Synchronous; called in threads.

    Args:
        tasks: Repository of tasks.
        events: Repository of events.
        api_keys: Repository of API keys.
        workspaces: Work_dirs of tasks.
    """

    def __init__(
        self,
        *,
        tasks: TaskRepository,
        events: EventRepository,
        api_keys: ApiKeyRepository,
        workspaces: Workspaces,
    ) -> None:
        self._tasks = tasks
        self._events = events
        self._api_keys = api_keys
        self._workspaces = workspaces

    def stream(self, user: User) -> Blocks:
        """Yield the archive.

        Raises:
            IncompleteFile: A file disappeared, shrank or became unreadable meanwhile.
            StorageError: The database cannot be read.
        """
        archive = ZipStream()
        account = {
            "id": user.id,
            "email": user.email,
            "role": user.role,
            "created_at": user.created_at,
            "last_sign_in_at": user.last_sign_in_at,
        }
        keys = [api_key_to_wire(key) for key in self._api_keys.list_all(user.id)]
        yield from archive.add_content("account.json", _document(account))
        yield from archive.add_content("api_keys.json", _document(keys))
        for task in self._tasks.list_of_user(user.id):
            directory = f"{'tasks' if task.chat is None else 'chats'}/{task.id}/"
            yield from self._task(archive, task, directory)
        yield archive.close()

    def _task(self, archive: ZipStream, task: Task, directory: str) -> Blocks:
        yield from archive.add_content(f"{directory}task.json", _document(task_to_wire(task)))
        yield from archive.add_content(f"{directory}events.jsonl", self._lines(task.id))
        try:
            workspace = self._workspaces.open(task.id)
        except MissingPath:  # the task was deleted meanwhile
            return
        with workspace:
            yield from archive.add_files(workspace, [()], f"{directory}files/")

    def _lines(self, task_id: int) -> Iterator[bytes]:
        after = 0
        while True:
            page = self._events.page(
                task_id, after, max_events=PAGE_EVENTS, max_bytes=PAGE_BYTES, large=PART_BYTES
            )
            if page is None or not page.rows:
                return
            for row in page.rows:
                if row.size <= PART_BYTES:
                    yield row.body
                else:
                    for start in range(0, row.size, PART_BYTES):
                        yield self._events.body_part(task_id, row.seq, start, PART_BYTES)
                yield b"\n"
            after = page.rows[-1].seq


def _document(value: Any) -> list[bytes]:
    return [json.dumps(value, ensure_ascii=False, indent=2).encode(), b"\n"]
