"""The parts of the composer that need no screen."""

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
from beray.transfers.sync_folder import UploadedFolder
from beray.transfers.transfer import Transfer
from beray.transfers.wire_names import ANY_BYTES
from tui.composer import editor, servers
from tui.composer.attachments import look_at, names_of, plan
from tui.composer.goal import ANSI_SEQUENCES_KEYS
from tui.composer.history_navigation import Recall, matching
from tui.composer.listing import MAX_SHOWN, listed, split
from tui.composer.sending import LeftBehind, send
from tui.state.task_draft import MAX_GOAL_LENGTH, TaskDraft, is_command, problem

URL = "https://example.org/mcp"


# Goals


def test_a_goal_that_the_server_refuses_is_refused_here(beray_client: BeRayClient) -> None:
    for goal in ("", "  \n", "!", " ! ", "x" * (MAX_GOAL_LENGTH + 1)):
        assert problem(goal)
        with pytest.raises(UnprocessableEntityError):
            beray_client.create_task(goal)
    goal = "x" * MAX_GOAL_LENGTH
    assert problem(goal) is None and problem("!!") is None and problem("a\nb") is None
    assert beray_client.create_task(goal)["goal"] == goal


def test_what_is_a_command() -> None:
    assert is_command("!ls") and is_command("\n  !ls") and not is_command("do it!")


def test_alt_enter_is_no_enter_where_the_terminal_has_no_better_word_for_it() -> None:
    assert [key.value for key in ANSI_SEQUENCES_KEYS["\x1b\r"]] == ["ctrl+j"]  # type: ignore[union-attr]


# History


def orders(*goals: str) -> list[TaskDraft]:
    return [TaskDraft(goal) for goal in goals]


def test_older_goals_that_begin_with_what_was_typed_and_back_to_it() -> None:
    history = [*orders("!ls", "write", "!make", "!ls"), TaskDraft("!make", [{"a": {"url": URL}}])]
    recall = Recall(history, TaskDraft("!"))
    assert recall.newer() is None
    newest = recall.older()
    assert newest is not None and newest.goal == "!make" and newest.tools
    assert recall.older() == TaskDraft("!ls")
    assert recall.older() is None and recall.current == TaskDraft("!ls")
    assert recall.newer() == newest and recall.newer() == TaskDraft("!") and recall.newer() is None
    everything = Recall(history, TaskDraft())
    assert [found.goal for found in iter(everything.older, None)] == ["!make", "!ls", "write"]


def test_goals_are_found_by_their_words_in_any_order_each_once() -> None:
    history = orders("Write the tests", "!make test", "write the docs", "Write the tests")
    assert [one.goal for one in matching(history, "the WRITE")] == [
        "Write the tests",
        "write the docs",
    ]
    assert len(matching(history, "")) == 3 and matching(history, "nothing") == []


# MCP servers


def test_servers_are_taken_as_words_and_as_json(beray_client: BeRayClient) -> None:
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
        assert servers.parsed(text) == tools
        assert beray_client.create_task("!true", tools)["tools"] == tools


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name and an address"), (URL, "a name before"),
        ("docs example.org", "https://"), ("docs ftp://example.org", "https://"),
        ("docs https://", "https://"), ("docs http://[::1", "https://"),
        ("docs http://a:999999", "https://"), ("{", "at character 2"), ("[]", '{"name"'),
        ("{}", '{"name"'), ('{"a": 7}', '{"name"'), ("[7]", '{"name"'), ('{"a": {}}', "https://"),
        ('{"a": {"url": 7}}', "https://"), ('{"": {"url": "https://x"}}', "has a name"),
        ('{"a": {"server": 7}}', "must be a string"), ('{"a": {"command": ""}}', "must be a string"),
        ('{"a": {"server": "b", "url": "https://x"}}', "only one of url and server"),
        ('{"a": {"url": "https://a b"}}', "https://"), ('{"a": {"url": "https://a", "n": NaN}}', "JSON"),
        ('{"a": {"url": "https://a", "n": 1e999}}', "JSON"), ("[" * 5000, "JSON"),
        ('{"a": {"url": "https://a", "x": ' + "[" * 40 + "]" * 40 + "}}", "too deep"),
        ('{"a": {"url": "https://a", "n": "\\ud800"}}', "JSON"),
    ],
)  # fmt: skip
def test_what_names_no_server_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(servers.Unusable, match=said.replace("{", r"\{")):
        servers.parsed(text)


def test_a_server_of_the_same_name_takes_the_place_of_the_other() -> None:
    one, two, new = {"a": {"url": "1"}}, {"b": {"url": "2"}}, {"a": {"url": "3"}}
    assert servers.with_servers([one, two], [new]) == [new, two]
    many = [{f"s{number}": {"url": URL}} for number in range(100)]
    with pytest.raises(servers.Unusable, match="at most 100"):
        servers.with_servers(many, [one])


