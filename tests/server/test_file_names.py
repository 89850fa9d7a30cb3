"""Names that are not UTF-8, through every interface, and the same bytes again on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import requests

from beray import BeRayClient
from beray.testing import RunningServer
from beray.transfers.wire_names import ANY_BYTES
from tests.support import done
from tests.work_dirs import Files

pytestmark = pytest.mark.skipif(not ANY_BYTES, reason="names are Unicode here")

NAMES = [b"caf\xe9.txt", b"d\xff/\xfe\xff", "d\udcff/é".encode("utf-8", "surrogateescape"), b"plain",
         "caf␦E9.txt".encode(), "␦".encode()]  # fmt: skip
WIRE = ["caf␦E9.txt", "d␦FF/␦FE␦FF", "d␦FF/é", "plain", "caf␦E2␦90␦A6E9.txt", "␦"]


def fill(folder: Path) -> None:
    for name in NAMES:
        place = folder / os.fsdecode(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name)


def content(folder: Path) -> dict[bytes, bytes]:
    """The files below ``folder``, by their names on disk."""
    root = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(current, name), root): Path(
            os.fsdecode(os.path.join(current, name))
        ).read_bytes()
        for current, _, names in os.walk(root)
        for name in names
    }


ALL = {name: name for name in NAMES}


def listed(client: BeRayClient, task_id: int) -> list[str]:
    items = client.list_files_tree(task_id)
    return [item["path"] for item in items if item["type"] == "file"]


def test_they_are_listed_read_and_replaced_by_their_wire_names(
    files: Files, account: BeRayClient
) -> None:
    fill(files.work_dir)
    assert sorted(listed(account, files.task_id)) == sorted(WIRE)
    for name, wire in zip(NAMES, WIRE, strict=True):
        assert files.get(wire).content == name
        answer = files.put(wire, name + b"!")
        assert answer.json()["path"] == wire
    assert content(files.work_dir) == {name: name + b"!" for name in NAMES}
    below = account.list_files_tree(files.task_id, "d␦FF")
    assert [item["path"] for item in below] == ["d␦FF/é", "d␦FF/␦FE␦FF"]


def test_a_name_with_the_escape_of_a_published_client_is_kept(files: Files) -> None:
    for path in ("50 ␦ off.txt", "␦/␦␦", "␦g1", "e␦e9"):
        assert files.put(path, b"x").json()["path"] == path
        assert os.path.exists(files.work_dir / path)
    tree = files.call("GET", "tree").json()
    assert {item["path"] for item in tree} >= {"50 ␦ off.txt", "␦/␦␦", "␦g1", "e␦e9"}


@pytest.mark.parametrize("path", ["␦2E␦2E/x", "␦2Fetc/passwd", "␦00", "a␦2Fb"])
def test_no_escape_leads_anywhere(files: Files, path: str) -> None:
    # Bytes of ASCII are never escaped, so these are ordinary names.
    assert files.put(path, b"x").status_code == 200
    assert (files.work_dir / path).read_bytes() == b"x"


def test_folders_go_up_and_come_down(files: Files, account: BeRayClient, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    fill(source)
    first = account.upload_dir(files.task_id, source)
    assert sorted(first.uploaded) == sorted(WIRE)
    assert content(files.work_dir) == ALL
    assert account.upload_dir(files.task_id, source).uploaded == []
    account.download_dir(files.task_id, target)
    assert content(target) == ALL


def test_single_files_go_by_either_spelling(
    files: Files, account: BeRayClient, tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    local = tmp_path / name
    local.write_bytes(b"1")
    account.upload_path(files.task_id, local)
    assert content(files.work_dir) == {b"caf\xe9.txt": b"1"}
    account.upload_file(files.task_id, name, b"2")
    assert account.get_file_content(files.task_id, "caf␦E9.txt").content == b"2"
    assert account.get_file_content(files.task_id, name).content == b"2"
    account.download_file(files.task_id, name, tmp_path / "single")
    assert (tmp_path / "single").read_bytes() == b"2"
    account.download_dir(files.task_id, tmp_path / "some", [name])
    assert content(tmp_path / "some") == {b"caf\xe9.txt": b"2"}


def test_events_name_them_as_listings_do(beray_client: BeRayClient) -> None:
    command = r"mkdir $(printf 'd\377'); echo 1 > $(printf 'd\377/\376'); echo 2 > $(printf '\351')"
    events = done(beray_client, f"!{command}")
    task_id = events[0]["task_id"]
    told = {event["payload"]["path"] for event in events if event.get("source") == "files"}
    assert told == set(listed(beray_client, task_id)) == {"d␦FF/␦FE", "␦E9"}
    assert beray_client.list_events(task_id) == events
    for path in told:
        assert beray_client.get_file_content(task_id, path).content


def test_a_published_client_reads_them(files: Files, beray_server: RunningServer) -> None:
    fill(files.work_dir)
    session: requests.Session = files.session
    tree = session.get(f"{files.url}/tree", params={"path": "."}, timeout=30).json()
    for item in tree:
        if item["type"] == "file":
            response = session.get(
                f"{files.url}/content", params={"path": item["path"]}, timeout=30
            )
            assert response.ok
            response.headers["Content-Disposition"].encode("ascii")
