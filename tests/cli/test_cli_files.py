"""beray ls, cat, put, get and zip."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from beray.client import BeRayClient
from tests.cli.cli_support import Command, ScriptedServer

BINARY = bytes(range(256))


@pytest.fixture
def task(account: BeRayClient) -> str:
    """Finished task with a.bin, sub/b.txt and sub/empty in its work_dir."""
    task_id = account.create_task("!mkdir -p sub/empty; printf text > sub/b.txt")["id"]
    list(account.stream_task_updates(task_id))
    account.upload_file(task_id, "a.bin", BINARY)
    return str(task_id)


def test_ls_in_a_pipe_is_tab_separated(beray: Command, task: str, account: BeRayClient) -> None:
    items = account.list_files_tree(int(task))
    outcome = beray("ls", task)
    assert outcome.status == 0
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [row[0] + row[3] for row in rows] == ["-a.bin", "dsub", "-sub/b.txt", "dsub/empty"]
    assert (rows[0][1], rows[1][1]) == ("256", "")
    assert [row[2] for row in rows] == [item["modified_at"] for item in items]
    assert beray("ls", task, "--json").json == items
    assert len(beray("ls", task, "sub").out.splitlines()) == 2
    assert beray("ls", task, "missing").status == 1


def test_cat_writes_unchanged_bytes_to_a_pipe(beray: Command, task: str) -> None:
    outcome = beray("cat", task, "a.bin")
    assert (outcome.status, outcome.raw_out, outcome.err) == (0, BINARY, "")
    assert beray("get", task, "a.bin", "-o", "-").raw_out == BINARY
    assert beray("cat", task, "missing").status == 1


def test_put_uploads_files_and_directories(beray: Command, task: str, account: BeRayClient) -> None:
    Path("data/deep").mkdir(parents=True)
    Path("data/deep/c.bin").write_bytes(BINARY)
    Path("ünï.txt").write_text("x")
    outcome = beray("put", task, "data", "ünï.txt", "--to", "in", "--json")
    assert outcome.status == 0
    assert [answer["path"] for answer in outcome.json] == ["in/data/deep/c.bin", "in/ünï.txt"]
    assert account.get_file_content(int(task), "in/data/deep/c.bin").content == BINARY
    assert beray("put", task, "ünï.txt", "--to", "name.txt").status == 0
    assert account.get_file_content(int(task), "name.txt").content == b"x"
    outcome = beray("put", task, "ünï.txt", "--to", "../out")
    assert outcome.status == 1
    assert outcome.err.startswith("beray: ")


def test_get_uses_the_file_name_and_overwrites_only_with_force(beray: Command, task: str) -> None:
    assert beray("get", task, "sub/b.txt").status == 0
    assert Path("b.txt").read_text() == "text"
    Path("b.txt").write_text("mine")
    outcome = beray("get", task, "sub/b.txt")
    assert outcome.status == 1
    assert "--force" in outcome.err
    assert Path("b.txt").read_text() == "mine"
    assert beray("get", task, "sub/b.txt", "--force").status == 0
    assert Path("b.txt").read_text() == "text"


def test_get_saves_a_file_under_another_path(beray: Command, task: str) -> None:
    Path("folder").mkdir()
    assert beray("get", task, "a.bin", "-o", "folder").status == 0
    assert Path("folder/a.bin").read_bytes() == BINARY
    (saved,) = beray("get", task, "a.bin", "-o", "other", "--json").json
    assert saved == {"path": "a.bin", "local": "other", "size": 256}
    assert beray("get", task, "missing").status == 1
    outcome = beray("get", task, "a.bin", "-o", "no/such/folder")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["folder", "other"]


def test_zip_contains_the_work_dir_or_some_paths(beray: Command, task: str) -> None:
    assert beray("zip", task, "-o", "all.zip").status == 0
    with zipfile.ZipFile("all.zip") as archive:
        assert {"a.bin", "sub/b.txt"} <= set(archive.namelist())
        assert archive.read("a.bin") == BINARY
    assert beray("zip", task, "sub", "-o", "sub.zip").status == 0
    with zipfile.ZipFile("sub.zip") as archive:
        assert "a.bin" not in archive.namelist()
    assert beray("zip", task, "-o", "all.zip").status == 1
    piped = beray("zip", task, "a.bin", "-o", "-")
    assert zipfile.ZipFile(io.BytesIO(piped.raw_out)).read("a.bin") == BINARY


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_modes_and_empty_directories_are_uploaded_and_downloaded(
    beray: Command, account: BeRayClient
) -> None:
    Path("given/empty").mkdir(parents=True)
    for name in ("build.sh", "given/run.sh"):
        Path(name).write_text("#!/bin/sh\necho built\n")
        Path(name).chmod(0o755)
    command = "./build.sh && mkdir -m 500 kept && cp build.sh plain && chmod 640 plain"
    outcome = beray("run", f"!{command}", "-f", "build.sh", "-f", "given", "-o", "out")
    assert (outcome.status, outcome.out) == (0, "built\n"), outcome.err
    out = Path("out")
    found = {
        path.relative_to(out).as_posix(): path.stat().st_mode & 0o777 for path in out.rglob("*")
    }
    assert found == {
        "build.sh": 0o755, "given": 0o755, "given/run.sh": 0o755, "given/empty": 0o755,
        "kept": 0o500, "plain": 0o640,
    }  # fmt: skip
    assert "empty directory" not in outcome.err


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_put_and_get_keep_the_mode(beray: Command, task: str, account: BeRayClient) -> None:
    Path("run.sh").write_text("1")
    Path("run.sh").chmod(0o700)
    Path("bare").mkdir()
    assert beray("put", task, "run.sh", "bare").status == 0
    items = {item["path"]: item["mode"] for item in account.list_files_tree(int(task))}
    assert (items["run.sh"], items["bare"]) == ("700", "755")
    assert beray("get", task, "run.sh", "-o", "again").status == 0
    assert Path("again").stat().st_mode & 0o777 == 0o700


def test_a_server_without_directories_is_reported(beray: Command, scripted: ScriptedServer) -> None:
    Path("bare").mkdir()
    held = {"id": 1, "goal": "x", "status": "QUEUED", "held": True}
    scripted.answers |= {
        "POST /tasks/": (200, held),
        "GET /tasks/1/files/tree": (200, []),
        "POST /tasks/1/start": (200, held),
    }
    outcome = beray("run", "x", "--detach", "-f", "bare")
    assert outcome.status == 0
    assert "bare is an empty directory, and this server cannot create it" in outcome.err
    assert scripted.calls()[-1] == "POST /tasks/1/start"
