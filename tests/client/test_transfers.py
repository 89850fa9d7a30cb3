"""Transfers: resumption, verification, atomicity, and uploads of changed files only."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient, InvalidResponseError, TransferCancelled, TransferError
from beray.testing import FaultServer, RunningServer, ScriptedResponse
from beray.transfers import download as downloads
from beray.transfers.digest import repr_digest
from beray.transfers.transfer import Transfer
from tests.support import done

BODY = os.urandom(3_000_000)
ETAG = {"ETag": '"v1"'}
DIGEST = {"Repr-Digest": repr_digest(hashlib.sha256(BODY).digest())}


def rest(start: int, **headers: str) -> ScriptedResponse:
    content_range = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    return ScriptedResponse(BODY[start:], 206, {"Content-Range": content_range, **ETAG, **headers})


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "home")


def test_a_truncated_download_is_resumed(tmp_path: Path) -> None:
    cut = 1_234_567
    script = [ScriptedResponse(BODY, headers=ETAG, drop_at=cut), rest(cut, **DIGEST)]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        again = server.requests[1].headers
    assert path.read_bytes() == BODY
    assert (again["range"], again["if-range"]) == (f"bytes={cut}-", '"v1"')
    assert left(tmp_path) == ["b"]


def test_a_later_process_resumes_a_download(tmp_path: Path) -> None:
    cut = 2_000_000
    with FaultServer([ScriptedResponse(BODY, headers=ETAG, drop_at=cut)]) as server:
        client = BeRayClient(server.url, max_retries=0)
        with pytest.raises(Exception, match="script is over"):
            client.download_file(1, "b", tmp_path / "b")
        assert not (tmp_path / "b").exists()
        server.add_responses(rest(cut))
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        assert server.requests[-1].headers["range"] == f"bytes={cut}-"
    assert (tmp_path / "b").read_bytes() == BODY
    assert left(tmp_path) == ["b"]


def test_the_download_of_a_killed_process_is_resumed(tmp_path: Path) -> None:
    cut = 2_000_000
    script = (
        "import sys; from beray import BeRayClient;"
        "BeRayClient(sys.argv[1]).download_file(1, 'b', sys.argv[2])"
    )
    target = tmp_path / "b"
    with FaultServer(
        [ScriptedResponse(BODY, headers=ETAG, stall_at=cut), rest(cut, **DIGEST)]
    ) as server:
        arguments = [sys.executable, "-c", script, server.url, str(target)]
        with subprocess.Popen(arguments) as process:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                sizes = [path.stat().st_size for path in tmp_path.glob(".b.*.part")]
                if sizes == [cut]:
                    break
                time.sleep(0.01)
            process.kill()
        BeRayClient(server.url).download_file(1, "b", target)
        assert server.requests[-1].headers["range"] == f"bytes={cut}-"
    assert target.read_bytes() == BODY
    assert left(tmp_path) == ["b"]


def test_another_version_is_downloaded_from_the_start(tmp_path: Path) -> None:
    new = os.urandom(2_000_000)
    script = [
        ScriptedResponse(BODY, headers=ETAG, drop_at=1_500_000),
        ScriptedResponse(new, headers={"ETag": '"v2"'}),
    ]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert path.read_bytes() == new


def test_a_shorter_version_is_downloaded_from_the_start(tmp_path: Path) -> None:
    script = [
        ScriptedResponse(BODY, headers=ETAG, drop_at=1_500_000),
        ScriptedResponse(b"{}", 416),
        ScriptedResponse(b"short", headers={"ETag": '"v2"'}),
    ]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert path.read_bytes() == b"short"


def test_a_weak_etag_is_not_resumed(tmp_path: Path) -> None:
    weak = {"ETag": 'W/"v1"'}
    script = [
        ScriptedResponse(BODY, headers=weak, drop_at=1_500_000),
        ScriptedResponse(BODY, headers=weak),
    ]
    with FaultServer(script) as server:
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        assert "range" not in server.requests[1].headers
    assert (tmp_path / "b").read_bytes() == BODY


@pytest.mark.parametrize("resumed", [False, True])
def test_content_with_another_digest_is_rejected(tmp_path: Path, resumed: bool) -> None:
    false = {"Repr-Digest": repr_digest(hashlib.sha256(b"other").digest())}
    script = [ScriptedResponse(BODY, headers=ETAG | false)]
    if resumed:
        script = [
            ScriptedResponse(BODY, headers=ETAG | DIGEST, drop_at=2_000_000),
            rest(2_000_000, **false),
        ]
    with FaultServer(script) as server, pytest.raises(TransferError, match="does not match"):
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b", verify=True)
    assert left(tmp_path) == []


def test_a_truncated_zip_is_not_requested_again(tmp_path: Path) -> None:
    with FaultServer([ScriptedResponse(BODY, drop_at=1_500_000)]) as server:
        with pytest.raises(TransferError):
            BeRayClient(server.url).download_zip(1, tmp_path / "z")
        assert len(server.requests) == 1
    assert left(tmp_path) == []


def test_two_downloads_to_one_target_do_not_mix(tmp_path: Path) -> None:
    with FaultServer([ScriptedResponse(BODY, headers=ETAG, stall_at=1000)]) as server:
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
        with pytest.raises(TransferError, match="already being downloaded"):
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
    # The range request for an empty file fails, so it is uploaded again.
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

    with FaultServer([ScriptedResponse(BODY, headers=ETAG, stall_at=2_500_000)]) as server:
        thread = threading.Thread(target=fetch)
        thread.start()
        assert server.stalled.wait(10)
        transfer.cancel()
        thread.join(10)
        assert len(outcome) == 1
    assert left(tmp_path) == []


def part(start: int, end: int, total: int, body: bytes, **headers: str) -> ScriptedResponse:
    return ScriptedResponse(
        body, 206, {"Content-Range": f"bytes {start}-{end}/{total}", **ETAG, **headers}
    )


CUT = 400_000
LAST = len(BODY) - 1
WHOLE = ScriptedResponse(BODY, headers=ETAG)


@pytest.mark.parametrize(
    "odd",
    [
        part(CUT - 1, LAST, len(BODY), BODY[CUT - 1 :]),
        part(CUT, LAST, len(BODY) + 5, BODY[CUT:]),
        part(CUT, CUT + 99, len(BODY), BODY[CUT : CUT + 100]),
        part(CUT, LAST, len(BODY), BODY[CUT:], ETag='"v2"'),
        ScriptedResponse(BODY[CUT:], 206, {"Content-Range": f"bytes {CUT}-{LAST}/{len(BODY)}"}),
        ScriptedResponse(BODY[CUT:], 206, {"Content-Range": "bytes x-y/z", **ETAG}),
        ScriptedResponse(BODY[CUT:], 206, {"Content-Range": f"bytes {CUT}-{LAST}/*", **ETAG}),
        ScriptedResponse(b"--x\r\n", 206, {"Content-Type": "multipart/byteranges; boundary=x", **ETAG}),
        ScriptedResponse(b"{}", 416),
        ScriptedResponse(BODY, headers={"ETag": '"v2"'}, drop_at=7),
    ],
)  # fmt: skip
def test_a_range_that_does_not_match_is_not_used(tmp_path: Path, odd: ScriptedResponse) -> None:
    rest_of_it = part(CUT + 100, LAST, len(BODY), BODY[CUT + 100 :])
    fits = odd.body == BODY[CUT : CUT + 100]
    script = [
        ScriptedResponse(BODY, headers=ETAG, drop_at=CUT),
        odd,
        rest_of_it if fits else WHOLE,
        WHOLE,
    ]
    with FaultServer(script) as server:
        path = BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert path.read_bytes() == BODY
    assert left(tmp_path) == ["b"]


@pytest.mark.parametrize("status", [202, 204, 205, 304])
def test_a_response_without_a_file_is_not_saved(tmp_path: Path, status: int) -> None:
    server = FaultServer([ScriptedResponse(b"", status)])
    with server, pytest.raises(InvalidResponseError, match="expected a file"):
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert left(tmp_path) == []


@pytest.mark.parametrize("headers", [{}, ETAG])
def test_a_full_disk_is_reported_with_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    def full(file: Any, block: Any) -> None:
        raise OSError(28, "No space left on device")

    with (
        FaultServer([ScriptedResponse(BODY, headers=headers)]) as server,
        monkeypatch.context() as patched,
    ):
        patched.setattr(downloads, "write_all", full)
        with pytest.raises(TransferError, match=r"b: No space left"):
            BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert left(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="limits are a matter of POSIX")
def test_a_download_beyond_the_file_size_limit_is_resumed_later(tmp_path: Path) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with FaultServer([WHOLE]) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            with pytest.raises(TransferError, match="b: File too large"):
                BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert not (tmp_path / "b").exists()
        server.add_responses(rest(1_000_000))
        BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == BODY


def test_an_unwritable_directory_is_reported_with_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, *args: Any, **options: Any) -> int:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    with FaultServer([WHOLE]) as server, monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(PermissionError) as caught:
            BeRayClient(server.url).download_file(1, "b", tmp_path / "b")
    assert caught.value.filename == str(tmp_path / "b")
    assert left(tmp_path) == []


@pytest.mark.parametrize("headers", [{}, ETAG])
def test_a_file_created_during_a_download_is_not_replaced(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    target = tmp_path / "b"

    def create(_done: int, _total: int | None) -> None:
        if not target.exists():
            target.write_text("mine")

    appear = Transfer(create)
    with (
        FaultServer([ScriptedResponse(BODY, headers=headers)]) as server,
        pytest.raises(FileExistsError),
    ):
        BeRayClient(server.url).download_file(1, "b", target, transfer=appear)
    assert target.read_text() == "mine"
    # A part without an ETag cannot be resumed and is deleted.
    assert len(left(tmp_path)) == (3 if headers else 1)


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
@pytest.mark.parametrize("what", ["file", "zip", "dir"])
def test_cancel_wakes_a_download_with_any_framing(tmp_path: Path, framing: Any, what: str) -> None:
    transfer = Transfer()
    raised: list[BaseException] = []
    with FaultServer([ScriptedResponse(BODY, framing=framing, stall_at=500_000)]) as server:
        client = BeRayClient(server.url)
        calls: dict[str, Any] = {
            "file": lambda: client.download_file(1, "b", tmp_path / "b", transfer=transfer),
            "zip": lambda: client.download_zip(1, tmp_path / "b", transfer=transfer),
            "dir": lambda: client.download_dir(1, tmp_path / "b", transfer=transfer),
        }

        def fetch() -> None:
            try:
                calls[what]()
            except TransferCancelled as error:
                raised.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        assert server.stalled.wait(10)
        transfer.cancel()
        thread.join(10)
    assert len(raised) == 1
    assert left(tmp_path) == []


@pytest.mark.parametrize("stage", ["tree", "digest"])
def test_cancel_wakes_the_requests_before_an_upload(tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "a").write_text("1234")
    tree = b'[{"name": "a", "path": "a", "type": "file", "size": 4}]'
    later = ScriptedResponse(b"{}", 503, {"Retry-After": "50"})
    script = (
        [ScriptedResponse(tree, stall_at=5)] if stage == "tree" else [ScriptedResponse(tree), later]
    )
    transfer = Transfer()
    raised: list[BaseException] = []
    with FaultServer(script) as server:
        client = BeRayClient(server.url)

        def send() -> None:
            try:
                client.upload_dir(1, folder, transfer=transfer)
            except TransferCancelled as error:
                raised.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        deadline = time.monotonic() + 10
        while len(server.requests) < len(script) and time.monotonic() < deadline:
            time.sleep(0.01)
        transfer.cancel()
        thread.join(10)
        assert not thread.is_alive()
        assert len(server.requests) == len(script)
    assert len(raised) == 1


def test_a_transfer_cancelled_before_its_start_sends_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    transfer = Transfer()
    transfer.cancel()
    with FaultServer([]) as server:
        client = BeRayClient(server.url)
        calls: list[Any] = [
            lambda: client.upload_dir(1, tmp_path, transfer=transfer),
            lambda: client.upload_path(1, tmp_path / "a", transfer=transfer),
            lambda: client.download_file(1, "b", tmp_path / "b", transfer=transfer),
            lambda: client.download_dir(1, tmp_path / "b", transfer=transfer),
        ]
        for call in calls:
            with pytest.raises(TransferCancelled):
                call()
        assert server.requests == []
