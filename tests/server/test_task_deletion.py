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
from beray.server.storage import database_space
from beray.server.storage.database_space import convert
from beray.server.storage.store import Store, TaskSpec
from beray.server.storage.tables import StoredEvent
from beray.server.tasks import deletion as task_deletion
from beray.server.tasks.deletion import RETAINED_FREE_PAGES, TaskDeletion
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer
from tests.support import done, until

EVENTS = 20_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "db.sqlite3")
    yield store
    store.close()


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces")


@pytest.fixture
def deletion(store: Store, workspaces: Workspaces, tmp_path: Path) -> TaskDeletion:
    return TaskDeletion(store, workspaces, lambda task_id: tmp_path / f"{task_id}.json")


def large_task(store: Store, workspaces: Workspaces, count: int = EVENTS) -> int:
    user = store.user_by_email("ada@example.test") or store.add_user("ada@example.test", None)
    task_id = store.add_task(user.id, TaskSpec("!true"), held=True).id
    workspaces.create(task_id)
    (workspaces.path(task_id) / "file").write_bytes(b"x")
    rows = [
        {"task_id": task_id, "seq": seq, "body": "x" * 200, "type": "X"}
        for seq in range(1, count + 1)
    ]
    with store.writing() as session:
        store.add_events(session, rows)
    return task_id


def left(store: Store) -> int:
    with store.reading() as session:
        return session.query(StoredEvent).count()


async def eventually(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


async def test_a_task_goes_at_once_and_its_events_in_steps(
    store: Store, workspaces: Workspaces, deletion: TaskDeletion, tmp_path: Path
) -> None:
    task_id, other = large_task(store, workspaces), large_task(store, workspaces, 10)
    (tmp_path / f"{task_id}.json").write_text("{}")
    store.truncate_log()
    before = (tmp_path / "db.sqlite3").stat().st_size
    await deletion.delete(task_id)
    # No events are removed yet, but the task is not visible any more.
    assert store.task(task_id) is None
    assert left(store) == EVENTS + 10
    assert not workspaces.path(task_id).exists()
    async with deletion.running():
        await eventually(lambda: not store.deleted_tasks())
        assert left(store) == 10
        await eventually(lambda: (tmp_path / "db.sqlite3").stat().st_size < before // 4)
    assert store.free_pages() <= RETAINED_FREE_PAGES
    assert not (tmp_path / f"{task_id}.json").exists()
    assert store.task(other) is not None


async def test_the_next_server_completes_interrupted_deletions(
    store: Store, workspaces: Workspaces, deletion: TaskDeletion
) -> None:
    task_id = large_task(store, workspaces)
    store.remove_task(task_id)
    assert store.remove_events(task_id, 100)
    assert left(store) == EVENTS - 100
    assert workspaces.path(task_id).exists()
    async with deletion.running():
        await eventually(lambda: not store.deleted_tasks())
    assert left(store) == 0
    assert not workspaces.path(task_id).exists()


async def test_an_interrupted_deletion_goes_on(
    store: Store, workspaces: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INITIAL_STEP", "MIN_STEP", "MAX_STEP"):
        monkeypatch.setattr(task_deletion, name, 10)
    task_id = large_task(store, workspaces)
    store.remove_task(task_id)
    for _ in range(2):
        before = left(store)
        deletion = TaskDeletion(store, workspaces, lambda task_id: tmp_path / f"{task_id}.json")
        async with deletion.running():
            await eventually(lambda before=before: left(store) < before)  # type: ignore[misc]
        assert 0 < left(store) < before
        assert store.deleted_tasks() == [task_id]
    monkeypatch.undo()
    async with deletion.running():
        await eventually(lambda: not store.deleted_tasks())
    assert left(store) == 0


async def test_only_recorded_work_dirs_are_removed(
    store: Store,
    workspaces: Workspaces,
    deletion: TaskDeletion,
    capfd: pytest.CaptureFixture[str],
) -> None:
    task_id = large_task(store, workspaces, 1)
    newer = workspaces.create(task_id + 100)  # of a newer database than a restored backup
    (newer / "kept").write_text("1")
    store.undo_task(large_task(store, workspaces, 1))
    deletion.report_unknown(store.users_of_tasks())
    async with deletion.running():
        await eventually(lambda: not store.deleted_tasks())
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
    Store(path).close()
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
    Store(tmp_path / "new.sqlite3").close()
    assert auto_vacuum(tmp_path / "new.sqlite3") == 2


def test_a_database_is_converted_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.sqlite3"
    old_database(path)
    before = path.stat().st_size
    capfd.readouterr()
    for told in ("rewriting the database once", ""):
        Store(path).close()
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
    monkeypatch.setattr(database_space, "free_bytes", lambda _folder: path.stat().st_size)
    store = Store(path)
    assert "free more space and restart" in "".join(capfd.readouterr())
    # It works all the same, and keeps its free pages for itself.
    assert store.return_pages(1000) == 0
    store.add_user("ada@example.test", None)
    store.close()
    assert auto_vacuum(path) == 0


def test_a_locked_database_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    old_database(path)
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as other,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection,
    ):
        other.execute("BEGIN IMMEDIATE")
        convert(connection, path)
        other.execute("ROLLBACK")
    assert auto_vacuum(path) == 0
