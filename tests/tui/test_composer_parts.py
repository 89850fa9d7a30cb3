"""Tests of the parts of the composer that do not need a screen."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from beray.client import BeRayClient
from beray.exceptions import (
    APIError,
    AuthenticationError,
    BeRayException,
    ConfigurationError,
    ConnectionFailed,
    TransferCancelled,
    UnprocessableEntityError,
)
from beray.schema import MAX_GOAL_CHARS
from beray.transfers.sync_folder import UploadedFolder
from beray.transfers.transfer import Transfer
from beray.transfers.wire_names import ANY_BYTES
from tui.composer import editor, mcp_servers
from tui.composer.attachments import inspect_attachment, inspect_attachments, work_dir_paths
from tui.composer.history_navigation import HistoryNavigator, find_in_history
from tui.composer.listing import MAX_ENTRIES, list_directory, split_path
from tui.composer.sending import IncompleteTaskRemains, submit_draft
from tui.state.task_draft import (
    DraftOrigin,
    TaskDraft,
    draft_from_task,
    goal_problem,
    is_shell_command,
)

URL = "https://example.org/mcp"


# Goals


def test_goals_that_the_server_rejects_are_rejected_before_sending(
    beray_client: BeRayClient,
) -> None:
    for goal in ("", "  \n", "!", " ! ", "x" * (MAX_GOAL_CHARS + 1)):
        assert goal_problem(goal)
        with pytest.raises(UnprocessableEntityError):
            beray_client.create_task(goal)
    goal = "x" * MAX_GOAL_CHARS
    assert (
        goal_problem(goal) is None and goal_problem("!!") is None and goal_problem("a\nb") is None
    )
    assert beray_client.create_task(goal)["goal"] == goal


def test_is_shell_command() -> None:
    assert (
        is_shell_command("!ls") and is_shell_command("\n  !ls") and not is_shell_command("do it!")
    )


# History


def drafts(*goals: str) -> list[TaskDraft]:
    return [TaskDraft(goal) for goal in goals]


def test_history_navigation_by_prefix() -> None:
    history = [*drafts("!ls", "write", "!make", "!ls"), TaskDraft("!make", [{"a": {"url": URL}}])]
    recall = HistoryNavigator(history, TaskDraft("!"))
    assert recall.newer() is None
    newest = recall.older()
    assert newest is not None and newest.goal == "!make" and newest.tools
    assert recall.older() == TaskDraft("!ls")
    assert recall.older() is None and recall.current == TaskDraft("!ls")
    assert recall.newer() == newest and recall.newer() == TaskDraft("!") and recall.newer() is None
    everything = HistoryNavigator(history, TaskDraft())
    assert [found.goal for found in iter(everything.older, None)] == ["!make", "!ls", "write"]


def test_history_search_by_words_without_duplicates() -> None:
    history = drafts("Write the tests", "!make test", "write the docs", "Write the tests")
    assert [one.goal for one in find_in_history(history, "the WRITE")] == [
        "Write the tests",
        "write the docs",
    ]
    assert len(find_in_history(history, "")) == 3 and find_in_history(history, "nothing") == []


# MCP servers


def test_servers_are_parsed_from_words_and_json(beray_client: BeRayClient) -> None:
    a, b = {"a": {"url": URL}}, {"b": {"url": URL}}
    full = {"a": {"url": URL, "headers": {"x": "y"}}}
    for text, tools in {
        f"docs {URL}": [{"docs": {"url": URL}}],
        f"  uni-api Docs  {URL} ": [{"uni-api Docs": {"url": URL}}],
        json.dumps(full): [full],
        json.dumps(a | b): [a, b],
        json.dumps([a]): [a],
        json.dumps({"mcpServers": a}): [a],
        "l http://[::1]:80/sse?key=1": [{"l": {"url": "http://[::1]:80/sse?key=1"}}],
        " github ": [{"github": {"server": "github"}}],
        '{"gh": {"server": "github"}}': [{"gh": {"server": "github"}}],
        '{"x": {"command": "npx", "args": ["y"]}}': [{"x": {"command": "npx", "args": ["y"]}}],
    }.items():
        assert mcp_servers.parse_servers(text) == tools
        assert beray_client.create_task("!true", tools)["tools"] == tools


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name and a URL"), (URL, "a name before"),
        ("docs example.org", "https://"), ("docs ftp://example.org", "https://"),
        ("docs https://", "https://"), ("docs http://[::1", "https://"),
        ("docs http://a:999999", "https://"), ("{", "at character 2"), ("[]", '{"name"'),
        ("{}", '{"name"'), ('{"a": 7}', '{"name"'), ("[7]", '{"name"'), ('{"a": {}}', "https://"),
        ('{"a": {"url": 7}}', "https://"), ('{"": {"url": "https://x"}}', "must have 1 to"),
        ('{"a": {"server": 7}}', "must be a string"), ('{"a": {"command": ""}}', "must be a string"),
        ('{"a": {"server": "b", "url": "https://x"}}', "url and server; only one"),
        ('{"a": {"url": "https://a b"}}', "https://"), ('{"a": {"url": "https://a", "n": NaN}}', "JSON"),
        ('{"a": {"url": "https://a", "n": 1e999}}', "JSON"), ("[" * 5000, "JSON"),
        ('{"a": {"url": "https://a", "x": ' + "[" * 40 + "]" * 40 + "}}", "too deeply"),
        ('{"a": {"url": "https://a", "n": "\\ud800"}}', "JSON"),
    ],
)  # fmt: skip
def test_invalid_servers_are_rejected_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(mcp_servers.InvalidServer, match=said.replace("{", r"\{")):
        mcp_servers.parse_servers(text)


def test_a_server_replaces_another_of_the_same_name() -> None:
    one, two, new = {"a": {"url": "1"}}, {"b": {"url": "2"}}, {"a": {"url": "3"}}
    assert mcp_servers.merge_servers([one, two], [new]) == [new, two]
    many = [{f"s{number}": {"url": URL}} for number in range(100)]
    with pytest.raises(mcp_servers.InvalidServer, match="at most 100"):
        mcp_servers.merge_servers(many, [one])


def test_the_location_of_a_server_contains_no_secrets() -> None:
    secret = {"a": {"url": "https://user:secret@example.org:8080/mcp?key=secret#secret"}}
    assert mcp_servers.server_location(secret) == "https://example.org:8080/mcp"
    assert mcp_servers.server_location({"a": {"url": "http://[::1]:9/x"}}) == "http://[::1]:9/x"
    assert (
        mcp_servers.server_location({"a": {"server": "github"}})
        == "defined by the server as github"
    )
    program = {"command": "npx", "args": ["--key=secret"], "env": {"KEY": "secret"}}
    assert mcp_servers.server_location({"a": program}) == "program npx"
    for odd in ({}, {"a": 7}, {"a": {}}, {"a": {"url": 7}}, {"a": {"url": "http://[x"}}):
        assert mcp_servers.server_location(odd) == ""  # type: ignore[arg-type]


# The local file system


def test_directories_are_listed_first_and_hidden_names_only_after_a_dot(
    tmp_path: Path,
) -> None:
    tmp_path /= "here"
    (tmp_path / "sub").mkdir(parents=True)
    for name in ("Beta.txt", "alpha.txt", ".hidden"):
        (tmp_path / name).write_text("abc")
    listing = list_directory(tmp_path, "")
    assert [entry.display_name for entry in listing.entries] == ["sub", "alpha.txt", "Beta.txt"]
    assert listing.entries[0].is_dir and listing.entries[1].size == 3
    assert [entry.display_name for entry in list_directory(tmp_path, "BE").entries] == ["Beta.txt"]
    assert [entry.display_name for entry in list_directory(tmp_path, ".").entries] == [".hidden"]
    (tmp_path / "new").write_text("")
    assert list_directory(tmp_path, "new", listing).total == 0
    assert list_directory(tmp_path, "new").total == 1
    gone = list_directory(tmp_path / "none", "")
    assert "No such file" in gone.problem and gone.entries == ()
    assert list_directory(tmp_path / "new", "").problem


def test_the_common_prefix_ignores_case(tmp_path: Path) -> None:
    for name in ("Report-1.md", "report-2.md", "reports.txt"):
        (tmp_path / name).write_text("")
    assert list_directory(tmp_path, "re").common_prefix.casefold() == "report"
    assert list_directory(tmp_path, "report-").common_prefix.casefold() == "report-"
    assert list_directory(tmp_path, "x").common_prefix == ""


def test_a_long_listing_is_limited_but_all_entries_are_counted(tmp_path: Path) -> None:
    tmp_path /= "here"
    tmp_path.mkdir()
    for number in range(2000):
        (tmp_path / f"file-{number}").touch()
    listing = list_directory(tmp_path, "")
    assert len(listing.entries) == MAX_ENTRIES and listing.total == 2000
    assert list_directory(tmp_path, "file-1999", listing).total == 1


def test_a_path_is_split_into_directory_and_start_of_a_name() -> None:
    for text, parts in {
        "": ("", ""), "a": ("", "a"), "/": ("/", ""), "/a": ("/", "a"), "a/b/": ("a/b/", ""),
        "~": ("~/", ""), "~/x": ("~/", "x"), "//a//b": ("//a//", "b"),
    }.items():  # fmt: skip
        assert split_path(text.replace("/", os.sep)) == tuple(
            one.replace("/", os.sep) for one in parts
        )


# Attachments


def test_files_of_a_directory_are_counted_and_links_to_directories_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"12345")
    (folder / "sub" / "b").write_bytes(b"123")
    if os.name == "posix":
        (folder / "link").symlink_to(tmp_path, target_is_directory=True)
        os.mkfifo(folder / "pipe")
    found = inspect_attachment(folder)
    assert (found.name, found.is_dir, found.files, found.size) == ("data", True, 2, 8)
    assert found.left_out == (2 if os.name == "posix" else 0) and not found.problem
    file = inspect_attachment(folder / "a")
    assert (file.name, file.is_dir, file.files, file.size) == ("a", False, 1, 5)


def test_invalid_attachments_are_rejected_before_sending(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder / "x").write_text("")
    with pytest.raises(ConfigurationError, match="no such file or folder"):
        inspect_attachments([tmp_path / "none"])
    with pytest.raises(ConfigurationError, match="have the same name"):
        inspect_attachments([tmp_path / "one" / "x", tmp_path / "two" / "x"])
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigurationError, match="neither a file nor a folder"):
            inspect_attachments([tmp_path / "pipe"])


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_attachments_keep_names_that_are_not_utf8(
    beray_client: BeRayClient, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    for place in (tmp_path / os.fsdecode(b"\xfe"), folder / os.fsdecode(b"\xe9")):
        place.write_text("x")
    attachments = (tmp_path / os.fsdecode(b"\xfe"), folder)
    assert [name for one in inspect_attachments(attachments) for name in work_dir_paths(one)] == [
        "␦FE",
        "d␦FF/␦E9",
    ]
    task_id = submit_draft(beray_client, TaskDraft("!ls -R", [], attachments)).task["id"]
    paths = [item["path"] for item in beray_client.list_files_tree(task_id)]
    assert paths == ["d␦FF", "d␦FF/␦E9", "␦FE"]


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_names_that_are_not_utf8_are_distinguishable_in_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    for name in (b"\xfe", b"\xff"):
        (folder / os.fsdecode(name)).write_text("x")
    assert [entry.display_name for entry in list_directory(folder, "").entries] == ["␦FE", "␦FF"]
    assert [entry.path.name for entry in list_directory(folder, "␦FF").entries] == ["\udcff"]


class RecordingClient:
    """Stub client that records the names of the called methods.

    Args:
        answer: Result of ``create_task`` and ``start_task``.
        left_out: Empty directories that ``upload_dir`` reports as not created.
        failing: Exceptions to raise, by method name.
    """

    def __init__(
        self, answer: dict[str, Any], left_out: Sequence[str] = (), **failing: Exception
    ) -> None:
        self.answer = answer
        self.left_out = list(left_out)
        self.failing = failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any, **options: Any) -> Any:
            self.calls.append(name)
            if name in self.failing:
                raise self.failing[name]
            if name == "upload_dir":
                return UploadedFolder([], [], self.left_out)
            return self.answer

        return call


HELD = {"id": 5, "goal": "x", "status": "QUEUED", "held": True}
ORDER = TaskDraft("x", None, (Path(__file__), Path(__file__).parent / "__snapshots__"))


def sent(
    client: RecordingClient, draft: TaskDraft = ORDER, transfer: Transfer | None = None
) -> Any:
    return submit_draft(client, draft, transfer)  # type: ignore[arg-type]


def test_a_task_continues_the_origin_of_its_draft() -> None:
    class Client:
        def create_task(self, goal: str, tools: Any, **options: Any) -> Any:
            return {"goal": goal, **options}

    origin = DraftOrigin(12, "c4")
    draft = TaskDraft("x", options={"model": "m"}, origin=origin)
    task = sent(Client(), draft).task  # type: ignore[arg-type]
    origin_fields = {"task": 12, "checkpoint": "c4"}
    assert task == {"goal": "x", "model": "m", "from_task": origin_fields}
    known: Any = {"id": 1, "goal": "x", "from": {**origin_fields, "seq": 9, "conversation": False}}
    assert draft_from_task(known) == TaskDraft("x", origin=origin)
    assert draft_from_task({**known, "from": None}) == TaskDraft("x")


def test_a_task_starts_after_its_attachments_are_uploaded() -> None:
    client, told = RecordingClient(HELD), list[tuple[int, int | None]]()
    assert sent(client, ORDER, Transfer(lambda *amount: told.append(amount))).note == ""
    assert client.calls == ["create_task", "upload_path", "upload_dir", "start_task"]
    total = sum(one.size for one in inspect_attachments(ORDER.attachments))
    assert told[0] == (0, total) and told[-1] == (total, total)


def test_a_server_without_held_tasks_gets_the_files_and_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    client = RecordingClient({"id": 5, "goal": "x", "status": "RUNNING"}, ["empty"])
    outcome = sent(client, TaskDraft("x", None, (tmp_path / "empty", Path(__file__))))
    assert client.calls == ["create_task", "upload_dir", "upload_path"]
    assert "starts tasks immediately" in outcome.note and "empty folders: empty." in outcome.note
    client = RecordingClient(
        {"id": 5, "goal": "x", "status": "RUNNING"}, upload_path=OSError(5, "broken")
    )
    with pytest.raises(IncompleteTaskRemains, match="task #5 is already running"):
        sent(client)
    assert "delete_task" not in client.calls


@pytest.mark.parametrize("call", ["upload_path", "upload_dir", "start_task"])
@pytest.mark.parametrize(
    "error",
    [ConnectionFailed("broken"), OSError(5, "broken"), TransferCancelled("cancelled"),
     APIError("full", status_code=507), AuthenticationError("no", status_code=401)],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_task_is_deleted_if_its_upload_fails(call: str, error: Exception) -> None:
    client = RecordingClient(HELD, **{call: error})
    with pytest.raises(type(error)) as raised:
        sent(client)
    assert raised.value is error and client.calls[-1] == "delete_task"


def test_a_task_that_cannot_be_deleted_is_reported() -> None:
    client = RecordingClient(HELD, upload_dir=BeRayException("broken"), delete_task=OSError(5, "x"))
    with pytest.raises(IncompleteTaskRemains, match="broken - task #5 still exists and is held"):
        sent(client)


def test_no_task_is_created_with_missing_attachments_or_after_a_cancel() -> None:
    client = RecordingClient(HELD)
    with pytest.raises(ConfigurationError):
        sent(client, TaskDraft("x", None, (Path(__file__), Path("/not/there"))))
    cancelled = Transfer()
    cancelled.cancel()
    with pytest.raises(TransferCancelled):
        sent(client, ORDER, cancelled)
    assert client.calls == []


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_attachments_keep_modes_and_empty_folders(
    beray_client: BeRayClient, tmp_path: Path
) -> None:
    (tmp_path / "folder" / "empty").mkdir(parents=True)
    for place in (tmp_path / "run.sh", tmp_path / "folder" / "run.sh"):
        place.write_text("#!/bin/sh\necho ran\n")
        place.chmod(0o750)
    (tmp_path / "bare").mkdir()
    attachments = (tmp_path / "run.sh", tmp_path / "folder", tmp_path / "bare")
    outcome = submit_draft(
        beray_client, TaskDraft("!./run.sh && ./folder/run.sh", None, attachments)
    )
    events = list(beray_client.stream_task_updates(outcome.task["id"]))
    assert "".join(event.get("text", "") for event in events) == "ran\nran\n"
    items = beray_client.list_files_tree(outcome.task["id"])
    assert [item["path"] for item in items if item["type"] == "directory"] == [
        "bare", "folder", "folder/empty",
    ]  # fmt: skip
    assert outcome.note == ""


# The editor


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"VISUAL": "code --wait", "EDITOR": "vi"}, ["code", "--wait"]),
        ({"VISUAL": " ", "EDITOR": "'my editor' -n \"a b\""}, ["my editor", "-n", "a b"]),
        ({}, ["notepad" if os.name == "nt" else "vi"]),
    ],
)
def test_the_editor_and_its_arguments(environ: dict[str, str], words: list[str]) -> None:
    assert editor.editor_command(environ) == words


def script(tmp_path: Path, body: str) -> list[str]:
    file = tmp_path / "edit.py"
    file.write_text(f"import os, pathlib, sys\nfile = pathlib.Path(sys.argv[-1])\n{body}\n")
    return [sys.executable, str(file), "an argument"]


def test_a_goal_is_edited_in_a_private_temporary_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = f"""
pathlib.Path({str(log)!r}).write_text(f"{{file}} {{oct(file.stat().st_mode)}} {{oct(file.parent.stat().st_mode)}}")
(file.parent / "backup~").write_text("x")
file.write_bytes(file.read_bytes() + "\\nzwölf\\n".encode())
"""
    assert editor.edit_text("eins", script(tmp_path, body)) == "eins\nzwölf"
    name, mode, folder_mode = log.read_text().split()
    assert not Path(name).parent.exists()
    if os.name == "posix":
        assert stat.S_IMODE(int(mode, 8)) == 0o600 and stat.S_IMODE(int(folder_mode, 8)) == 0o700


@pytest.mark.parametrize(
    ("body", "said"),
    [("sys.exit(3)", "status 3"), ("file.write_bytes(b'\\xff')", "not UTF-8"),
     ("file.unlink()", "No such file")],
)  # fmt: skip
def test_a_failing_editor_is_reported(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(editor.EditorFailed, match=said):
        editor.edit_text("goal", script(tmp_path, body))
    with pytest.raises(editor.EditorFailed, match="was not found"):
        editor.edit_text("goal", ["/no/such/editor"])
    with pytest.raises(editor.EditorFailed, match=r"\$EDITOR is not a valid command"):
        editor.editor_command({"EDITOR": "'open"})
