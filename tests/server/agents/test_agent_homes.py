"""Private copies of the operator's writable agent paths."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.server.runners import agent_homes
from beray.server.runners.agent_homes import AgentCopyError
from beray.server.runners.base import Job, Outcome
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer
from tests.server.agents.agent_bench import Bench, bench
from tests.support import done, text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory with an agent's settings."""
    folder = tmp_path / "home" / ".agent"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "token").write_text("first")
    (folder / "token").chmod(0o600)
    (folder / "deep" / "er" / "tool").write_bytes(b"\0binary")
    (folder / "deep" / "er" / "tool").chmod(0o755)
    return folder


def shared(tmp_path: Path, paths: str, **options: Any) -> Settings:
    data_dir = tmp_path / "data"
    data_dir.mkdir(exist_ok=True)
    settings = Settings(data_dir=data_dir, agent_paths=paths, **options)
    settings.set_listener("192.0.2.1", embedded=False)
    return settings


def binds(settings: Settings, user_id: int) -> list[Bind]:
    return agent_homes.binds(settings, Sandbox("bubblewrap", settings=settings), user_id)


def copy_of(settings: Settings, user_id: int) -> Path:
    [bind] = binds(settings, user_id)
    assert bind.writable
    return Path(bind.path)


def test_each_user_of_a_shared_server_has_a_copy(tmp_path: Path, source: Path) -> None:
    settings = shared(tmp_path, f"{source}=rw,/opt/tool")
    [mine, tool] = binds(settings, 1)
    [other, _] = binds(settings, 2)
    assert tool == Bind("/opt/tool")
    assert (mine.inside, mine.writable) == (str(source), True)
    assert len({mine.path, other.path, str(source)}) == 3
    copy = Path(mine.path)
    assert (copy / "token").read_text() == "first"
    assert (copy / "token").stat().st_mode & 0o777 == 0o600
    assert (copy / "deep" / "er" / "tool").read_bytes() == b"\0binary"
    assert (copy / "deep" / "er" / "tool").stat().st_mode & 0o777 == 0o755
    home = agent_homes.home_of(settings, 1)
    assert home is not None and home.stat().st_mode & 0o777 == 0o700


def test_a_copy_persists_when_the_original_changes(tmp_path: Path, source: Path) -> None:
    settings = shared(tmp_path, f"{source}=rw")
    (copy_of(settings, 1) / "token").write_text("rotated")
    (source / "token").write_text("second")
    assert (copy_of(settings, 1) / "token").read_text() == "rotated"
    assert (copy_of(settings, 2) / "token").read_text() == "second"


def test_links_are_copied_as_links_and_special_files_are_not(tmp_path: Path, source: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("of the host")
    (source / "outside").symlink_to(secret)
    (source / "file").symlink_to(secret / "key")
    (source / "inside").symlink_to("deep/er")
    (source / "dangling").symlink_to("nowhere")
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(source / "socket"))
        copy = copy_of(shared(tmp_path, f"{source}=rw"), 1)
    assert os.readlink(copy / "outside") == str(secret)
    assert os.readlink(copy / "file") == str(secret / "key")
    assert os.readlink(copy / "inside") == "deep/er"
    assert os.readlink(copy / "dangling") == "nowhere"
    assert not os.path.lexists(copy / "fifo")
    assert not os.path.lexists(copy / "socket")


