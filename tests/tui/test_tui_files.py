"""The files of a task, also of one with more files than a screen, or a listing, can hold."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets.tree import TreeNode

from beray.client import BeRayClient
from beray.schema import FileItem, FilePage
from beray.testing import RunningServer
from tests.tui.dashboard_pilot import dashboard, main, screen, until, until_shown
from tui.state import file_listing
from tui.state.file_listing import ROOT, ListedFolder, TaskFileListing
from tui.widgets.file_browser import FileBrowser
from tui.widgets.file_tree import MAX_LEVELS, FileTree, MoreEntries


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of ten entries, so that a tree of thirty is a large one."""
    monkeypatch.setattr(file_listing, "PAGE_ENTRIES", 10)


def held_task(client: BeRayClient, server: RunningServer) -> Path:
    """Return the work_dir of a new task that is not started."""
    task_id = client.create_task("!true", start=False)["id"]
    return server.data_dir / "workspaces" / str(task_id)


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number:03}.txt").write_text(f"content {number}")


def tree(pilot: Pilot[None]) -> FileTree:
    return main(pilot).query_one(FileTree)


async def show_files(pilot: Pilot[None]) -> None:
    """Turn to the files, and wait for the reads that the first events of the task lead to."""
    await pilot.press("f")
    await until_shown(pilot, "● live")
    await until(
        pilot,
        lambda: (
            not main(pilot).files.is_due
            and not any(thread.name == "beray-call" for thread in threading.enumerate())
        ),
    )


def nodes(pilot: Pilot[None]) -> list[TreeNode[Any]]:
    """Return the visible nodes of the tree, from top to bottom."""
    shown = tree(pilot)
    found = (shown.get_node_at_line(line) for line in range(shown.last_line + 1))
    return [node for node in found if node is not None]


def rows(pilot: Pilot[None]) -> list[str]:
    """The lines of the tree: paths, and the words in the place of other entries."""
    found = []
    for node in nodes(pilot):
        data = node.data
        assert data is not None
        found.append(str(node.label) if isinstance(data, MoreEntries) else data["path"])
    return found


def names(folder: str, count: int, first: int = 0) -> list[str]:
    return [f"{folder}{number:03}.txt" for number in range(first, count)]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_long_folder_is_read_on_where_the_cursor_reaches_its_end(
    beray_server: RunningServer, beray_client: BeRayClient, size: tuple[int, int]
) -> None:
    fill(held_task(beray_client, beray_server), 35)
    async with dashboard(beray_server, beray_client, size) as pilot:
        await show_files(pilot)
        await until_shown(pilot, "000.txt", "… more", "content 0")
        assert rows(pilot) == [*names("", 10), "… more"]
        for count in (20, 30):
            await pilot.press("end")
            await until(pilot, lambda count=count: len(rows(pilot)) == count + 1)  # type: ignore[misc]
            assert rows(pilot) == [*names("", count), "… more"]
            # The cursor is on the first new one, which is previewed.
            await until_shown(pilot, f"content {count - 10}")
        await pilot.press("end")
        await until(pilot, lambda: rows(pilot) == names("", 35))
        await until_shown(pilot, "content 30")
        assert main(pilot).files.selected_file == "030.txt"


