"""The schema: migrations lead to the schema of a new database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, delete, select, update
from sqlalchemy.exc import DatabaseError

from beray.server.storage import migrations
from beray.server.storage.api_keys import scopes_of
from beray.server.storage.audit import AuditRecord
from beray.server.storage.database import Database, UnusableDatabase
from beray.server.storage.digests import secret_digest
from beray.server.storage.log_transaction import LogTransaction, NewEvent
from beray.server.storage.sqlite.engine import WAL_BYTES
from beray.server.storage.tables import AuditEntry, Token, VerificationCode
from beray.server.storage.tasks import TaskSpec
from beray.server.storage.times import utc_now
from tests.repositories import opened


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", "beray.server.storage:migrations")
    config.set_main_option("path_separator", "os")
    return config


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
    Database(tmp_path / "new.sqlite3").close()
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
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == migrations.HEAD


def test_a_pending_code_outlives_the_upgrade(tmp_path: Path) -> None:
    config = alembic_config()
    engine = create_engine(f"sqlite:///{tmp_path / 'db.sqlite3'}")
    code = ("ada@example.test", "123456", utc_now(), utc_now(600.0), 2)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        marks = "VALUES (?, ?, ?, ?, ?)"
        connection.exec_driver_sql(f"INSERT INTO verification_codes {marks}", code)
        connection.commit()
    engine.dispose()
    database = Database(tmp_path / "db.sqlite3")
    with database.reading() as session:
        (kept,) = session.scalars(select(VerificationCode))
    database.close()
    assert (kept.email, kept.client, kept.digest, kept.wrong_tries) == (code[0], "", code[1], 2)


def test_sessions_and_api_keys_survive_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0011")
        for statement in (
            "INSERT INTO users (id, email, password_hash, created_at)"
            " VALUES (1, 'ada@example.test', 'hash', '')",
            f"INSERT INTO tokens VALUES ('one', 1, '{utc_now()}', '{utc_now(60.0)}')",
            f"INSERT INTO tokens VALUES ('two', 1, '{utc_now()}', '{utc_now(60.0)}')",
            "INSERT INTO api_keys (user_id, name, digest, start, created_at)"
            f" VALUES (1, 'key', '{secret_digest('sk-key')}', 'sk-', '')",
        ):
            connection.exec_driver_sql(statement)
        connection.commit()
    engine.dispose()
    with opened(path) as repositories:
        found = repositories.tokens.find("one", 3600.0)
        assert found is not None and found.user.role == "user"
        assert found.session.expires_at > utc_now(3000.0)
        sessions = repositories.tokens.list_all(1)
        assert len({session.id for session in sessions} - {None}) == 2
        key = repositories.api_keys.find("sk-key")
        assert key is not None and scopes_of(key.key) == ("gateway",)
        assert not repositories.accounts.has_administrator()
        with pytest.raises(DatabaseError, match="append-only"):
            repositories.audit.add(AuditRecord("", "", "test", "", ""))
            with repositories.database.writing() as session:
                session.execute(delete(AuditEntry))


def test_a_busy_database_does_not_delay_uses_of_sessions(tmp_path: Path) -> None:
    with opened(tmp_path / "db.sqlite3") as repositories:
        repositories.start_session("d", repositories.user_id(), 3600.0)
        with repositories.database.writing() as session:
            session.execute(update(Token).values(last_used_at=None))
        with repositories.database.writing():
            # The first use waits for the lock for a second, later ones do not try.
            for _ in range(100):
                assert repositories.tokens.find("d", 3600.0) is not None
        assert repositories.tokens.find("d").session.last_used_at is None  # type: ignore[union-attr]


def test_stored_data_survives_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path / "db.sqlite3") as repositories:
        user = repositories.accounts.create("a@b.example", None)
    with opened(tmp_path / "db.sqlite3") as repositories:
        kept = repositories.accounts.find("a@b.example")
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
    Database(folder / "db.sqlite3").close()
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
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(UnusableDatabase, match=missing):
        Database(path)


TOOL_RESULTS = [
    ("AGENT_EVENT_TOOL_RESULT", '{"type":"AGENT_EVENT_TOOL_RESULT","result":{"type":"ERROR"}}'),
    ("AGENT_EVENT_TEXT_CHUNK", '{"text":"\\"type\\":\\"AGENT_EVENT_END\\""}'),
    ("AGENT_EVENT_TOOL_RESULT", '{"type":"AGENT_EVENT_TOOL_RESULT","result":{"type":"error"}}'),
    (
        "AGENT_EVENT_TOOL_RESULT",
        '{"result":{"type":"USER_MESSAGE"},"type":"AGENT_EVENT_TOOL_RESULT"}',
    ),
]
"""Types and JSON of events that contain the types of other events."""


def test_a_tool_result_is_not_the_end_of_an_answer(tmp_path: Path) -> None:
    with opened(tmp_path / "db.sqlite3") as repositories:
        events = repositories.events
        task_id = repositories.chats.create(repositories.user_id(), "chat").id
        rows = [NewEvent(task_id, seq, *row) for seq, row in enumerate(TOOL_RESULTS, 1)]
        events.transact(lambda log: log.insert(rows), wait=10.0, with_reserve=False)
        assert events.count_ends_after(task_id, 0) == 0
        end = [NewEvent(task_id, 5, "ERROR", "{}")]
        events.transact(lambda log: log.insert(end), wait=10.0, with_reserve=False)
        assert events.count_ends_after(task_id, 0) == 1
        assert events.count_ends_after(task_id, 5) == 0


@pytest.mark.parametrize(
    ("body", "is_message"),
    [
        *((body, False) for _, body in TOOL_RESULTS),
        ("damaged", False),
        ('{"seq":1,"type":"USER_MESSAGE","text":"hello"}', True),
    ],
)
def test_a_chat_of_an_earlier_version_is_resumed_if_it_ends_in_a_message(
    tmp_path: Path, body: str, is_message: bool
) -> None:
    """Events that were stored before revision 0009 of the schema have no type."""
    path = tmp_path / "db.sqlite3"
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        for statement in (
            "INSERT INTO users (id, email, created_at) VALUES (1, 'ada@example.test', '')",
            "INSERT INTO tasks (id, user_id, goal, chat, held, status, created_at, last_seq)"
            " VALUES (1, 1, 'chat', 'chat', 0, 'INPUT_REQUIRED', '', 1)",
        ):
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("INSERT INTO events VALUES (1, 1, ?)", (body,))
        connection.commit()
    engine.dispose()
    with opened(path) as repositories:
        found = [task.id for task in repositories.tasks.list_unfinished()]
    assert found == ([1] if is_message else [])


def test_progress_is_read_for_one_user(tmp_path: Path) -> None:
    with opened(tmp_path / "db.sqlite3") as repositories:
        ada, bob = repositories.user_id(), repositories.user_id("bob@example.test")
        tasks = [
            repositories.tasks.create(user, TaskSpec("goal"), held=True).id
            for user in (ada, bob, ada, bob, ada)
        ]

        def end(log: LogTransaction) -> None:
            log.set_status(ada, tasks[0], "COMPLETED", None, utc_now())
            log.set_ends({tasks[2]: (7, "line")})

        repositories.events.transact(end, wait=10.0, with_reserve=False)
        progress = repositories.tasks.list_progress(ada, 0, 10)
        assert [(found.task_id, found.last_seq, found.last_line) for found in progress] == [
            (tasks[2], 7, "line"), (tasks[4], 0, None),
        ]  # fmt: skip
        assert repositories.tasks.list_progress(ada, tasks[2], 10) == progress[1:]
        assert repositories.tasks.list_progress(bob, 0, 1)[0].task_id == tasks[1]
