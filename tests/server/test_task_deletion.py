"""Deletion of large tasks: immediate, resumable, and with disk space returned."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from beray import NotFoundError
from beray.server.services import DATABASE_FILE
from beray.server.storage.database import Database
from beray.server.storage.log_transaction import NewEvent
from beray.server.storage.sqlite import space
from beray.server.storage.tables import StoredEvent
from beray.server.storage.tasks import TaskSpec
from beray.server.tasks import deletion as task_deletion
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.deletion import RETAINED_FREE_PAGES, TaskDeletion
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer
from tests.repositories import Repositories, opened
from tests.support import done, until

EVENTS = 20_000


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    with opened(tmp_path / "db.sqlite3") as repositories:
        yield repositories


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces")


@pytest.fixture
def deletion(repositories: Repositories, workspaces: Workspaces, tmp_path: Path) -> TaskDeletion:
    return new_deletion(repositories, workspaces, tmp_path)


def new_deletion(
    repositories: Repositories, workspaces: Workspaces, tmp_path: Path
) -> TaskDeletion:
    return TaskDeletion(
        tasks=repositories.tasks,
        events=repositories.events,
        space=repositories.space,
        reserve=repositories.database.reserve,
        workspaces=workspaces,
        conversations=Conversations(tmp_path),
        delete_checkpoints=no_checkpoints,
    )


async def no_checkpoints(_: int) -> None:
    """Delete the checkpoints of a task that has none."""


def large_task(repositories: Repositories, workspaces: Workspaces, count: int = EVENTS) -> int:
    task_id = repositories.tasks.create(repositories.user_id(), TaskSpec("!true"), held=True).id
    workspaces.create(task_id)
    (workspaces.path(task_id) / "file").write_bytes(b"x")
    events = [NewEvent(task_id, seq, "X", "x" * 200) for seq in range(1, count + 1)]
    repositories.events.transact(lambda log: log.insert(events), wait=10.0, with_reserve=False)
    return task_id


def left(repositories: Repositories) -> int:
    with repositories.database.reading() as session:
        return session.query(StoredEvent).count()


async def eventually(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


async def test_a_task_goes_at_once_and_its_events_in_steps(
    repositories: Repositories, workspaces: Workspaces, deletion: TaskDeletion, tmp_path: Path
) -> None:
    task_id, other = large_task(repositories, workspaces), large_task(repositories, workspaces, 10)
    (tmp_path / f"{task_id}.json").write_text("{}")
    repositories.space.truncate_log()
    before = (tmp_path / "db.sqlite3").stat().st_size
    await deletion.delete(task_id)
    # No events are removed yet, but the task is not visible any more.
    assert repositories.tasks.get(task_id) is None
    assert left(repositories) == EVENTS + 10
    assert not workspaces.path(task_id).exists()
    async with deletion.running():
        await eventually(lambda: not repositories.tasks.list_deleted())
        assert left(repositories) == 10
        await eventually(lambda: (tmp_path / "db.sqlite3").stat().st_size < before // 4)
    assert repositories.space.free_pages() <= RETAINED_FREE_PAGES
    assert not (tmp_path / f"{task_id}.json").exists()
    assert repositories.tasks.get(other) is not None


async def test_the_next_server_completes_interrupted_deletions(
    repositories: Repositories, workspaces: Workspaces, deletion: TaskDeletion
) -> None:
    task_id = large_task(repositories, workspaces)
    repositories.tasks.delete(task_id)
    assert repositories.events.delete_first(task_id, 100)
    assert left(repositories) == EVENTS - 100
    assert workspaces.path(task_id).exists()
    async with deletion.running():
        await eventually(lambda: not repositories.tasks.list_deleted())
    assert left(repositories) == 0
    assert not workspaces.path(task_id).exists()


async def test_an_interrupted_deletion_goes_on(
    repositories: Repositories,
    workspaces: Workspaces,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("INITIAL_STEP", "MIN_STEP", "MAX_STEP"):
        monkeypatch.setattr(task_deletion, name, 10)
    task_id = large_task(repositories, workspaces)
    repositories.tasks.delete(task_id)
    for _ in range(2):
        before = left(repositories)
        deletion = new_deletion(repositories, workspaces, tmp_path)
        async with deletion.running():
            await eventually(lambda before=before: left(repositories) < before)  # type: ignore[misc]
        assert 0 < left(repositories) < before
        assert repositories.tasks.list_deleted() == [task_id]
    monkeypatch.undo()
    async with deletion.running():
        await eventually(lambda: not repositories.tasks.list_deleted())
    assert left(repositories) == 0


async def test_only_recorded_work_dirs_are_removed(
    repositories: Repositories,
    workspaces: Workspaces,
    deletion: TaskDeletion,
    capfd: pytest.CaptureFixture[str],
) -> None:
    task_id = large_task(repositories, workspaces, 1)
    newer = workspaces.create(task_id + 100)  # of a newer database than a restored backup
    (newer / "kept").write_text("1")
    repositories.tasks.undo_create(large_task(repositories, workspaces, 1))
    deletion.report_unknown(repositories.tasks.users_of_tasks())
    async with deletion.running():
        await eventually(lambda: not repositories.tasks.list_deleted())
    assert workspaces.existing() == {task_id, task_id + 100}
    assert (newer / "kept").read_text() == "1"
    told = "".join(capfd.readouterr())
    assert "work_dirs without a task" in told and f"[{task_id + 100}]" in told


def test_a_server_resumes_a_deletion(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task_id = done(client, "!seq 1000; echo 1 > file")[0]["task_id"]
        server.kill()
        with closing(sqlite3.connect(server.data_dir / DATABASE_FILE)) as database:
            database.execute("DELETE FROM tasks WHERE id = ?", (task_id,))  # as cascade=False
            database.execute("INSERT INTO deleted_tasks VALUES (?, '')", (task_id,))
            database.commit()
            (count,) = database.execute("SELECT count(*) FROM events").fetchone()
            assert count > 0
        server.restart()
        with pytest.raises(NotFoundError):
            client.get_task(task_id)
        with closing(sqlite3.connect(server.data_dir / DATABASE_FILE)) as database:
            until(lambda: not database.execute("SELECT count(*) FROM events").fetchone()[0])
            until(lambda: not database.execute("SELECT * FROM deleted_tasks").fetchall())
        assert not (server.data_dir / "workspaces" / str(task_id)).exists()


def old_database(path: Path) -> None:
    """Make a database as versions before 0010 of the schema did, with free pages."""
    Database(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum=NONE")
        connection.execute("VACUUM")
        connection.execute("CREATE TABLE filler (content)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(4000000))")
        connection.execute("DROP TABLE filler")


def auto_vacuum(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA auto_vacuum").fetchone()[0])


def test_new_databases_can_return_pages(tmp_path: Path) -> None:
    Database(tmp_path / "new.sqlite3").close()
    assert auto_vacuum(tmp_path / "new.sqlite3") == 2


def test_a_database_is_converted_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.sqlite3"
    old_database(path)
    before = path.stat().st_size
    capfd.readouterr()
    for told in ("rewriting the database once", ""):
        Database(path).close()
        assert auto_vacuum(path) == 2
        output = "".join(capfd.readouterr())
        assert told in output and bool(output) == bool(told)
    assert path.stat().st_size < before
    assert sorted(os.listdir(tmp_path)) == ["home", "old.sqlite3"]


def test_a_database_is_not_converted_without_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.sqlite3"
    old_database(path)
    monkeypatch.setattr(space, "free_bytes", lambda _folder: path.stat().st_size)
    with opened(path) as repositories:
        assert "free more space and restart" in "".join(capfd.readouterr())
        # It works all the same, and keeps its free pages for itself.
        assert repositories.space.return_pages(1000) == 0
        repositories.accounts.create("ada@example.test", None)
    assert auto_vacuum(path) == 0


def test_a_locked_database_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    old_database(path)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection,
    ):
        other.execute("BEGIN IMMEDIATE")
        space.convert(connection, path)
        other.execute("ROLLBACK")
    assert auto_vacuum(path) == 0