def test_a_path_that_is_a_link_or_a_file_is_copied(tmp_path: Path, source: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(source)
    assert (copy_of(shared(tmp_path, f"{link}=rw"), 1) / "token").read_text() == "first"
    assert copy_of(shared(tmp_path, f"{source}/token=rw"), 1).read_text() == "first"


def test_a_missing_path_is_bound_once_it_exists(tmp_path: Path) -> None:
    later = tmp_path / "later"
    settings = shared(tmp_path, f"{later}=rw")
    assert not copy_of(settings, 1).exists()
    later.mkdir()
    assert copy_of(settings, 1).is_dir()


def test_the_data_directory_is_never_a_part_of_a_copy(tmp_path: Path, source: Path) -> None:
    settings = shared(tmp_path, f"{tmp_path}=rw")
    (settings.data_dir / "beray.sqlite3").write_text("of all users")
    copy = copy_of(settings, 1)
    assert (copy / "home" / ".agent" / "token").read_text() == "first"
    assert not (copy / "data").exists()


def test_directories_without_write_permission_are_copied(tmp_path: Path, source: Path) -> None:
    (source / "deep").chmod(0o500)
    try:
        copy = copy_of(shared(tmp_path, f"{source}=rw"), 1)
    finally:
        (source / "deep").chmod(0o700)
    assert (copy / "deep").stat().st_mode & 0o777 == 0o500
    assert (copy / "deep" / "er" / "tool").exists()
    (copy / "deep").chmod(0o700)


def test_runs_that_start_concurrently_make_one_copy(tmp_path: Path, source: Path) -> None:
    for number in range(300):
        (source / f"file{number}").write_bytes(b"x" * 1000)
    settings = shared(tmp_path, f"{source}=rw")
    with ThreadPoolExecutor(8) as pool:
        copies = set(pool.map(lambda _: copy_of(settings, 1), range(8)))
    [copy] = copies
    assert len(list(copy.iterdir())) == 302
    assert sorted(path.name for path in copy.parent.iterdir()) == sorted([".lock", copy.name])


def test_an_interrupted_copy_is_made_again(tmp_path: Path, source: Path) -> None:
    settings = shared(tmp_path, f"{source}=rw")
    copy = copy_of(settings, 1)
    # This is the state after the server was killed while copying.
    copy.rename(copy.with_name(f".unfinished-{copy.name}"))
    (copy.with_name(f".unfinished-{copy.name}") / "token").write_text("half")
    assert (copy_of(settings, 1) / "token").read_text() == "first"
    assert len(list(copy.parent.iterdir())) == 2


def test_a_copy_that_would_be_too_large_is_not_made(tmp_path: Path, source: Path) -> None:
    (source / "model").write_bytes(b"x" * 100_000)
    settings = shared(tmp_path, f"{source}=rw", agent_copy_bytes=50_000)
    with pytest.raises(AgentCopyError, match=r"would exceed 50,000 bytes \(BERAY_AGENT_COPY_BYTES"):
        binds(settings, 1)
    home = agent_homes.home_of(settings, 1)
    assert home is not None and [path.name for path in home.iterdir()] == [".lock"]


def test_a_copy_that_has_grown_too_large_is_an_error(tmp_path: Path, source: Path) -> None:
    settings = shared(tmp_path, f"{source}=rw", agent_copy_bytes=50_000)
    (copy_of(settings, 1) / "cache").write_bytes(b"x" * 200_000)
    with pytest.raises(AgentCopyError, match="agent-homes/1 in the data directory"):
        binds(settings, 1)
    copy_of(settings, 2)


def test_a_copy_that_grows_too_large_ends_the_agent(tmp_path: Path, source: Path) -> None:
    environ = {
        "BERAY_PUBLIC_URL": "https://beray.example",
        "BERAY_COMMAND": "sh",
        "BERAY_AGENT_PATHS": f"{source}=rw",
        "BERAY_AGENT_COPY_BYTES": "1000000",
    }
    with RunningServer.start(tmp_path / "server", environ) as server:
        if "sandbox: bubblewrap" not in server.log.read_text():
            pytest.skip("bubblewrap does not work here")
        with server.sign_up() as client, server.sign_up() as other:
            fill = f"head -c 3000000 /dev/zero > {source}/cache; sleep 60"
            events: list[Any] = done(client, fill)
            assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "quota"), events
            assert "exceed 2,000,000 bytes (BERAY_AGENT_COPY_BYTES)" in events[-2]["details"]
            # Agents of other users are not affected.
            assert done(client, "!sleep 0.1")[-1]["status"] == "COMPLETED"
            assert done(other, "sleep 0.1")[-1]["status"] == "COMPLETED"