@pytest.mark.usefixtures("small_pages")
async def test_the_folders_of_a_large_tree_are_read_when_they_are_opened(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    work_dir = held_task(beray_client, beray_server)
    for folder in ("a", "b/c"):
        fill(work_dir / folder, 15)
    (work_dir / "empty").mkdir()
    async with dashboard(beray_server, beray_client) as pilot:
        await show_files(pilot)
        await until(pilot, lambda: rows(pilot) == ["a", "b", "empty"])
        await pilot.press("enter")
        opened = ["a", *names("a/", 10), "… more", "b", "empty"]
        await until(pilot, lambda: rows(pilot) == opened)
        await pilot.press("end", "enter")  # an empty folder has nothing to show
        await until(pilot, lambda: "empty" in main(pilot).query_one(FileBrowser).open_folders())
        await until(pilot, lambda: rows(pilot) == opened)

        # Read again: what was open stays open, and the cursor where it is.
        await pilot.press("home", "down", "down")
        await until(pilot, lambda: main(pilot).files.selected_file == "a/001.txt")
        (work_dir / "a/000.txt").unlink()
        (work_dir / "a/0000").write_text("new")
        (work_dir / "b/c/new").write_text("new")
        await pilot.press("f5")
        changed = ["a", "a/0000", *names("a/", 10, 1), "… more", "b", "empty"]
        await until(pilot, lambda: rows(pilot) == changed)
        assert main(pilot).files.selected_file == "a/001.txt"

        # A folder that was deleted goes, and with it what was open in it.
        for path in (work_dir / "a").iterdir():
            path.unlink()
        (work_dir / "a").rmdir()
        fill(work_dir / "b/d", 15)
        await pilot.press("f5")
        await until(pilot, lambda: rows(pilot) == ["b", "empty"])


@pytest.mark.usefixtures("small_pages")
async def test_all_folders_can_be_opened_at_once(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    work_dir = held_task(beray_client, beray_server)
    folders = [f"f{number}" for number in range(9)]
    for folder in folders:
        fill(work_dir / folder, 3)
    async with dashboard(beray_server, beray_client) as pilot:
        await show_files(pilot)
        await until(pilot, lambda: rows(pilot) == folders)
        await pilot.press("shift+space")
        everything = [path for name in folders for path in (name, *names(f"{name}/", 3))]
        await until(pilot, lambda: rows(pilot) == everything)


@pytest.mark.usefixtures("small_pages")
async def test_a_folder_that_cannot_be_read_says_why(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    work_dir = held_task(beray_client, beray_server)
    fill(work_dir / "a", 15)
    async with dashboard(beray_server, beray_client) as pilot:
        await show_files(pilot)
        await until(pilot, lambda: rows(pilot) == ["a"])
        for path in (work_dir / "a").iterdir():
            path.unlink()
        (work_dir / "a").rmdir()
        await pilot.press("enter")
        await until_shown(pilot, "'a' does not exist")


@pytest.mark.usefixtures("small_pages")
async def test_a_file_of_the_log_is_found_in_folders_that_were_not_open(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    work_dir = held_task(beray_client, beray_server)
    fill(work_dir / "deep/er", 15)
    async with dashboard(beray_server, beray_client) as pilot:
        await show_files(pilot)
        await until(pilot, lambda: rows(pilot) == ["deep"])
        browser = main(pilot).query_one(FileBrowser)
        browser.select("deep/er/004.txt")
        await until(pilot, lambda: main(pilot).files.selected_file == "deep/er/004.txt")
        await until_shown(pilot, "content 4")
        # It need not be among the first of its folder.
        browser.select("deep/er/014.txt")
        await until(pilot, lambda: main(pilot).files.selected_file == "deep/er/014.txt")
        await until_shown(pilot, "content 14")
        await until(pilot, lambda: rows(pilot)[-2:] == ["… more", "deep/er/014.txt"])
        (work_dir / "deep/new").write_text("new")
        await pilot.press("f5")
        await until(pilot, lambda: "deep/new" in rows(pilot))
        assert main(pilot).files.selected_file == "deep/er/014.txt"


async def test_a_deep_tree_is_shown_down_to_a_level(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    work_dir = held_task(beray_client, beray_server)
    folder = os.open(work_dir, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    async with dashboard(beray_server, beray_client) as pilot:
        await show_files(pilot)
        await until(pilot, lambda: len(nodes(pilot)) == MAX_LEVELS)
        last = nodes(pilot)[-1]
        assert not last.allow_expand
        assert str(last.label) == "d  too deep to be shown"


async def test_a_small_tree_is_shown_whole(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    fill(held_task(beray_client, beray_server) / "a/b", 12)
    async with dashboard(beray_server, beray_client) as pilot:
        await show_files(pilot)
        await until(pilot, lambda: rows(pilot) == ["a", "a/b", *names("a/b/", 12)])
        assert "… more" not in screen(pilot)


# What is known of the files, without a screen


def item(path: str, kind: str = "file") -> FileItem:
    return FileItem(name=path.rpartition("/")[2], path=path, type=kind)


def test_the_answer_of_a_server_without_pages_is_shown_in_part() -> None:
    listing = file_listing.whole([item(f"{number}") for number in range(2500)])
    assert len(listing.folders[ROOT].items) == file_listing.MAX_SHOWN
    assert listing.folders[ROOT].hidden == 500
    nameless = file_listing.whole([FileItem(name="a", type="file"), item("no/folder")])
    assert len(nameless.folders[ROOT].items) == 2


def test_what_was_read_meanwhile_is_kept() -> None:
    first, more = [item("a/1")], [item("a/1"), item("a/2")]
    new = TaskFileListing(
        {ROOT: ListedFolder([item("a", "directory")]), "a": ListedFolder(first, "x")},
        is_whole=False,
        asked={ROOT: 1, "a": 1, "gone": 3},
    )
    old = TaskFileListing(
        {
            ROOT: ListedFolder([]),
            "a": ListedFolder(more, "y"),
            "opened": ListedFolder([]),
            "folded": ListedFolder([]),
            "gone": ListedFolder([]),
        },
        is_whole=False,
    )
    merged = new.merged(old, {"a", "opened", "gone"})
    assert merged.folders == {
        **new.folders,
        "a": ListedFolder(more, "y"),
        "opened": ListedFolder([]),
    }
    assert merged.is_dropped("gone") and not merged.is_dropped("a")
    assert new.merged(None, ()) is new


def test_a_folder_is_read_up_to_what_was_shown_of_it(small_pages: None) -> None:
    class Client:
        calls = 0

        def list_files_page(self, task_id: int, path: str = ".", **options: object) -> FilePage:
            self.calls += 1
            return FilePage([item(f"{self.calls}-{n}") for n in range(10)], str(self.calls))

    client = Client()
    listing = file_listing.read(client, 1, {ROOT: 25}, is_large=True)  # type: ignore[arg-type]
    assert len(listing.folders[ROOT].items) == 30
    assert client.calls == 3
    # The first page of a whole tree is that of the work_dir if it has no folders.
    listing = file_listing.read(client, 1, {}, is_large=False)  # type: ignore[arg-type]
    assert (len(listing.folders[ROOT].items), listing.is_whole) == (10, False)
    assert client.calls == 4