def test_where_a_server_is_shows_nothing_secret() -> None:
    secret = {"a": {"url": "https://user:secret@example.org:8080/mcp?key=secret#secret"}}
    assert servers.place_of(secret) == "https://example.org:8080/mcp"
    assert servers.place_of({"a": {"url": "http://[::1]:9/x"}}) == "http://[::1]:9/x"
    assert servers.place_of({"a": {"server": "github"}}) == "defined by the server as github"
    program = {"command": "npx", "args": ["--key=secret"], "env": {"KEY": "secret"}}
    assert servers.place_of({"a": program}) == "program npx"
    for odd in ({}, {"a": 7}, {"a": {}}, {"a": {"url": 7}}, {"a": {"url": "http://[x"}}):
        assert servers.place_of(odd) == ""  # type: ignore[arg-type]


# The local file system


def test_folders_are_listed_first_and_hidden_names_when_a_dot_asks_for_them(
    tmp_path: Path,
) -> None:
    tmp_path /= "here"
    (tmp_path / "sub").mkdir(parents=True)
    for name in ("Beta.txt", "alpha.txt", ".hidden"):
        (tmp_path / name).write_text("abc")
    listing = listed(tmp_path, "")
    assert [entry.shown for entry in listing.entries] == ["sub", "alpha.txt", "Beta.txt"]
    assert listing.entries[0].is_folder and listing.entries[1].size == 3
    assert [entry.shown for entry in listed(tmp_path, "BE").entries] == ["Beta.txt"]
    assert [entry.shown for entry in listed(tmp_path, ".").entries] == [".hidden"]
    (tmp_path / "new").write_text("")
    assert listed(tmp_path, "new", listing).total == 0
    assert listed(tmp_path, "new").total == 1
    gone = listed(tmp_path / "none", "")
    assert "No such file" in gone.problem and gone.entries == ()
    assert listed(tmp_path / "new", "").problem


def test_what_all_names_have_in_common_is_known_whatever_their_case(tmp_path: Path) -> None:
    for name in ("Report-1.md", "report-2.md", "reports.txt"):
        (tmp_path / name).write_text("")
    assert listed(tmp_path, "re").common.casefold() == "report"
    assert listed(tmp_path, "report-").common.casefold() == "report-"
    assert listed(tmp_path, "x").common == ""


def test_of_thousands_of_entries_the_first_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    tmp_path /= "here"
    tmp_path.mkdir()
    for number in range(2000):
        (tmp_path / f"file-{number}").touch()
    listing = listed(tmp_path, "")
    assert len(listing.entries) == MAX_SHOWN and listing.total == 2000
    assert listed(tmp_path, "file-1999", listing).total == 1


def test_a_path_is_its_folder_and_the_beginning_of_a_name() -> None:
    for text, parts in {
        "": ("", ""), "a": ("", "a"), "/": ("/", ""), "/a": ("/", "a"), "a/b/": ("a/b/", ""),
        "~": ("~/", ""), "~/x": ("~/", "x"), "//a//b": ("//a//", "b"),
    }.items():  # fmt: skip
        assert split(text.replace("/", os.sep)) == tuple(one.replace("/", os.sep) for one in parts)


# Attachments


