"""Uploads, listings and downloads of files whose names are not UTF-8."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest

from beray.client import BeRayClient
from beray.transfers.wire_names import ANY_BYTES
from tests.cli.cli_support import Command
from tests.server.gateway.prefab_folders import write_prefab

pytestmark = pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")

NAME = os.fsdecode(b"caf\xe9.txt")


def names(folder: str) -> list[bytes]:
    return sorted(os.listdir(os.fsencode(folder)))


def test_run_uploads_and_downloads_them(beray: Command, account: BeRayClient) -> None:
    Path(NAME).write_text("in")
    command = r"cat $(printf 'caf\351.txt'); echo out > $(printf 'made\377')"
    outcome = beray("run", f"!{command}", "-f", NAME, "-o", "out")
    assert (outcome.status, outcome.out) == (0, "in")
    assert names("out") == [b"caf\xe9.txt", b"made\xff"]
    assert Path("out", os.fsdecode(b"made\xff")).read_text() == "out\n"


@pytest.fixture
def task(account: BeRayClient) -> str:
    """A task with one file, whose name is not UTF-8, in its work_dir."""
    task_id = account.create_task(r"!printf content > $(printf 'caf\351.txt')")["id"]
    list(account.stream_task_updates(task_id))
    return str(task_id)


def test_paths_from_ls_are_accepted_by_other_commands(beray: Command, task: str) -> None:
    path = beray("ls", task).out.split("\t")[-1].strip()
    assert path == "caf␦E9.txt"
    for spelling in (path, NAME):
        assert beray("cat", task, spelling).raw_out == b"content"
        assert beray("get", task, spelling, "--force").status == 0
        assert names(".") == [b"caf\xe9.txt"]
        outcome = beray("zip", task, spelling, "-o", "-")
        with zipfile.ZipFile(io.BytesIO(outcome.raw_out)) as archive:
            assert archive.namelist() == [path]


def test_json_contains_wire_names(beray: Command, task: str) -> None:
    outcome = beray("get", task, NAME, "--json")
    assert outcome.json == [{"path": "caf␦E9.txt", "local": "caf␦E9.txt", "size": 7}]


def test_put_sends_them_and_replaces_them(beray: Command, task: str, account: BeRayClient) -> None:
    Path("folder").mkdir()
    for place in (NAME, f"folder/{NAME}"):
        Path(place).write_text("new")
    assert beray("put", task, NAME, "folder").status == 0
    files = [item["path"] for item in account.list_files_tree(int(task)) if item["type"] == "file"]
    assert files == ["caf␦E9.txt", "folder/caf␦E9.txt"]
    assert account.get_file_content(int(task), files[0]).content == b"new"
    assert beray("put", task, NAME, "--to", f"as/{NAME}").status == 0
    assert account.get_file_content(int(task), "as/caf␦E9.txt").content == b"new"


def test_prefabs_receive_and_return_them_as_unicode(beray: Command, author: BeRayClient) -> None:
    module = """
    import os
    from beray.prefab import Call
    def main(call: Call):
        given = call.file("document")
        call.output("copy", given.name).write_bytes(given.read_bytes())
        call.output("copy", os.fsdecode(b"new\\xff")).write_text("new")
        packed = os.listdir(os.fsencode(os.path.dirname(__file__)))
        return {"name": given.name, "packed": b"data\\xfe" in packed}
    """
    functions = (
        "[functions.main]\n[functions.main.files.inputs.document]\n"
        "[functions.main.files.outputs.copy]\nmany = true"
    )
    folder = write_prefab(Path("probe"), module, functions)
    (folder / os.fsdecode(b"data\xfe")).write_text("packed")
    assert beray("prefab", "add", "probe").status == 0
    Path(NAME).write_text("content")
    outcome = beray("prefab", "run", "probe", "main", "--file", f"document={NAME}", "--out", "out")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out) == {"name": "caf␦E9.txt", "packed": True}
    assert names("out") == [b"caf\xe9.txt", b"new\xff"]
    assert Path("out", NAME).read_text() == "content"
