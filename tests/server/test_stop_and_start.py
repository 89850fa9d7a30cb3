"""How a server leaves, and what it needs to start."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from beray import BeRayClient
from beray.server import lifecycle
from beray.server.runtime import logging_setup
from beray.testing import RunningServer, raw_request
from beray.testing.server import FORKER, PASSWORD
from tests.support import sleepers, text, until


def open_stream(client: BeRayClient, task_id: int) -> Iterator[Any]:
    """The events of one connection, as they come; ends when the server ends it."""
    path = f"/api/v1/tasks/{task_id}/stream"
    with raw_request(client, "GET", path, stream=True) as response:
        for line in response.iter_lines():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def test_watchers_read_how_a_run_ended_before_the_server_leaves(tmp_path: Path) -> None:
    mark = f"82{os.getpid()}"
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="1") as server:
        client = server.sign_up()
        running = client.create_task(f"!sleep {mark}")["id"]
        queued = client.create_task("!echo later")["id"]
        until(lambda: sleepers(mark))
        watched, waiting = open_stream(client, running), open_stream(client, queued)
        assert next(watched)["status"] == "QUEUED"
        assert next(waiting)["status"] == "QUEUED"
        os.kill(server.pid, signal.SIGTERM)
        last = list(watched)[-1]
        assert (last["status"], last["reason"]) == ("FAILED", "shutdown")
        assert list(waiting) == []
        assert sleepers(mark) == []
        server.stop()
        server.restart()
        assert text(list(client.stream_task_updates(queued))) == "later\n"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "beray.server", "--embedded", "900", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_an_embedded_server_that_left_is_not_announced(
    tmp_path: Path, embedded: subprocess.Popen[str]
) -> None:
    announcement = tmp_path / lifecycle.ANNOUNCE_FILE
    assert json.loads(announcement.read_text())["pid"] == embedded.pid
    embedded.terminate()
    embedded.wait(20)
    assert not announcement.exists()


def test_the_word_of_a_dead_server_goes_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announcement = tmp_path / lifecycle.ANNOUNCE_FILE
    announcement.write_text("{}")

    def listening(_host: str, _port: int) -> None:
        assert not announcement.exists()
        raise lifecycle.CannotServe("seen")

    monkeypatch.setattr(lifecycle, "_listen", listening)
    monkeypatch.setattr(logging_setup, "configure", lambda: None)
    umask = os.umask(0o022)
    try:
        with pytest.raises(lifecycle.CannotServe, match="seen"):
            lifecycle.serve_embedded(tmp_path, 900)
    finally:
        os.umask(umask)


def test_what_a_server_keeps_is_its_owners_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o755)
    (data_dir / "workspaces").mkdir(mode=0o755)
    (data_dir / "beray.sqlite3").touch(0o644)
    with RunningServer.start(data_dir) as server:
        client = server.sign_up()
        task_id = client.create_task("!touch made; umask")["id"]
        assert text(list(client.stream_task_updates(task_id))) == "0022\n"
        for path in (*data_dir.glob("beray.sqlite3*"), *data_dir.iterdir()):
            if path != server.log:
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path.name
        made = data_dir / "workspaces" / str(task_id) / "made"
        assert stat.S_IMODE(made.stat().st_mode) == 0o644


def refusal(data_dir: Path, **environ: str) -> str:
    """What a server says that does not start."""
    data_dir.mkdir(exist_ok=True)
    log = data_dir / "refused.log"
    options = ["--port", "0", "--data-dir", str(data_dir)]
    assert FORKER.start(options, os.environ | environ, log).wait(30) == 1
    said = log.read_text()
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "beray.sqlite3").write_bytes(b"not a database at all" * 100)
    said = refusal(tmp_path)
    assert said.startswith("beray: ")
    assert "beray.sqlite3 cannot be used: file is not a database" in said


def test_the_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        server.stop()
        with sqlite3.connect(server.data_dir / "beray.sqlite3") as database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.close()
        assert "written by a newer version of BeRay" in refusal(server.data_dir)


def test_a_sandbox_that_is_wanted_and_missing_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path, BERAY_SANDBOX="bubblewrap", PATH=str(tmp_path))
    assert "bwrap is not installed" in said


@pytest.mark.parametrize("proxies", ["proxy.example", "*", "10.0.0.1 10.0.0.2"])
def test_proxies_are_addresses(tmp_path: Path, proxies: str) -> None:
    assert "BERAY_TRUSTED_PROXIES" in refusal(tmp_path, BERAY_TRUSTED_PROXIES=proxies)
    assert "BERAY_GATEWAY_ALLOW" in refusal(tmp_path, BERAY_GATEWAY_ALLOW=proxies)


@pytest.mark.parametrize("url", ["beray.example", "https://user:hush@beray.example", "ftp://x"])
def test_the_public_url_is_one(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, BERAY_PUBLIC_URL=url)
    assert "BERAY_PUBLIC_URL" in said
    assert "hush" not in said


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"BERAY_S3_ACCESS_KEY_ID": "id"}, "s3_secret_access_key"),
        ({"BERAY_S3_SECRET_ACCESS_KEY": "hush"}, "s3_access_key_id"),
        ({"BERAY_S3_ENDPOINT": "s3.example"}, "BERAY_S3_ENDPOINT"),
        ({"BERAY_PREFAB_AUTHORS": "a@x.org;b@x.org"}, "comma-separated"),
        ({"BERAY_PREFAB_AUTHORS": "nobody"}, "comma-separated"),
        ({"BERAY_S3_ENDPOINT": "http://id:hush@s3.example"}, "BERAY_S3_ENDPOINT"),
        ({"BERAY_GATEWAY_OBJECT_BYTES": "0"}, "BERAY_GATEWAY_OBJECT_BYTES"),
        ({"BERAY_DAILY_PREFAB_CALLS": "-1"}, "BERAY_DAILY_PREFAB_CALLS"),
    ],
)
def test_settings_of_the_gateway_that_cannot_be(
    tmp_path: Path, environ: dict[str, str], named: str
) -> None:
    said = refusal(tmp_path, BERAY_S3_BUCKET="bucket", **environ)
    assert named in said
    assert "hush" not in said


def test_mcp_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    said = refusal(tmp_path / "a", BERAY_MCP_ALLOW="10.0.0.1,mcp.internal")
    assert "BERAY_MCP_ALLOW" in said and "'mcp.internal' is not a destination" in said
    file = tmp_path / "servers.json"
    file.write_text('{"a": {"command": "x", "env": {"TOKEN": 5678901}}}')
    said = refusal(tmp_path / "b", BERAY_MCP_SERVERS=str(file))
    assert f"BERAY_MCP_SERVERS: {file} cannot be used: a.env.TOKEN" in said
    assert "5678901" not in said
    file.write_text("{}")
    file.chmod(0o666)
    assert "chmod o-w" in refusal(tmp_path / "c", BERAY_MCP_SERVERS=str(file))


def test_a_store_without_its_bucket_is_refused(tmp_path: Path) -> None:
    assert "s3_bucket" in refusal(tmp_path, BERAY_S3_REGION="eu")


def test_scratch_folders_of_a_killed_server_are_swept(tmp_path: Path) -> None:
    mark = f"81{os.getpid()}"
    with RunningServer.start(tmp_path / "data", BERAY_SANDBOX="none") as server:
        scratch = server.data_dir / "scratch"
        client = server.sign_up()
        client.create_task(f"!touch $HOME/left; sleep {mark}")
        until(lambda: sleepers(mark))
        assert [path.name for path in scratch.glob("*/*")] == ["left"]
        server.kill()
        until(lambda: not sleepers(mark))
        assert list(scratch.iterdir())
        server.restart()
        assert list(scratch.iterdir()) == []


def test_a_task_whose_creation_was_cut_off_is_completed(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        user_id = client.get_current_user()["id"]
        server.stop()
        with sqlite3.connect(server.data_dir / "beray.sqlite3") as database:
            database.execute(
                "INSERT INTO tasks (user_id, goal, held, status, created_at)"
                " VALUES (?, '!echo ran', 0, 'QUEUED', '2026-01-01T00:00:00.000000Z')",
                (user_id,),
            )
        database.close()
        server.restart()
        (task,) = client.list_tasks()
        events: list[Any] = list(client.stream_task_updates(task["id"]))
        assert text(events) == "ran\n"
        assert [event["status"] for event in events if "status" in event] == [
            "QUEUED", "RUNNING", "COMPLETED",
        ]  # fmt: skip


def test_the_log_on_a_terminal_shows_no_control_characters() -> None:
    event: Any = {"event": "a\x1b]0;b\x07", "path": "c\u202ed", "exception": "e\x1b[2Jf\x9b"}
    for render in logging_setup.renderers(for_terminal=True):
        event = render(None, "info", event)
    shown = str(event)
    for colour in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[35m", "\x1b[36m"):
        shown = shown.replace(colour, "")
    assert not set("\x1b\x07\x9b\u202e") & set(shown)


def test_nothing_of_a_server_is_left_when_it_has_left(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        process = psutil.Process(server.pid)
        client = server.sign_up()
        client.create_task("!sleep 600")
        until(lambda: process.children())
        children = process.children(recursive=True)
        server.stop()
        assert not [child for child in children if child.is_running()]


def test_sighup_stops_the_server_as_sigterm_does(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task = client.create_task("!sleep 60")
        until(lambda: client.get_task(task["id"])["status"] == "RUNNING")
        os.kill(server.pid, signal.SIGHUP)
        until(lambda: "Finished server process" in server.log.read_text())
        server.restart()
        assert client.get_task(task["id"])["reason"] == "shutdown"


def test_an_upload_under_way_is_asked_to_come_again(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up("a@b.example") as client:
        token = client.login("a@b.example", PASSWORD)["access_token"]
        task = client.create_task("!true")
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            head = (
                f"PUT /api/v1/tasks/{task['id']}/files/content?path=x HTTP/1.1\r\n"
                f"Host: {address.hostname}\r\nAuthorization: Bearer {token}\r\n"
                "Content-Length: 100000\r\n\r\n"
            )
            connection.sendall(head.encode() + b"x" * 10_000)
            until(lambda: list((server.data_dir / "workspaces" / ".incoming").iterdir()))
            os.kill(server.pid, signal.SIGTERM)
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
        assert answer.startswith("HTTP/1.1 503 ")
        assert "retry-after: 5" in answer.lower() and "stopping" in answer
        until(lambda: "Finished server process" in server.log.read_text())
        assert "Traceback" not in server.log.read_text()
        server.restart()
        assert client.list_files_tree(task["id"]) == []