def test_what_a_folder_holds_is_counted_and_links_to_folders_stay_behind(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_bytes(b"12345")
    (folder / "sub" / "b").write_bytes(b"123")
    if os.name == "posix":
        (folder / "link").symlink_to(tmp_path, target_is_directory=True)
        os.mkfifo(folder / "pipe")
    found = look_at(folder)
    assert (found.name, found.is_folder, found.files, found.size) == ("data", True, 2, 8)
    assert found.left_out == (2 if os.name == "posix" else 0) and not found.problem
    file = look_at(folder / "a")
    assert (file.name, file.is_folder, file.files, file.size) == ("a", False, 1, 5)


def test_what_cannot_be_sent_says_why_before_anything_is(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder in ("one", "two"):
        (tmp_path / folder / "x").write_text("")
    with pytest.raises(ConfigurationError, match="is not there"):
        plan([tmp_path / "none"])
    with pytest.raises(ConfigurationError, match="would both become x"):
        plan([tmp_path / "one" / "x", tmp_path / "two" / "x"])
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigurationError, match="neither a file nor a folder"):
            plan([tmp_path / "pipe"])


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_attachments_keep_names_that_are_not_utf8(
    beray_client: BeRayClient, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    for place in (tmp_path / os.fsdecode(b"\xfe"), folder / os.fsdecode(b"\xe9")):
        place.write_text("x")
    attachments = (tmp_path / os.fsdecode(b"\xfe"), folder)
    assert [name for one in plan(attachments) for name in names_of(one)] == ["␦FE", "d␦FF/␦E9"]
    task_id = send(beray_client, TaskDraft("!ls -R", [], attachments)).task["id"]
    paths = [item["path"] for item in beray_client.list_files_tree(task_id)]
    assert paths == ["d␦FF", "d␦FF/␦E9", "␦FE"]


@pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")
def test_names_that_are_not_utf8_can_be_told_apart_in_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "names"
    folder.mkdir()
    for name in (b"\xfe", b"\xff"):
        (folder / os.fsdecode(name)).write_text("x")
    assert [entry.shown for entry in listed(folder, "").entries] == ["␦FE", "␦FF"]
    assert [entry.path.name for entry in listed(folder, "␦FF").entries] == ["\udcff"]


class Foreign:
    """A client whose server does what it is told to; it notes the calls.

    Args:
        answer: of ``create_task``.
        left_out: what ``upload_dir`` leaves out.
        failing: the calls that raise, with what.
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


def sent(client: Foreign, order: TaskDraft = ORDER, transfer: Transfer | None = None) -> Any:
    return send(client, order, transfer)  # type: ignore[arg-type]


def test_with_attachments_a_task_starts_when_they_are_there() -> None:
    client, told = Foreign(HELD), list[tuple[int, int | None]]()
    assert sent(client, ORDER, Transfer(lambda *amount: told.append(amount))).note == ""
    assert client.calls == ["create_task", "upload_path", "upload_dir", "start_task"]
    total = sum(one.size for one in plan(ORDER.attachments))
    assert told[0] == (0, total) and told[-1] == (total, total)


def test_a_server_that_cannot_hold_a_task_is_told_of_and_gets_the_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    client = Foreign({"id": 5, "goal": "x", "status": "RUNNING"}, ["empty"])
    outcome = sent(client, TaskDraft("x", None, (tmp_path / "empty", Path(__file__))))
    assert client.calls == ["create_task", "upload_dir", "upload_path"]
    assert "starts tasks at once" in outcome.note and "cannot create: empty." in outcome.note
    client = Foreign({"id": 5, "goal": "x", "status": "RUNNING"}, upload_path=OSError(5, "broken"))
    with pytest.raises(LeftBehind, match="task #5 runs already"):
        sent(client)
    assert "delete_task" not in client.calls


@pytest.mark.parametrize("call", ["upload_path", "upload_dir", "start_task"])
@pytest.mark.parametrize(
    "error",
    [ConnectionFailed("broken"), OSError(5, "broken"), TransferCancelled("cancelled"),
     APIError("full", status_code=507), AuthenticationError("no", status_code=401)],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_task_whose_files_did_not_come_is_deleted_again(call: str, error: Exception) -> None:
    client = Foreign(HELD, **{call: error})
    with pytest.raises(type(error)) as raised:
        sent(client)
    assert raised.value is error and client.calls[-1] == "delete_task"


def test_a_task_that_could_not_be_deleted_again_is_told_of() -> None:
    client = Foreign(HELD, upload_dir=BeRayException("broken"), delete_task=OSError(5, "x"))
    with pytest.raises(LeftBehind, match="broken - task #5 is still there, held"):
        sent(client)


def test_nothing_is_created_where_an_attachment_is_missing_or_it_was_cancelled() -> None:
    client = Foreign(HELD)
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
    outcome = send(beray_client, TaskDraft("!./run.sh && ./folder/run.sh", None, attachments))
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
    assert editor.command(environ) == words


def script(tmp_path: Path, body: str) -> list[str]:
    file = tmp_path / "edit.py"
    file.write_text(f"import os, pathlib, sys\nfile = pathlib.Path(sys.argv[-1])\n{body}\n")
    return [sys.executable, str(file), "an argument"]


def test_a_goal_is_edited_in_a_private_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = f"""
pathlib.Path({str(log)!r}).write_text(f"{{file}} {{oct(file.stat().st_mode)}} {{oct(file.parent.stat().st_mode)}}")
(file.parent / "backup~").write_text("x")
file.write_bytes(file.read_bytes() + "\\nzwölf\\n".encode())
"""
    assert editor.edited("eins", script(tmp_path, body)) == "eins\nzwölf"
    name, mode, folder_mode = log.read_text().split()
    assert not Path(name).parent.exists()
    if os.name == "posix":
        assert stat.S_IMODE(int(mode, 8)) == 0o600 and stat.S_IMODE(int(folder_mode, 8)) == 0o700


@pytest.mark.parametrize(
    ("body", "said"),
    [("sys.exit(3)", "status 3"), ("file.write_bytes(b'\\xff')", "not UTF-8"),
     ("file.unlink()", "No such file")],
)  # fmt: skip
def test_an_editor_that_fails_says_so(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(editor.EditorFailed, match=said):
        editor.edited("goal", script(tmp_path, body))
    with pytest.raises(editor.EditorFailed, match="was not found"):
        editor.edited("goal", ["/no/such/editor"])
    with pytest.raises(editor.EditorFailed, match=r"\$EDITOR cannot be read"):
        editor.command({"EDITOR": "'open"})
