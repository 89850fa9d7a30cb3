"""Changes of files are events of their task."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.events import MsgEventCustomUpdate
from beray.server.workspace import watcher
from beray.server.workspace.watcher import FileWatcher
from beray.testing import RunningServer
from beray.transfers.wire_names import ANY_BYTES
from tests.support import done, until


def changes(events: list[Any]) -> list[dict[str, Any]]:
    payloads = [event["payload"] for event in events if event.get("source") == "files"]
    assert all(payload["kind"] == "file_changed" for payload in payloads)
    return payloads


def replayed(events: list[Any]) -> dict[str, int]:
    """The files that are there if the events are to be believed."""
    files: dict[str, int] = {}
    for change in changes(events):
        if change["change"] == "deleted":
            assert change["size"] is None
            del files[change["path"]]
        else:
            assert (change["change"] == "added") == (change["path"] not in files)
            files[change["path"]] = change["size"]
    return files


def there(client: BeRayClient, task_id: int) -> dict[str, int]:
    items = client.list_files_tree(task_id)
    return {item["path"]: item["size"] for item in items if item["type"] == "file"}


@pytest.mark.parametrize(
    "command",
    [
        "echo one > a; mkdir -p b/c/d; echo two > b/c/d/e; mv a b/moved; echo three >> b/moved",
        "for i in $(seq 1200); do mkdir -p d$i; echo $i > d$i/f; done; rm -r d1*",
        "echo a > x; sleep 0.3; echo bb > x; sleep 0.3; rm x; echo c > y",
        "ln -s /etc/passwd link; mkfifo pipe; echo 1 > 'odd name é [b].txt'; exit 3",
    ],
)
def test_the_events_lead_to_the_files(beray_client: BeRayClient, command: str) -> None:
    events = done(beray_client, f"!{command}")
    assert replayed(events) == there(beray_client, events[0]["task_id"])
    assert events[-1]["type"] == "TASK_STATUS"


def test_changes_are_reported_while_the_task_runs(beray_client: BeRayClient) -> None:
    command = "echo 1 > first; while [ ! -e go ]; do sleep 0.02; done; rm first"
    task = beray_client.create_task(f"!{command}")
    seen: list[Any] = []
    for event in beray_client.stream_task_updates(task["id"]):
        seen.append(event)
        if [change["path"] for change in changes([event])] == ["first"] and "go" not in there(
            beray_client, task["id"]
        ):
            beray_client.upload_file(task["id"], "go", b"12345")
    assert [(one["path"], one["size"], one["change"]) for one in changes(seen)][-2:] in (
        [("go", 5, "added"), ("first", None, "deleted")],
        [("first", None, "deleted"), ("go", 5, "added")],
    )


def test_existing_files_are_not_reported(beray_client: BeRayClient) -> None:
    task = beray_client.create_task("!cat given; echo new > made", start=False)
    beray_client.upload_file(task["id"], "given", b"given")
    beray_client.start_task(task["id"])
    events = list(beray_client.stream_task_updates(task["id"]))
    assert replayed(events) == {"made": 4}


async def test_directories_are_polled_if_they_cannot_be_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise OSError("no inotify watches are left")

    monkeypatch.setattr("watchfiles.main.RustNotify", none_left)
    monkeypatch.setattr(watcher, "POLL_SECONDS", 0.05)
    told: list[MsgEventCustomUpdate] = []
    work_dir = await begun(tmp_path)
    watch = FileWatcher(tmp_path)
    watch.start()
    try:
        async with watch.reporting(work_dir, keep(told)):
            (work_dir / "new").write_text("1")
            await asyncio.to_thread(until, lambda: told)
    finally:
        await watch.close()
    assert [update.payload["path"] for update in told] == ["new"]


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_names_that_are_not_utf8_do_not_end_the_events(tmp_path: Path) -> None:
    """The library that watches directories fails at such a name."""
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        for _ in range(2):
            command = "touch $(printf 'caf\\351'); sleep 0.2; echo later > later"
            events = done(client, f"!{command}")
            assert replayed(events) == {"caf␦E9": 0, "later": 6}
        assert "work_dirs cannot be watched" in server.log.read_text()
        waiting = "echo 1 > first; while [ ! -e go ]; do sleep 0.02; done"
        task = client.create_task(f"!{waiting}")
        for event in client.stream_task_updates(task["id"]):
            if changes([event]):  # it is reported while the task runs
                client.upload_file(task["id"], "go", b"")
        assert client.get_task(task["id"])["status"] == "COMPLETED"


async def test_a_work_dir_with_too_much_in_it_is_watched_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "MAX_ENTRIES", 10)
    told: list[MsgEventCustomUpdate] = []
    work_dir = await begun(tmp_path)
    watch = FileWatcher(tmp_path)
    watch.start()
    try:
        async with watch.reporting(work_dir, keep(told)):
            for number in range(20):
                (work_dir / str(number)).write_text("1")
    finally:
        await watch.close()
    assert told[-1].payload["kind"] == "files_not_watched"
    assert "more than 10" in told[-1].payload["message"]


async def begun(root: Path) -> Path:
    work_dir = root / "1"
    await asyncio.to_thread(work_dir.mkdir)
    return work_dir


def keep(told: list[MsgEventCustomUpdate]) -> Any:
    async def emit(update: MsgEventCustomUpdate) -> None:
        told.append(update)

    return emit