def test_without_a_sandbox_there_is_nothing_to_bind(tmp_path: Path, source: Path) -> None:
    settings = shared(tmp_path, f"{source}=rw")
    assert agent_homes.binds(settings, Sandbox("none", settings=settings), 1) == []


def test_a_copy_of_too_many_files_is_not_made(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_homes, "MAX_ENTRIES", 3)
    with pytest.raises(AgentCopyError, match="would exceed 3 files"):
        binds(shared(tmp_path, f"{source}=rw"), 1)


def test_personal_servers_use_the_paths_in_place_unless_they_are_root(
    tmp_path: Path, source: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "data", agent_paths=f"{source}=rw")
    settings.data_dir.mkdir()
    [bind] = binds(settings, 1)
    if os.geteuid() == 0:
        assert bind.inside == str(source)
        assert binds(settings, 2) == [bind]
    else:
        assert bind == Bind(str(source), writable=True)


async def test_agents_of_different_users_do_not_see_each_others_settings(
    tmp_path: Path, source: Path
) -> None:
    work: Bench = await bench(tmp_path, "bubblewrap")
    script = f"cat {source}/token; echo '{{goal}}' > {source}/token; echo x > {source}/planted; ls {source}"
    runner = work.command(f'sh -c "{script}"', agent_paths=f"{source}=rw", shared=True)

    uid_of = Sandbox(work.kind, settings=work.settings(shared=True)).uid_of
    others = Workspaces(tmp_path / "workspaces", uid_of=uid_of).create(2, 2)

    async def run(user_id: int) -> str:
        work.recorder.events.clear()
        work_dir = work.work_dir if user_id == 1 else others
        job = Job(user_id, "rotated", None, work_dir, user_id=user_id)
        assert await runner.run(job, work.recorder) == Outcome("COMPLETED")
        return work.recorder.text()

    assert await run(1) == "firstdeep\nplanted\ntoken\n"
    assert await run(2) == "firstdeep\nplanted\ntoken\n"
    assert (await run(1)).startswith("rotated\n")
    assert sorted(os.listdir(source)) == ["deep", "token"]


async def test_a_copy_that_cannot_be_made_fails_the_task_with_the_reason(
    tmp_path: Path, source: Path
) -> None:
    work: Bench = await bench(tmp_path, "bubblewrap")
    options: dict[str, Any] = {"agent_paths": f"{source}=rw", "agent_copy_bytes": 1, "shared": True}
    for runner in (work.command("true", **options), work.acp(**options)):
        assert await work.run(runner, "x") == Outcome("FAILED", "agent")
        assert "BERAY_AGENT_COPY_BYTES" in work.recorder.errors()[-1][1]


def test_users_of_a_real_server_have_copies_that_persist(tmp_path: Path, source: Path) -> None:
    environ = {
        "BERAY_PUBLIC_URL": "http://beray.example",
        "BERAY_COMMAND": f"sh -c 'cat {source}/token; cat > {source}/token'",
        "BERAY_AGENT_PATHS": f"{source}=rw",
    }
    with RunningServer.start(tmp_path / "server", environ) as server:
        if '"sandbox: bubblewrap"' not in server.log.read_text():
            pytest.skip("bubblewrap does not work here")

        def answer(client: BeRayClient, goal: str) -> str:
            events = list(client.stream_task_updates(client.create_task(goal)["id"]))
            assert events[-1]["status"] == "COMPLETED", events
            return text(events)

        with server.sign_up() as one, server.sign_up() as two:
            assert answer(one, "of one") == "first"
            assert answer(two, "of two") == "first"
            server.restart()
            assert answer(one, "again") == "of one"
            assert answer(two, "again") == "of two"
    assert (source / "token").read_text() == "first"
