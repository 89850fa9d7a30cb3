"""Registry of prefabs: immutable versions, safe archives and authors."""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from beray.exceptions import TransferError
from beray.server.prefabs import archives
from beray.server.prefabs.manifest import ManifestError
from beray.server.prefabs.registry import PrefabNotFound, PrefabRegistry, VersionConflict
from beray.testing import RunningServer, access_token
from tests.gateway_support import refusal
from tests.server.gateway.prefab_folders import write_prefab

MAIN = "def main(call):\n    return {}\n"
PLAIN = "[functions.main]"


@pytest.fixture
def found(tmp_path: Path) -> PrefabRegistry:
    found = PrefabRegistry(tmp_path / "prefabs", tmp_path / "included")
    found.load()
    return found


def add(found: PrefabRegistry, tmp_path: Path, version: str, prefab_id: str = "probe") -> None:
    fresh = write_prefab(
        tmp_path / f"new-{prefab_id}-{version}", MAIN, PLAIN, version=version, prefab_id=prefab_id
    )
    found.install(fresh)


def test_a_disabled_version_is_not_the_latest(found: PrefabRegistry, tmp_path: Path) -> None:
    add(found, tmp_path, "1.0.0")
    off = write_prefab(tmp_path / "off", MAIN, PLAIN, version="2.0.0", more='status = "disabled"')
    found.install(off)
    assert found.find("probe", "latest").version.text == "1.0.0"
    assert found.find("probe", "2.0.0").version.text == "2.0.0"
    assert found.versions("probe") == ["2.0.0", "1.0.0"]
    alone = write_prefab(
        tmp_path / "alone", MAIN, PLAIN, prefab_id="alone", more='status = "disabled"'
    )
    found.install(alone)
    assert [(one.id, one.version.text) for one in found.newest_versions()] == [
        ("alone", "1.0.0"), ("probe", "1.0.0"),
    ]  # fmt: skip


def test_the_newest_is_by_precedence_and_no_pre_release(
    found: PrefabRegistry, tmp_path: Path
) -> None:
    for version in ("1.2.0", "1.10.0", "2.0.0-rc.1", "1.9.0"):
        add(found, tmp_path, version)
    add(found, tmp_path, "0.1.0-a", "early")
    assert found.versions("probe") == ["1.10.0", "1.9.0", "1.2.0", "2.0.0-rc.1"]
    assert found.find("probe", "latest").version.text == "1.10.0"
    assert found.find("early", None).version.text == "0.1.0-a"
    again = PrefabRegistry(found.root, tmp_path / "included")
    again.load()
    assert again.versions("probe") == found.versions("probe")
    missing: list[tuple[str, str | None]] = [
        ("none", None), ("probe", "3.0.0"), ("probe", "../1.2.0"),
    ]  # fmt: skip
    for prefab_id, absent in missing:
        with pytest.raises(PrefabNotFound):
            found.find(prefab_id, absent)


def test_a_version_never_changes(found: PrefabRegistry, tmp_path: Path) -> None:
    add(found, tmp_path, "1.0.0")
    same = write_prefab(tmp_path / "same", MAIN, PLAIN)
    assert found.install(same)[1] is False
    other = write_prefab(tmp_path / "other", MAIN + "# other\n", PLAIN)
    with pytest.raises(VersionConflict):
        found.install(other)
    assert (found.find("probe", None).folder / "probe.py").read_text() == MAIN


