"""Data directories in places that sandboxed commands can see, searched by each kind of command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from beray import BeRayClient
from beray.server.lifecycle import LOCK_FILE
from beray.server.prefabs import archives
from beray.server.sandbox.layout import check_layout, private_paths
from beray.server.sandbox.masking import UnmaskableLayout
from beray.server.services import DATABASE_FILE
from beray.server.settings import Settings
from beray.testing import RunningServer
from beray.testing.server import FORKER
from tests.server.gateway.prefab_calls import Caller, add, call
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import text

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

LIBRARIES = (
    "/usr/lib",
    "/usr/share",
    "/usr/include",
    f"{sys.prefix}/lib",
    f"{sys.base_prefix}/lib",
)
"""Directories with most of a system's files, in which no test places a data directory."""
SEARCH = (
    "find / "
    + "".join(f"-path {path} -prune -o " for path in ("/proc", *LIBRARIES))
    + "( -name beray.sqlite3* -o -name server.lock -o -name *.eml"
    " -o -name theirs.txt -o -name mine.txt ) -print"
)
"""Finds files of the server and of other tasks, anywhere else; ``mine.txt`` is the task's own."""
PREFAB = f"""
import subprocess
def main(call) -> dict:
    (call.outputs / "mine.txt").touch()
    found = subprocess.run({SEARCH.split()}, capture_output=True, text=True).stdout.splitlines()
    (call.outputs / "mine.txt").unlink()
    return {{"found": found, "own": [str(call.outputs / "mine.txt")]}}
"""


@dataclass
class Place:
    """A data directory, the settings of its server, and what to undo afterwards."""

    data_dir: Path
    environ: dict[str, str] = field(default_factory=dict)


class Places:
    """Makes directories outside of ``tmp_path`` and removes them at the end."""

    def __init__(self, tmp_path: Path, undo: ExitStack) -> None:
        self.tmp_path = tmp_path
        self.mark = uuid.uuid4().hex
        self._undo = undo

    def below(self, parent: str) -> Place:
        folder = Path(parent) / f"beray-test-{self.mark}"
        try:
            folder.mkdir()
        except OSError as error:
            pytest.skip(f"no directory can be made in {parent}: {error.strerror}")
        self._undo.callback(shutil.rmtree, folder)
        return Place(folder / "data")

    def mounted(self, source: Path, point: Path) -> None:
        for folder in (source, point):
            folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "--bind", source, point], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no bind mount can be made: {done.stderr}")
        unmount = ["umount", "--lazy", str(point)]
        self._undo.callback(lambda: subprocess.run(unmount, check=True))

    def of_this_test(self, paths: list[str]) -> list[str]:
        """Leave out the directories of tests that run at the same time."""
        return [path for path in paths if "/beray-test-" not in path or self.mark in path]

    def agents_see(self, path: Path, data_dir: Path, suffix: str = "") -> Place:
        return Place(data_dir, {"BERAY_AGENT_PATHS": f"{path}{suffix}"})


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    with ExitStack() as undo:
        yield Places(tmp_path, undo)


def below_a_system_directory(places: Places) -> Place:
    return places.below("/opt")


def below_a_private_folder_of_a_system_directory(places: Places) -> Place:
    folder = places.below("/opt").data_dir.parent
    (folder / "private/data").mkdir(parents=True)
    (folder / "private").chmod(0o700)
    return Place(folder / "private/data")


def below_a_private_folder_of_the_interpreter(places: Places) -> Place:
    folder = places.below(sys.prefix).data_dir.parent
    folder.chmod(0o700)
    return Place(folder / "data")


def below_usr(places: Places) -> Place:
    return places.below("/usr/local")


def below_nix(places: Places) -> Place:
    return places.below("/nix")


def below_the_interpreter(places: Places) -> Place:
    return places.below(sys.prefix)


def below_an_agent_path(places: Places) -> Place:
    return places.agents_see(places.tmp_path / "srv", places.tmp_path / "srv/a/b/data")


def below_a_writable_agent_path(places: Places) -> Place:
    return places.agents_see(places.tmp_path / "srv", places.tmp_path / "srv/a/b/data", "=rw")


def below_an_agent_path_that_is_a_link(places: Places) -> Place:
    (places.tmp_path / "real/x").mkdir(parents=True)
    (places.tmp_path / "link").symlink_to("real/x")
    return places.agents_see(places.tmp_path / "link", places.tmp_path / "real/x/data")


