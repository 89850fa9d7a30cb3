"""The schema: migrations lead to the schema of a new database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, select

from beray.server.storage import migrations
from beray.server.storage.database import WAL_BYTES, Database, UnusableDatabase
from beray.server.storage.store import Store, utc_now
from beray.server.storage.tables import StoredEvent, Task, VerificationCode


def schema(path: Path) -> dict[str, list[str]]:
    engine = create_engine(f"sqlite:///{path}")
    found = MetaData()
    found.reflect(engine)
    engine.dispose()
    return {
        name: sorted(
            [f"{c.name} {c.type} {c.nullable} {c.primary_key}" for c in table.columns]
            + [f"{key.column}" for key in table.foreign_keys]
            + [f"index {[c.name for c in index.columns]}" for index in table.indexes]
        )
        for name, table in found.tables.items()
        if name != "alembic_version"
    }


def test_migrations_lead_to_the_schema_of_a_new_database(tmp_path: Path) -> None:
    Store(tmp_path / "new.sqlite3").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'old.sqlite3'}")
    with engine.connect() as connection:
        migrations.upgrade(connection)
        connection.commit()
    engine.dispose()
    assert schema(tmp_path / "old.sqlite3") == schema(tmp_path / "new.sqlite3")


def test_the_write_ahead_log_shrinks_after_a_large_transaction(tmp_path: Path) -> None:
    database = Database(tmp_path / "db.sqlite3")
    wal = tmp_path / "db.sqlite3-wal"
    with database.writing() as session:
        connection = session.connection()
        connection.exec_driver_sql("CREATE TABLE scratch (content BLOB)")
        connection.exec_driver_sql("INSERT INTO scratch VALUES (zeroblob(?))", (WAL_BYTES,))
        session.commit()
    large = wal.stat().st_size
    for _ in range(2):
        with database.writing() as session:
            session.connection().exec_driver_sql("INSERT INTO scratch VALUES (1)")
            session.commit()
    small = wal.stat().st_size
    database.close()
    assert small <= WAL_BYTES < large


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "beray.server.storage:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_a_pending_code_outlives_the_upgrade(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "beray.server.storage:migrations")
    config.set_main_option("path_separator", "os")
    engine = create_engine(f"sqlite:///{tmp_path / 'db.sqlite3'}")
    code = ("ada@example.test", "123456", utc_now(), utc_now(600.0), 2)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        marks = "VALUES (?, ?, ?, ?, ?)"
        connection.exec_driver_sql(f"INSERT INTO verification_codes {marks}", code)
        connection.commit()
    engine.dispose()
    store = Store(tmp_path / "db.sqlite3")
    with store.reading() as session:
        (kept,) = session.scalars(select(VerificationCode))
    store.close()
    assert (kept.email, kept.client, kept.digest, kept.wrong_tries) == (code[0], "", code[1], 2)


def test_stored_data_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "db.sqlite3")
    user = store.add_user("a@b.example", None)
    store.close()
    again = Store(tmp_path / "db.sqlite3")
    kept = again.user_by_email("a@b.example")
    again.close()
    assert kept is not None
    assert kept.id == user.id


@pytest.mark.parametrize("seconds", [0.0, 3600.0, -1.0])
def test_times_sort_as_they_should(seconds: float) -> None:
    assert (utc_now(seconds) > utc_now()) == (seconds > 0)
    assert utc_now().endswith("Z")
    assert len(utc_now()) == len("2026-01-01T00:00:00.000000Z")


@pytest.mark.parametrize("name", ["q?mode=ro#x", "a b", "100%41", "ü", "file:x?y=1"])
def test_the_path_of_the_database_is_taken_literally(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    Store(folder / "db.sqlite3").close()
    assert "db.sqlite3" in [entry.name for entry in folder.iterdir()]
    assert {entry.name for entry in tmp_path.iterdir()} <= {name, "home"}


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("ALTER TABLE users DROP COLUMN password_hash", "column users.password_hash"),
        ("DROP TABLE task_changes", "table task_changes"),
    ],
)
def test_a_changed_schema_is_found_at_the_start(
    tmp_path: Path, statement: str, missing: str
) -> None:
    path = tmp_path / "db.sqlite3"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(UnusableDatabase, match=missing):
        Store(path)


def test_a_tool_result_is_not_the_end_of_an_answer(tmp_path: Path) -> None:
    store = Store(tmp_path / "db.sqlite3")
    user = store.add_user("ada@example.test", None)
    rows = [
        ("AGENT_EVENT_TOOL_RESULT", '{"result":{"type":"ERROR"}}'),
        ("AGENT_EVENT_TEXT_CHUNK", '{"text":"\\"type\\":\\"AGENT_EVENT_END\\""}'),
        ("AGENT_EVENT_TOOL_RESULT", '{"result":{"type":"error"}}'),
    ]
    with store.writing() as session:
        task = Task(
            user_id=user.id, goal="", status="RUNNING", created_at=utc_now(), last_seq=0, held=False
        )
        session.add(task)
        session.flush()
        task_id = task.id
        for seq, (kind, body) in enumerate(rows, 1):
            session.add(StoredEvent(task_id=task_id, seq=seq, body=body, type=kind))
    assert store.count_end_events_after(task_id, 0) == 0
    with store.writing() as session:
        session.add(StoredEvent(task_id=task_id, seq=4, body="{}", type="ERROR"))
    assert store.count_end_events_after(task_id, 0) == 1
    assert store.count_end_events_after(task_id, 4) == 0
    store.close()
