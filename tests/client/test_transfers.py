"""Transfers: resumed behind a cut, checked, all or nothing, only what changed."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from support import done

from beray import BeRayClient, TransferCancelled, TransferError
from beray.digests import header
from beray.files import Transfer
from beray.testing import Answer, FaultServer, RunningServer

BODY = os.urandom(3_000_000)
ETAG = {"ETag": '"v1"'}
DIGEST = {"Repr-Digest": header(hashlib.sha256(BODY).digest())}


def rest(start: int, **headers: str) -> Answer:
    content_range = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    return Answer(BODY[start:], 206, {"Content-Range": content_range, **ETAG, **headers})


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "home")


def test_a_cut_download_goes_on_behind_the_cut(tmp_path: Path) -> None:
    cut = 1_234_567
    script = [Answer(BODY, headers=ETAG, drop_at=cut), rest(cut, **DIGEST)]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        again = server.requests[1].headers
    assert path.read_bytes() == BODY
    assert (again["range"], again["if-range"]) == (f"bytes={cut}-", '"v1"')
    assert left(tmp_path) == ["b"]


def test_a_later_process_takes_up_what_an_earlier_one_left(tmp_path: Path) -> None:
    cut = 2_000_000
    with FaultServer([Answer(BODY, headers=ETAG, drop_at=cut)]) as server:
        client = BeRayClient(server.url, max_retries=0)
        with pytest.raises(Exception, match="script is over"):
            client.download_file(1, "b", tmp_path / "b")
        assert not (tmp_path / "b").exists()
        server.say(rest(cut))
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        assert server.requests[-1].headers["range"] == f"bytes={cut}-"
    assert (tmp_path / "b").read_bytes() == BODY
    assert left(tmp_path) == ["b"]


def test_another_version_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    new = os.urandom(2_000_000)
    script = [Answer(BODY, headers=ETAG, drop_at=1_500_000), Answer(new, headers={"ETag": '"v2"'})]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert path.read_bytes() == new


def test_a_shorter_version_is_fetched_from_its_beginning(tmp_path: Path) -> None:
    script = [
        Answer(BODY, headers=ETAG, drop_at=1_500_000),
        Answer(b"{}", 416),
        Answer(b"short", headers={"ETag": '"v2"'}),
    ]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert path.read_bytes() == b"short"


def test_a_weak_version_is_not_resumed(tmp_path: Path) -> None:
    weak = {"ETag": 'W/"v1"'}
    script = [Answer(BODY, headers=weak, drop_at=1_500_000), Answer(BODY, headers=weak)]
    with FaultServer(script) as server:
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        assert "range" not in server.requests[1].headers
    assert (tmp_path / "b").read_bytes() == BODY


@pytest.mark.parametrize("resumed", [False, True])
def test_bytes_of_another_digest_are_refused(tmp_path: Path, resumed: bool) -> None:
    false = {"Repr-Digest": header(hashlib.sha256(b"other").digest())}
    script = [Answer(BODY, headers=ETAG | false)]
    if resumed:
        script = [Answer(BODY, headers=ETAG | DIGEST, drop_at=2_000_000), rest(2_000_000, **false)]
    with FaultServer(script) as server, pytest.raises(TransferError, match="not what the server"):
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b", verify=True)
    assert left(tmp_path) == []


def test_a_zip_that_is_cut_is_not_asked_for_twice(tmp_path: Path) -> None:
    with FaultServer([Answer(BODY, drop_at=1_500_000)]) as server:
        with pytest.raises(TransferError):
            BeRayClient(server.url).download_zip(1, tmp_path / "z")
        assert len(server.requests) == 1
    assert left(tmp_path) == []


def test_two_downloads_to_one_place_do_not_mix(tmp_path: Path) -> None:
    with FaultServer([Answer(BODY, headers=ETAG, stall_at=1000)]) as server:
        transfer = Transfer()
        failed: list[Exception] = []

        def first() -> None:
            try:
                BeRayClient(server.url).download_file(1, "b", tmp_path / "b", transfer=transfer)
            except TransferCancelled as error:
                failed.append(error)

        thread = threading.Thread(target=first)
        thread.start()
        assert server.stalled.wait(10)
        with pytest.raises(TransferError, match="somebody else"):
            BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        transfer.cancel()
        thread.join(10)
        assert not thread.is_alive()
        assert len(failed) == 1
    assert left(tmp_path) == []


def test_a_real_server_is_resumed_and_verified(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path
) -> None:
    task_id = done(beray_client, "!head -c 5000000 /dev/urandom > big; sha256sum big")[0]["task_id"]
    expected = beray_client.get_file_content(task_id, "big").content

    def cut(done: int, _: int | None) -> None:
        if done > 2_000_000:
            raise KeyboardInterrupt

    target = tmp_path / "big"
    with pytest.raises(KeyboardInterrupt):
        beray_client.download_file(task_id, "big", target, transfer=Transfer(cut))
    begun: list[int] = []
    progress = Transfer(lambda done, _: begun.append(done))
    beray_client.download_file(task_id, "big", target, verify=True, transfer=progress)
    assert target.read_bytes() == expected
    assert begun[0] > 2_000_000
    assert left(tmp_path) == ["big"]


def test_only_what_changed_is_uploaded(beray_client: BeRayClient, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    for name, text in {
        "a.py": "1",
        "sub/b.py": "22",
        "sub/c.txt": "333",
        ".git/x": "4",
        "e": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    task_id = beray_client.create_task("!true")["id"]
    first = beray_client.upload_dir(task_id, folder, "dst", exclude=[".git"])
    assert first.uploaded == ["dst/a.py", "dst/e", "dst/sub/b.py", "dst/sub/c.txt"]
    assert first.unchanged == []
    (folder / "a.py").write_text("2")
    second = beray_client.upload_dir(task_id, folder, "dst", exclude=[".git"])
    # Nothing can be asked of an empty file, so it goes again.
    assert second.uploaded == ["dst/a.py", "dst/e"]
    assert second.unchanged == ["dst/sub/b.py", "dst/sub/c.txt"]
    assert beray_client.get_file_content(task_id, "dst/a.py").content == b"2"
    only = beray_client.upload_dir(task_id, folder, "py", include=["*.py"], exclude=["sub/*"])
    assert only.uploaded == ["py/a.py"]
    with pytest.raises(NotADirectoryError):
        beray_client.upload_dir(task_id, folder / "a.py")


def test_a_work_dir_into_a_folder(beray_client: BeRayClient, tmp_path: Path) -> None:
    goal = "!mkdir -p a/empty; echo 1 > a/x.sh; chmod +x a/x.sh; echo ü > 'a/ü ü.txt'; ln -s x a/l"
    task_id = done(beray_client, goal)[0]["task_id"]
    target = beray_client.download_dir(task_id, tmp_path / "out" / "here")
    assert (target / "a" / "x.sh").read_text() == "1\n"
    assert (target / "a" / "x.sh").stat().st_mode & stat.S_IXUSR
    assert (target / "a" / "ü ü.txt").read_text() == "ü\n"
    assert (target / "a" / "empty").is_dir()
    assert not (target / "a" / "l").exists()
    assert left(tmp_path / "out") == ["here"]
    with pytest.raises(FileExistsError):
        beray_client.download_dir(task_id, target)
    (target / "a" / "x.sh").write_text("mine")
    (target / "kept").write_text("kept")
    beray_client.download_dir(task_id, target, overwrite=True)
    assert (target / "a" / "x.sh").read_text() == "1\n"
    assert (target / "kept").read_text() == "kept"


def test_cancel_wakes_a_stalled_download(tmp_path: Path) -> None:
    transfer = Transfer()
    outcome: list[Any] = []

    def fetch() -> None:
        with pytest.raises(TransferCancelled) as caught:
            BeRayClient(server.url).download_file(1, "b", tmp_path / "b", transfer=transfer)
        outcome.append(caught.value)

    with FaultServer([Answer(BODY, headers=ETAG, stall_at=2_500_000)]) as server:
        thread = threading.Thread(target=fetch)
        thread.start()
        assert server.stalled.wait(10)
        transfer.cancel()
        thread.join(10)
        assert len(outcome) == 1
    assert left(tmp_path) == []