def reached_through_a_link(places: Places) -> Place:
    (places.tmp_path / "srv/real").mkdir(parents=True)
    (places.tmp_path / "elsewhere").symlink_to("srv/real")
    return places.agents_see(places.tmp_path / "srv", places.tmp_path / "elsewhere/data", "=rw")


def mounted_below_opt(places: Places) -> Place:
    alias = places.below("/opt").data_dir
    places.mounted(places.tmp_path / "data", alias / "with space")
    return Place(places.tmp_path / "data")


def whose_parent_is_mounted_below_an_agent_path(places: Places) -> Place:
    places.mounted(places.tmp_path / "parent", places.tmp_path / "srv/alias")
    return places.agents_see(places.tmp_path / "srv", places.tmp_path / "parent/sub/data", "=rw")


def a_part_of_which_is_mounted_below_opt(places: Places) -> Place:
    alias = places.below("/opt").data_dir
    places.mounted(places.tmp_path / "data/workspaces", alias)
    return Place(places.tmp_path / "data")


def whose_workspaces_are_another_mount(places: Places) -> Place:
    volume = places.below("/opt").data_dir
    places.mounted(volume, places.tmp_path / "data/workspaces")
    return Place(places.tmp_path / "data")


def that_overlaps_several_agent_paths(places: Places) -> Place:
    srv = places.tmp_path / "srv"
    (srv / "x/tool").mkdir(parents=True)
    paths = f"{srv}/a=rw,{srv}=rw,{srv}/x/tool,//{srv}/./,{srv}/missing"
    return Place(srv / "a/data", {"BERAY_AGENT_PATHS": paths})