def test_a_prefab_of_the_server_cannot_be_added_to(tmp_path: Path) -> None:
    write_prefab(tmp_path / "included/probe/1.0.0", MAIN, PLAIN)
    found = PrefabRegistry(tmp_path / "prefabs", tmp_path / "included")
    found.load()
    assert found.find("probe", None).is_official
    with pytest.raises(VersionConflict):
        add(found, tmp_path, "2.0.0")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "prefab.toml").unlink(),
        lambda folder: (folder / "prefab.toml").write_text("[prefab"),
        lambda folder: (folder / "probe.py").unlink(),
        lambda folder: folder.rename(folder.with_name("2.0.0")),
        lambda folder: folder.parent.rename(folder.parent.with_name("other")),
        lambda folder: (folder / "prefab.toml").write_bytes(b"a = 1\n" * 400_000),
    ],
)
def test_a_damaged_folder_hides_no_other(
    found: PrefabRegistry, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    add(found, tmp_path, "1.0.0")
    add(found, tmp_path, "1.0.0", "sound")
    damage(found.find("probe", None).folder)
    found.load()
    assert [one.id for one in found.newest_versions()] == ["sound"]


def archive(*members: tuple[str, str], link: str = "") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, text in members:
            writer.writestr(name, text)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            writer.writestr(info, "/etc/passwd")
    return data.getvalue()


HOSTILE = {
    "no archive": b"this is not an archive",
    "nothing": b"",
    "out": archive(("../out.txt", "x")),
    "absolute": archive(("/tmp/out.txt", "x")),
    "link": archive(("a", "x"), link="passwd"),
    "bomb": archive(("a", "\0" * (archives.MAX_BYTES + 1))),
    "many": archive(*((f"{n}.txt", "") for n in range(archives.MAX_ENTRIES + 1))),
    "twice": archive(("a.txt", "x"), ("a.txt/b", "y")),
    "cut": archive(("a.txt", "x" * 1000))[:-40],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_harmful_archives_are_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransferError):
        archives.unpack_prefab(HOSTILE[name], tmp_path / "place" / "fresh")
    assert not (tmp_path / "place").exists()
    assert not (tmp_path / "out.txt").exists()


def test_caches_and_hidden_files_are_not_part_of_a_prefab(tmp_path: Path) -> None:
    folder = write_prefab(tmp_path / "a", MAIN, PLAIN)
    before = archives.pack(folder), archives.content_digest(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/probe.pyc").write_text("x")
    (folder / ".git").mkdir()
    assert (archives.pack(folder), archives.content_digest(folder)) == before
    os.mkfifo(folder / "fifo")
    with pytest.raises(ManifestError):
        archives.pack(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(
        tmp_path_factory.mktemp("server"), BERAY_PREFAB_AUTHORS="a@example.test, b@example.test"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def token(server: RunningServer) -> str:
    with server.sign_up("b@example.test") as author:
        return access_token(author)


def post(server: RunningServer, token: str, body: bytes) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/zip"}
    return requests.post(f"{server.url}/v1/prefabs", data=body, headers=headers, timeout=60)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_server_refuses_it_too_and_keeps_nothing(
    server: RunningServer, token: str, name: str
) -> None:
    answer = post(server, token, HOSTILE[name])
    assert refusal(answer) == (422, "INVALID_INPUT")
    assert str(server.data_dir) not in answer.text
    assert not list((server.data_dir / "prefabs").iterdir())


@pytest.mark.parametrize(
    ("module", "functions", "said"),
    [
        (MAIN, "[functions.other]", "no such function"),
        (MAIN, "[functions.main]\nx = 1", "is not a known key"),
        ("raise SystemExit", PLAIN, "SystemExit"),
        ("import os; os._exit(0)", PLAIN, "ended before"),
        ("import sys; sys.stdout.buffer.write(b'x' * 99)\n" + MAIN, PLAIN, None),
    ],
)
def test_a_module_is_looked_at_before_it_is_added(
    server: RunningServer, token: str, tmp_path: Path, module: str, functions: str, said: str | None
) -> None:
    folder = write_prefab(tmp_path / "a", module, functions, prefab_id=f"p{abs(hash(module))}")
    answer = post(server, token, archives.pack(folder))
    if said is None:
        assert answer.status_code == 201, answer.text
        place = server.data_dir / "prefabs" / answer.json()["id"]
        assert sorted(path.name for path in (place / "1.0.0").iterdir()) == [
            "prefab.toml",
            "probe.py",
        ]
        assert post(server, token, archives.pack(folder)).status_code == 200
        (folder / "probe.py").write_text(MAIN)
        assert refusal(post(server, token, archives.pack(folder))) == (409, "VERSION_TAKEN")
        return
    assert refusal(answer) == (422, "INVALID_INPUT")
    (problem,) = answer.json()["detail"]["errors"]
    assert said in problem["msg"]


def test_an_id_belongs_to_its_first_author(
    server: RunningServer, token: str, tmp_path: Path
) -> None:
    def body(version: str, prefab_id: str = "mine") -> bytes:
        folder = tmp_path / f"{prefab_id}-{version}"
        return archives.pack(
            write_prefab(folder, MAIN, PLAIN, prefab_id=prefab_id, version=version)
        )

    with server.sign_up("a@example.test") as another:
        others = access_token(another)
    broken = write_prefab(tmp_path / "broken", "raise SystemExit", PLAIN, prefab_id="mine")
    assert refusal(post(server, others, archives.pack(broken))) == (422, "INVALID_INPUT")
    assert post(server, token, body("1.0.0")).status_code == 201
    assert post(server, others, body("1.0.0")).status_code == 200
    assert refusal(post(server, others, body("2.0.0"))) == (403, "NOT_THE_AUTHOR")
    assert post(server, token, body("2.0.0")).status_code == 201
    # What is refused leaves the id to others.
    assert refusal(post(server, others, body("9.0.0", "table"))) == (409, "VERSION_TAKEN")
    assert refusal(post(server, token, body("9.0.0", "table"))) == (409, "VERSION_TAKEN")


def test_users_cannot_add_versions_to_prefabs_of_the_operator(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_prefab(data / "prefabs" / "probe" / "1.0.0", MAIN, PLAIN)
    with RunningServer.start(data, BERAY_PREFAB_AUTHORS="*") as server:
        with server.sign_up() as author:
            token = access_token(author)
        body = archives.pack(write_prefab(tmp_path / "new", MAIN, PLAIN, version="2.0.0"))
        assert refusal(post(server, token, body)) == (403, "NOT_THE_AUTHOR")
        server.stop()
        # The damaged prefab still has users with secrets.
        (data / "prefabs" / "probe" / "1.0.0" / "prefab.toml").write_text("[prefab")
        server.restart()
        assert refusal(post(server, token, body)) == (403, "NOT_THE_AUTHOR")


@pytest.mark.parametrize(
    "module",
    [
        "from json import nothing",
        "from beray.prefab import nothing",
        "import os\nopen(os.path.realpath('.') + '/nothing')",
    ],
)
def test_errors_of_imports_have_no_paths_of_the_server(
    server: RunningServer, token: str, tmp_path: Path, module: str
) -> None:
    folder = write_prefab(tmp_path / "a", f"{module}\n{MAIN}", PLAIN)
    answer = post(server, token, archives.pack(folder))
    assert refusal(answer) == (422, "INVALID_INPUT")
    for place in (sys.base_prefix, sys.prefix, str(server.data_dir), str(Path.cwd())):
        assert place not in answer.text


DEEP = """
import os
os.chdir(os.environ["HOME"])
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
"""


def test_an_import_that_digs_deep_leaves_nothing(
    server: RunningServer, token: str, tmp_path: Path
) -> None:
    folder = write_prefab(tmp_path / "a", DEEP + MAIN, PLAIN, prefab_id="deep")
    assert post(server, token, archives.pack(folder)).status_code == 201
    assert not list((server.data_dir / "prefabs").glob(".new-*"))
    assert not list((server.data_dir / "scratch").iterdir())


def test_a_manifest_that_takes_long_to_read_is_rejected(
    server: RunningServer, token: str, tmp_path: Path
) -> None:
    folder = write_prefab(tmp_path / "a", MAIN, f"[a.{'b.' * 40_000}c]")
    assert refusal(post(server, token, archives.pack(folder))) == (422, "INVALID_INPUT")


def test_only_authors_named_by_the_operator_add_prefabs(
    server: RunningServer, tmp_path: Path
) -> None:
    body = archives.pack(write_prefab(tmp_path / "a", MAIN, PLAIN))
    with server.sign_up() as stranger:
        answer = post(server, access_token(stranger), body)
    assert refusal(answer) == (403, "FORBIDDEN")
    assert post(server, "nonsense", body).status_code == 401


def test_programs_of_a_prefab_stay_executable_and_all_files_readable(tmp_path: Path) -> None:
    folder = write_prefab(tmp_path / "probe", MAIN, PLAIN)
    (folder / "tool").write_text("#!/bin/sh\n")
    (folder / "tool").chmod(0o700)
    (folder / "probe.py").chmod(0o400)
    archives.unpack_prefab(archives.pack(folder), tmp_path / "there")
    modes = {path.name: path.stat().st_mode & 0o700 for path in (tmp_path / "there").iterdir()}
    assert modes == {"tool": 0o700, "probe.py": 0o600, "prefab.toml": 0o600}
    closed = io.BytesIO()
    with zipfile.ZipFile(closed, "w") as archive:
        for name, mode in (("sub/", stat.S_IFDIR), ("sub/x", stat.S_IFREG)):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"")
    archives.unpack_prefab(closed.getvalue(), tmp_path / "open")
    assert stat.S_IMODE((tmp_path / "open" / "sub").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "open" / "sub" / "x").stat().st_mode) == 0o600
