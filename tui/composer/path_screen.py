"""Choose a local file or folder by its path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from beray.sanitize import one_line
from beray.transfers.local_names import on_disk, on_wire
from tui import sanitize, status
from tui.composer import messages
from tui.composer.attachment_list import MUTED
from tui.composer.dropped import dropped_paths
from tui.composer.listing import Entry, Listing, listed, shown_folder, split
from tui.composer.sanitized_input import Line
from tui.io import background


class PathLine(Line):
    """A line that recognises the paths of files dropped on the terminal."""

    class Dropped(Message):
        """Files were dropped; ``paths`` are absolute."""

        def __init__(self, paths: list[Path]) -> None:
            super().__init__()
            self.paths = paths

    def _on_paste(self, event: events.Paste) -> None:
        paths = dropped_paths(event.text)
        if not paths:
            super()._on_paste(event)
            return
        event.prevent_default()
        event.stop()
        self.post_message(self.Dropped(paths))


class PathScreen(ModalScreen[list[Path] | None]):
    """Dialog that returns absolute paths, or ``None``. Tab completes what is typed.

    Several paths are returned only if several files were dropped. The first line of the list is
    the directory itself, once its name is followed by a separator.

    Args:
        folder: directory to begin in.
        title: title of the dialog.
        types: endings, in lower case, that a file may have; empty for any.
        folders: whether a directory can be chosen.
        many: whether several files can be dropped at once.
    """

    CSS_PATH = "choosing.tcss"
    AUTO_FOCUS = "Line"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel"),
        Binding("tab", "complete", "Complete", priority=True),
        Binding("up", "move('cursor_up')", show=False, priority=True),
        Binding("down", "move('cursor_down')", show=False, priority=True),
        Binding("pageup", "move('page_up')", show=False, priority=True),
        Binding("pagedown", "move('page_down')", show=False, priority=True),
    ]

    def __init__(
        self,
        folder: Path,
        title: str = "Attach a file or a folder",
        types: tuple[str, ...] = (),
        *,
        folders: bool = True,
        many: bool = True,
    ) -> None:
        super().__init__()
        self._takes_many = many
        self._title = title
        self._types = types
        self._takes_folders = folders
        self._start = f"{shown_folder(folder)}{os.sep}".replace(os.sep * 2, os.sep)
        self._folders = {self._start: folder}
        """The folders that were gone into, by how they are shown: not every name can be typed."""
        self._listing: Listing | None = None
        self._listed_text = ""
        """Text that the list shows the entries of."""
        self._is_taking = False
        """Enter was pressed before the list caught up with the text."""
        self._choices: list[Entry] = []
        self._rejected_drop = ""
        """Message about dropped files, shown until the path is edited."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog choosing") as dialog:
            dialog.border_title = sanitize.line(self._title, 60)
            enter = "attaches" if self._takes_folders else "takes"
            dialog.border_subtitle = f"tab completes · enter {enter} · esc cancels"
            yield PathLine(self._start, id="path", select_on_focus=False)
            yield Static(classes="nothing", markup=False)
            choices = OptionList(id="choices", markup=False, compact=True)
            choices.can_focus = False
            yield choices

    def on_mount(self) -> None:
        self._list()

    @property
    def _typed(self) -> str:
        return self.query_one(Line).value

    def _folder(self, head: str) -> Path:
        known = self._folders.get(head)
        # Without "..", which is no name that a folder could get in a work_dir.
        return known or Path(os.path.abspath(os.path.expanduser(on_disk(head))))

    @on(Input.Changed)
    def _path_changed(self) -> None:
        self._rejected_drop = ""
        self._list()

    def _list(self) -> None:
        text, before = self._typed, self._listing
        head, name = split(text)
        folder, types = self._folder(head), self._types
        background.run(
            self,
            lambda: messages.Listed(text, listed(folder, name, before, types)),
            lambda error: messages.Listed(
                text, Listing(folder, problem=sanitize.error_text(error))
            ),
        )

    @on(PathLine.Dropped)
    def _drop(self, message: PathLine.Dropped) -> None:
        message.stop()
        first, *others = message.paths
        if others and self._takes_many:
            self.dismiss(message.paths)
        elif others:
            # A listing that is still on its way must not hide the message.
            self._rejected_drop = f"{len(message.paths)} files were dropped; one can be chosen here"
            self._show_words(self._rejected_drop, is_problem=True)
        elif first.is_dir():
            shown = f"{shown_folder(first)}{os.sep}".replace(os.sep * 2, os.sep)
            self._folders[shown] = first
            self._type(shown)
        else:
            shown = f"{shown_folder(first.parent)}{os.sep}".replace(os.sep * 2, os.sep)
            self._folders[shown] = first.parent
            self._type(shown + one_line(on_wire(first.name), 255))

    def on_listed(self, message: messages.Listed) -> None:
        if message.text != self._typed:
            return
        listing = self._listing = message.listing
        self._listed_text = message.text
        _, name = split(message.text)
        is_offered = self._takes_folders and not name and not listing.problem
        itself = [Entry(listing.folder, "", True)] if is_offered else []
        self._choices = [*itself, *listing.entries]
        lines = [_itself(one.path) for one in itself] + [_line(one) for one in listing.entries]
        more = listing.total - len(listing.entries)
        options = [Option(line) for line in lines]
        if more:
            options.append(Option(Content(f"… {more:,} more: type to find one"), disabled=True))
        choices = self.query_one(OptionList)
        choices.set_options(options)
        exact = (at for at, entry in enumerate(self._choices) if name and entry.shown == name)
        choices.highlighted = next(exact, 0) if self._choices else None
        problem = self._rejected_drop or listing.problem
        words = problem
        if not words and not self._choices:
            words = (
                f"Nothing here begins with {name}" if name else "There is nothing to choose here"
            )
        self._show_words(words, is_problem=bool(problem))
        if self._is_taking:
            self._take()

    def _show_words(self, words: str, *, is_problem: bool) -> None:
        nothing = self.query_one(".nothing", Static)
        nothing.update(sanitize.line(words))
        nothing.display = bool(words)
        nothing.set_class(is_problem, "problem")

    def action_complete(self) -> None:
        """What all names have in common; where that is there already, the highlighted one."""
        listing = self._listing
        head, name = split(self._typed)
        if listing is None or not listing.entries:
            return
        if len(listing.common) > len(name):
            if listing.total > 1:
                self._type(head + listing.common)
                return
            entry = listing.entries[0]
        else:
            at = self.query_one(OptionList).highlighted or 0
            entry = self._choices[at]
            if entry.path == listing.folder:
                self.action_move("cursor_down")
                return
        self._go_on_with(head, entry)

    def _go_on_with(self, head: str, entry: Entry) -> None:
        completed = head + entry.shown
        if entry.is_folder:
            completed += os.sep
            self._folders[completed] = entry.path
        self._type(completed)

    def _type(self, text: str) -> None:
        line = self.query_one(Line)
        line.value = text
        line.cursor_position = len(text)

    def action_move(self, action: str) -> None:
        getattr(self.query_one(OptionList), f"action_{action}")()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _take(self) -> None:
        self._is_taking = self._listed_text != self._typed
        if self._is_taking:
            return
        at = self.query_one(OptionList).highlighted
        if at is None or at >= len(self._choices):
            return
        entry = self._choices[at]
        if entry.is_folder and not self._takes_folders:
            self._go_on_with(split(self._typed)[0], entry)
        else:
            self.dismiss([entry.path])


def _itself(folder: Path) -> Content:
    name = f"{folder.name}/" if folder.name else str(folder)
    return Content.assemble(sanitize.line(name, 120), "  ", ("the whole folder", MUTED))


def _line(entry: Entry) -> Content:
    if entry.is_folder:
        return sanitize.line(f"{entry.shown}/", 200, "bold")
    facts = "" if entry.size is None else status.size(entry.size)
    return Content.assemble(sanitize.line(entry.shown, 200), "  ", (facts, MUTED))
