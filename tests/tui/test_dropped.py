"""Tests of files dropped on the terminal, in the formats of several terminals."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events

from tests.tui import dashboard_pilot
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import at_rest, until, until_shown
from tui.composer.dropped import dropped_paths
from tui.composer.listing import DirectoryListing
from tui.composer.messages import DirectoryListed
from tui.composer.path_screen import PathInput, PathScreen


def nothing(_path: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/etc/hosts", ["/etc/hosts"]),
        ("/etc/hosts \n", ["/etc/hosts"]),
        ("'/a/My File.txt' ", ["/a/My File.txt"]),
        ('"/a/My File.txt"', ["/a/My File.txt"]),
        (r"/a/My\ File\(1\).txt", ["/a/My File(1).txt"]),
        (r"'/a/it'\''s.txt'", ["/a/it's.txt"]),
        ("/a/1 '/b/2 3'", ["/a/1", "/b/2 3"]),
        ("/a/1\n/b/2 3\n", ["/a/1", "/b/2 3"]),
        ("/a/My File.txt", ["/a/My File.txt"]),
        ("file:///a/My%20File.txt", ["/a/My File.txt"]),
        ("file://localhost/a/b", ["/a/b"]),
        ("file:///a/%C3%BC\r\nfile:///b", ["/a/ü", "/b"]),
        ("file:///a/%FF", ["/a/\udcff"]),
        ("/a/it's", ["/a/it's"]),
        ("/a/日本語", ["/a/日本語"]),
    ],
)
def test_pasted_paths(text: str, expected: list[str]) -> None:
    assert [str(path) for path in dropped_paths(text, nothing, windows=False)] == expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "notes.txt", "sub/notes.txt", "./a", "hello /etc/hosts", "file://elsewhere/a", "file:", "file:///a%00b",
     "https://a.example/b", "/a\nnotes", "file://[bad/x"],
)  # fmt: skip
def test_other_text_is_not_a_path(text: str) -> None:
    assert dropped_paths(text, nothing, windows=False) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"C:\a\b.txt", [r"C:\a\b.txt"]),
        (r'"C:\My Files\b.txt"', [r"C:\My Files\b.txt"]),
        (r'"C:\My Files\b.txt" D:\c', [r"C:\My Files\b.txt", r"D:\c"]),
        (r"\\server\share\b", [r"\\server\share\b"]),
        ("file:///C:/My%20Files/b.txt", [r"C:\My Files\b.txt"]),
        (r"a\b", []),
    ],
)
def test_windows_paths(text: str, expected: list[str]) -> None:
    assert [str(path) for path in dropped_paths(text, nothing, windows=True)] == expected


def test_an_existing_path_with_spaces_is_one_path(tmp_path: Path) -> None:
    odd = tmp_path / "a" / "x 'y" / "etc"
    odd.mkdir(parents=True)
    assert dropped_paths(f"{odd} ") == [odd]
    two = tmp_path / "a /b"
    two.mkdir(parents=True)
    assert dropped_paths(str(two)) == [two]
    assert dropped_paths(f"{tmp_path}/a /b") == [two]


async def test_the_path_dialog_accepts_dropped_files(tmp_path: Path) -> None:
    folder = tmp_path / "in here"
    (folder / "ab").mkdir(parents=True)
    for name in ("a", "b c"):
        (folder / name).write_text("1")
    chosen: list[list[Path] | None] = []
    app = stub.stub_app(stub.full_client(), tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "● online")
        for pasted, keys, expected in (
            (f"'{folder}/a' ", ["enter"], [folder / "a"]),
            (f"{folder}/b\\ c".replace("in here", "in\\ here"), ["enter"], [folder / "b c"]),
            (folder.as_uri(), ["enter"], [folder]),
            (f"'{folder}/a' '{folder}/b c'", [], [folder / "a", folder / "b c"]),
        ):
            screen = PathScreen(Path.cwd())
            await app.push_screen(screen, chosen.append)
            await until(pilot, lambda: isinstance(app.focused, PathInput) and app.focused.value)
            app.post_message(events.Paste(pasted))
            if keys:
                await until(pilot, lambda: "in here" in app.focused.value)
                await pilot.press(*keys)
            await until(pilot, lambda: chosen)
            assert chosen.pop() == expected
        screen = PathScreen(Path.cwd(), allow_multiple=False)
        await app.push_screen(screen, chosen.append)
        await until(pilot, lambda: isinstance(app.focused, PathInput) and app.focused.value)
        app.post_message(events.Paste(f"'{folder}/a' '{folder}/b c'"))
        await until_shown(pilot, "2 files were dropped; choose only one")
        screen.post_message(DirectoryListed(f"{Path.cwd()}/", DirectoryListing(Path.cwd())))
        await at_rest()
        assert "choose only one" in dashboard_pilot.screen(pilot)
