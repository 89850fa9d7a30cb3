"""Tests of the editing of drafts, which the composer and the message box share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tui.composer.draft_editor import DraftEditor
from tui.state import saved_state
from tui.state.task_draft import DraftOrigin, TaskDraft
from tui.state.user_state import UserState

KEY = "https://beray.example ada #1"
EMPTY = TaskDraft()
TOOLS = [{"docs": {"url": "https://docs.example/mcp"}}]


class Area:
    """Text area without a widget."""

    def __init__(self) -> None:
        self.text = ""
        self.at_end = True

    def replace_text(self, text: str, *, at_end: bool = True) -> None:
        self.text, self.at_end = text, at_end


class Editing:
    def __init__(self, user_state: UserState, initial: TaskDraft = EMPTY) -> None:
        self.area = Area()
        self.area.text = initial.goal
        self.user_state = user_state
        self.history: list[TaskDraft] = []
        self.editor = DraftEditor(
            area=lambda: self.area,
            history=lambda: self.history,
            user_state=user_state,
            key=KEY,
            initial=initial,
        )

    def type(self, text: str) -> None:
        self.area.text = text
        self.editor.text_changed()

    def recall(self, *, older: bool) -> str | None:
        found = self.editor.recall(older=older)
        self.editor.text_changed()  # as the text area reports it
        return self.area.text if found else None

    @property
    def saved(self) -> TaskDraft | None:
        return self.user_state.draft(KEY)


@pytest.fixture
def editing(tmp_path: Path) -> Iterator[Editing]:
    user_state = UserState(tmp_path / "d")
    yield Editing(user_state)
    user_state.close()


def test_drafts_survive_a_restart(editing: Editing, tmp_path: Path) -> None:
    editing.type("half a sen")
    editing.editor.add_attachments([tmp_path / "with.txt"])
    editing.editor.set_tools(TOOLS)
    draft = TaskDraft("half a sen", TOOLS, (tmp_path / "with.txt",))
    assert editing.editor.draft == draft
    editing.user_state.close()
    later = UserState(tmp_path / "d")
    kept = later.draft(KEY)
    assert kept == draft
    again = Editing(later, kept)
    assert again.editor.draft == draft
    again.type("")
    again.editor.remove_all()
    again.user_state.close()
    assert UserState(tmp_path / "d").draft(KEY) is None


def test_the_origin_of_a_draft_survives_a_restart_and_can_be_removed(
    editing: Editing, tmp_path: Path
) -> None:
    origin = DraftOrigin(12, "c4")
    editing.editor.open(KEY, TaskDraft(origin=origin))
    assert editing.editor.draft == TaskDraft(origin=origin) and not editing.editor.draft.is_empty
    editing.type("go on")
    editing.user_state.close()
    later = UserState(tmp_path / "d")
    kept = later.draft(KEY)
    assert kept == TaskDraft("go on", origin=origin)
    again = Editing(later, kept)
    again.history = [TaskDraft("!make")]
    again.editor.replace(again.history[0])
    assert again.editor.draft == TaskDraft("!make", origin=origin)
    again.editor.remove(origin)
    assert again.editor.draft == TaskDraft("!make")
    again.editor.open(KEY, kept)
    again.editor.remove_all()
    assert again.editor.origin is None
    later.add_to_history(kept)
    assert later.history() == (TaskDraft("go on"),)
    later.close()


@pytest.mark.parametrize("stored", [{"task": "12", "checkpoint": "c1"}, {"task": 12}, 7, None])
def test_an_invalid_origin_is_ignored(stored: object) -> None:
    read, invalid = saved_state.DRAFTS.read({KEY: {"goal": "g", "from": stored}})
    assert read == {KEY: TaskDraft("g")} and not invalid


def test_each_key_has_its_own_draft(editing: Editing) -> None:
    editing.type("for the first")
    editing.editor.save()
    editing.editor.open("other", TaskDraft())
    editing.type("for the second")
    assert editing.saved == TaskDraft("for the first")
    assert editing.user_state.draft("other") == TaskDraft("for the second")
    editing.editor.open(None, TaskDraft())
    editing.type("for nothing")
    assert editing.user_state.draft("other") == TaskDraft("for the second")


def test_the_history_is_navigated_by_prefix(editing: Editing) -> None:
    editing.history = [TaskDraft("!make\nall", TOOLS), TaskDraft("write"), TaskDraft("!ls")]
    assert editing.recall(older=False) is None
    editing.type("!")
    assert editing.recall(older=True) == "!ls" and not editing.area.at_end
    assert editing.recall(older=True) == "!make\nall"
    assert editing.editor.draft == TaskDraft("!make\nall", TOOLS)
    assert editing.recall(older=True) is None
    # A recalled entry is not the draft before it is edited.
    editing.editor.save()
    assert editing.saved == TaskDraft("!")
    assert editing.recall(older=False) == "!ls" and editing.area.at_end
    assert editing.recall(older=False) == "!"
    assert editing.editor.draft == TaskDraft("!")


def test_an_edited_entry_of_the_history_becomes_the_draft(editing: Editing) -> None:
    editing.history = [TaskDraft("one"), TaskDraft("two\x1b[2J", TOOLS)]
    editing.editor.recall(older=True)
    editing.area.text = "two␛[2J"  # as the text area shows it
    editing.editor.text_changed()
    assert editing.editor.is_recalled and editing.saved is None
    editing.type("two and more")
    assert editing.saved == TaskDraft("two and more", TOOLS)
    assert editing.recall(older=True) is None, "nothing starts with it"


def test_an_attachment_is_recognised_by_its_name(editing: Editing, tmp_path: Path) -> None:
    first, other = tmp_path / "a" / "x.md", tmp_path / "b" / "x.md"
    assert editing.editor.last_directory == Path.cwd()
    assert editing.editor.add_attachments([first]) == ""
    assert "x.md exists already" in editing.editor.add_attachments([other, tmp_path / "y"])
    assert editing.editor.attachments == (first, tmp_path / "y")
    assert editing.editor.last_directory == tmp_path
    editing.editor.set_tools(TOOLS)
    editing.editor.remove(TOOLS[0])
    editing.editor.remove(first)
    assert editing.editor.draft == TaskDraft(attachments=(tmp_path / "y",)) == editing.saved


def test_an_entry_replaces_text_and_servers_and_keeps_attachments(
    editing: Editing, tmp_path: Path
) -> None:
    editing.editor.add_attachments([tmp_path])
    editing.editor.replace(TaskDraft("write", TOOLS))
    assert editing.saved == TaskDraft("write", TOOLS, (tmp_path,))
