"""Repository of chats: tasks that have a name and do not end."""

from __future__ import annotations

from sqlalchemy import select

from beray.server.storage.database import Database
from beray.server.storage.tables import Task
from beray.server.storage.times import utc_now


class ChatRepository:
    """Chats by user and name. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def find(self, user_id: int, name: str) -> Task | None:
        """Return the user's chat with this name."""
        wanted = (Task.user_id == user_id) & (Task.chat == name)
        with self._database.reading() as session:
            return session.scalar(select(Task).where(wanted))

    def create(self, user_id: int, name: str) -> Task:
        """Create a chat.

        Raises:
            StorageError: The user already has a chat with this name, or the chat cannot be
                written.
        """
        task = Task(
            user_id=user_id,
            goal=name,
            chat=name,
            held=False,
            status="INPUT_REQUIRED",
            created_at=utc_now(),
        )
        with self._database.writing() as session:
            session.add(task)
        return task