def beside_the_data_of_other_servers(places: Places) -> Place:
    user_dir = places.tmp_path / "srv/beray"
    for name in ("server/beray.sqlite3", "theirs.txt"):
        (user_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (user_dir / name).touch()
    place = places.agents_see(places.tmp_path / "srv", places.tmp_path / "data", "=rw")
    place.environ["BERAY_HOME"] = str(user_dir)
    return place


@pytest.mark.parametrize(
    "layout",
    [
        below_a_system_directory,
        below_a_private_folder_of_a_system_directory,
        below_a_private_folder_of_the_interpreter,
        below_usr,
        below_nix,
        below_the_interpreter,
        below_an_agent_path,
        below_a_writable_agent_path,
        below_an_agent_path_that_is_a_link,
        reached_through_a_link,
        mounted_below_opt,
        whose_parent_is_mounted_below_an_agent_path,
        a_part_of_which_is_mounted_below_opt,
        whose_workspaces_are_another_mount,
        that_overlaps_several_agent_paths,
        beside_the_data_of_other_servers,
    ],
)
def test_no_command_finds_a_data_directory(layout: object, places: Places) -> None:
    assert callable(layout)
    place: Place = layout(places)
    environ = {"BERAY_COMMAND": "/bin/sh", "BERAY_PREFAB_AUTHORS": "*"} | place.environ
    with RunningServer.start(place.data_dir, environ) as server:
        client, other = server.sign_up(), server.sign_up()
        ended(other, "!echo theirs > theirs.txt; cp theirs.txt /tmp")
        left = other.create_task("!cp /bin/sh /tmp/theirs.txt; sleep 600")
        seen = found(client, f"!touch mine.txt; {shell(SEARCH)}")
        assert places.of_this_test(seen) == ["/workspace/mine.txt"]
        present = [path for path in agent_paths(place) if os.path.lexists(path)]
        # Twice: what the first one does must not help the second one.
        for _ in range(2):
            goal = f"touch mine.txt; {moves(place)}; {shell(SEARCH)}"
            seen = found(client, goal, runner="command")
            assert places.of_this_test(seen) == ["/workspace/mine.txt"]
            assert [path for path in agent_paths(place) if os.path.lexists(path)] == present
        returned = found_by_a_prefab(server, places.tmp_path)
        assert places.of_this_test(returned["found"]) == returned["own"]
        assert (place.data_dir / "beray.sqlite3").exists()
        other.stop_task(left["id"])


def agent_paths(place: Place) -> list[str]:
    named = place.environ.get("BERAY_AGENT_PATHS")
    return named.replace("=rw", "").split(",") if named else []


def moves(place: Place) -> str:
    """Commands that try to move what contains the data directory, wherever it is visible."""
    paths = agent_paths(place)
    return ":" + "".join(f"; for p in {at}/* {at}/*/*; do mv $p $p-moved; done" for at in paths)


def shell(command: str) -> str:
    return " ".join(f"'{word}'" for word in command.split()) + " 2>/dev/null | sort"


def ended(client: BeRayClient, goal: str, runner: str | None = None) -> str:
    task = client.create_task(goal, runner=runner)
    events = list(client.stream_task_updates(task["id"]))
    assert events[-1]["status"] == "COMPLETED", events
    return text(events)


def found(client: BeRayClient, goal: str, runner: str | None = None) -> list[str]:
    return [line for line in ended(client, goal, runner).splitlines() if line.startswith("/")]


def found_by_a_prefab(server: RunningServer, tmp_path: Path) -> dict[str, list[str]]:
    caller = Caller.new(server)
    folder = write_prefab(tmp_path / f"prefab-{uuid.uuid4().hex}", PREFAB, "[functions.main]")
    answer = add(caller.account, archives.pack(folder))
    assert answer.ok, answer.text
    result = caller.result(call("main"))
    assert result["status"] == "SUCCESS", result
    returned: dict[str, list[str]] = result["output"]["output"]
    return returned


UNMASKABLE = {
    "a system directory": ("/opt", "", "/opt"),
    "the directory of the shell": (
        os.path.dirname(os.path.realpath("/bin/sh")),
        "",
        "part of the system",
    ),
    "a file of the system": ("/etc", "", "part of the system"),
    "the root directory": ("/", "", "which commands need"),
    "the interpreter's directory": (sys.prefix, "", sys.prefix),
    "above the interpreter": (os.path.dirname(sys.prefix), "", sys.prefix),
    "an agent path": ("{tmp}/data", "{tmp}/data", "BERAY_AGENT_PATHS"),
    "a writable agent path": ("{tmp}/data", "/usr, {tmp}/./data/=rw", "BERAY_AGENT_PATHS"),
    "above an agent path": ("{tmp}/data", "{tmp}/data/agent", "{tmp}/data/agent"),
    "a link to an agent path": ("{tmp}/link", "{tmp}/data", "BERAY_AGENT_PATHS"),
    "an agent path that is a link": ("{tmp}/data", "{tmp}/link", "{tmp}/link"),
    "the whole file system": ("{tmp}/data", "/", "root directory"),
    "the host's processes": ("{tmp}/data", "/proc", "/proc"),
    "a host process": ("{tmp}/data", "/proc/1/root", "/proc"),
    "a tool behind a link": ("{tmp}/data", "{tmp},{tmp}/data/tool", "{tmp}/data/tool"),
}


@pytest.mark.parametrize("how", UNMASKABLE)
def test_a_layout_that_cannot_be_masked_is_refused(how: str, tmp_path: Path) -> None:
    data, paths, named = (part.format(tmp=tmp_path) for part in UNMASKABLE[how])
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data/tool").symlink_to("../elsewhere")
    before = set(os.listdir(data))
    log = tmp_path / "log"
    environ = dict(os.environ, BERAY_AGENT_PATHS=paths)
    process = FORKER.start(["--port", "0", "--data-dir", data], environ, log)
    try:
        assert process.wait(30) == 1
    finally:
        process.kill()
    message = log.read_text().splitlines()[-1]
    assert "hidden from sandboxed commands" in message or "root directory" in message
    assert named in message
    assert "--data-dir" in message or "BERAY_AGENT_PATHS" in message
    # Other processes may create files above the interpreter, such as caches.
    assert not (set(os.listdir(data)) - before) & {LOCK_FILE, DATABASE_FILE, "workspaces"}


def test_a_mount_of_the_data_directory_is_refused_as_an_agent_path(
    places: Places, tmp_path: Path
) -> None:
    places.mounted(tmp_path / "data", tmp_path / "alias")
    (tmp_path / "data/agent").mkdir()
    for path in (tmp_path / "alias", tmp_path / "alias/agent"):
        settings = Settings(data_dir=tmp_path / "data", agent_paths=str(path))
        with pytest.raises(UnmaskableLayout, match="also mounted"):
            check_layout(settings)


def test_a_mount_that_appears_later_is_masked(places: Places, tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        alias = places.below("/opt").data_dir
        places.mounted(tmp_path / "data", alias)
        seen = found(client, f"!touch mine.txt; {shell(SEARCH)}")
        assert places.of_this_test(seen) == ["/workspace/mine.txt"]


def test_a_server_whose_user_has_no_home_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERAY_HOME", "~no-such-user/beray")
    paths = {secret.path for secret in private_paths(Settings(data_dir=tmp_path / "data"))}
    assert str(tmp_path / "data") in paths
