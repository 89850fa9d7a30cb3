"""Dialog to choose a local file or directory by its path."""

from __future__ import annotations

import os
from dataclasses import dataclass
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
from tui.composer.listing import (
    DirectoryListing,
    LocalEntry,
    display_path,
    expand_home,
    list_directory,
    split_path,
)
from tui.composer.sanitized_input import SanitizedInput
from tui.io import background


class PathInput(SanitizedInput):
    """Input that recognises the paths of files dropped on the terminal."""

    @dataclass(eq=False, repr=False)
    class Dropped(Message):
        """Files were dropped; ``paths`` are absolute."""

        paths: list[Path]

    def on_paste(self, event: events.Paste) -> None:
        paths = dropped_paths(event.text)
        if paths:
            event.prevent_default()  # the base class would insert the text
            event.stop()
            self.post_message(self.Dropped(paths))


class PathScreen(ModalScreen[list[Path] | None]):
    """Dialog that returns absolute paths, or ``None``. Tab completes the entered path.

    Several paths are returned only if several files were dropped. The first line of the list is
    the directory itself, once its name is followed by a separator.

    Args:
        directory: Directory to start in.
        title: Title of the dialog.
        extensions: Lower-case extensions that a file may have; empty for any.
        allow_directories: Whether a directory can be chosen.
        allow_multiple: Whether several files can be dropped at once.
    """

    CSS_PATH = "picker.tcss"
    AUTO_FOCUS = "SanitizedInput"
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
        directory: Path,
        title: str = "Attach a file or a folder",
        extensions: tuple[str, ...] = (),
        *,
        allow_directories: bool = True,
        allow_multiple: bool = True,
    ) -> None:
        super().__init__()
        self._allow_multiple = allow_multiple
        self._title = title
        self._extensions = extensions
        self._allow_directories = allow_directories
        self._start = f"{display_path(directory)}{os.sep}".replace(os.sep * 2, os.sep)
        self._directories = {self._start: directory}
        """Visited directories by their displayed path, from which the path cannot be derived."""
        self._listing: DirectoryListing | None = None
        self._listed_text = ""
        """Text that the list shows the entries of."""
        self._is_submit_pending = False
        """Enter was pressed before the list caught up with the text."""
        self._choices: list[LocalEntry] = []
        self._rejected_drop = ""
        """Message about dropped files, shown until the path is edited."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog picker") as dialog:
            dialog.border_title = sanitize.line(self._title, 60)
            enter = "attaches" if self._allow_directories else "selects"
            dialog.border_subtitle = f"tab completes · enter {enter} · esc cancels"
            yield PathInput(self._start, id="path", select_on_focus=False)
            yield Static(classes="notice", markup=False)
            choices = OptionList(id="choices", markup=False, compact=True)
            choices.can_focus = False
            yield choices

    def on_mount(self) -> None:
        self._list()

    @property
    def _typed(self) -> str:
        return self.query_one(SanitizedInput).value

    def _directory(self, head: str) -> Path:
        known = self._directories.get(head)
        if known is not None:
            return known
        # Without "..", which cannot be the name of a directory in a work_dir. ``resolve`` would
        # also replace the names of symbolic links.
        return Path(os.path.normpath(expand_home(on_disk(head)).absolute()))

    @on(Input.Changed)
    def _path_changed(self) -> None:
        self._rejected_drop = ""
        self._list()

    def _list(self) -> None:
        text, previous = self._typed, self._listing
        head, name = split_path(text)
        directory, extensions = self._directory(head), self._extensions
        background.run(
            self,
            lambda: messages.DirectoryListed(
                text, list_directory(directory, name, previous, extensions)
            ),
            lambda error: messages.DirectoryListed(
                text, DirectoryListing(directory, problem=sanitize.error_text(error))
            ),
        )

    @on(PathInput.Dropped)
    def _drop(self, message: PathInput.Dropped) -> None:
        message.stop()
        first, *others = message.paths
        if others and self._allow_multiple:
            self.dismiss(message.paths)
        elif others:
            # A listing that is still on its way must not hide the message.
            self._rejected_drop = f"{len(message.paths)} files were dropped; choose only one"
            self._show_notice(self._rejected_drop, is_problem=True)
        elif first.is_dir():
            shown = f"{display_path(first)}{os.sep}".replace(os.sep * 2, os.sep)
            self._directories[shown] = first
            self._set_text(shown)
        else:
            shown = f"{display_path(first.parent)}{os.sep}".replace(os.sep * 2, os.sep)
            self._directories[shown] = first.parent
            self._set_text(shown + one_line(on_wire(first.name), 255))

    def on_directory_listed(self, message: messages.DirectoryListed) -> None:
        if message.text != self._typed:
            return
        listing = self._listing = message.listing
        self._listed_text = message.text
        _, name = split_path(message.text)
        is_offered = self._allow_directories and not name and not listing.problem
        itself = [LocalEntry(listing.directory, "", True)] if is_offered else []
        self._choices = [*itself, *listing.entries]
        lines = [_directory_line(entry.path) for entry in itself]
        lines += [_entry_line(entry) for entry in listing.entries]
        more = listing.total - len(listing.entries)
        options = [Option(line) for line in lines]
        if more:
            options.append(Option(Content(f"… {more:,} more; type to filter"), disabled=True))
        choices = self.query_one(OptionList)
        choices.set_options(options)
        exact = (
            index
            for index, entry in enumerate(self._choices)
            if name and entry.display_name == name
        )
        choices.highlighted = next(exact, 0) if self._choices else None
        problem = self._rejected_drop or listing.problem
        text = problem
        if not text and not self._choices:
            text = f"No entry starts with {name}" if name else "No entry to choose in this folder"
        self._show_notice(text, is_problem=bool(problem))
        if self._is_submit_pending:
            self._submit()

    def _show_notice(self, text: str, *, is_problem: bool) -> None:
        notice = self.query_one(".notice", Static)
        notice.update(sanitize.line(text))
        notice.display = bool(text)
        notice.set_class(is_problem, "problem")

    def action_complete(self) -> None:
        """Complete the common prefix of all names, or else the highlighted name."""
        listing = self._listing
        head, name = split_path(self._typed)
        if listing is None or not listing.entries:
            return
        if len(listing.common_prefix) > len(name):
            if listing.total > 1:
                self._set_text(head + listing.common_prefix)
                return
            entry = listing.entries[0]
        else:
            index = self.query_one(OptionList).highlighted or 0
            entry = self._choices[index]
            if entry.path == listing.directory:
                self.action_move("cursor_down")
                return
        self._complete_with(head, entry)

    def _complete_with(self, head: str, entry: LocalEntry) -> None:
        completed = head + entry.display_name
        if entry.is_dir:
            completed += os.sep
            self._directories[completed] = entry.path
        self._set_text(completed)

    def _set_text(self, text: str) -> None:
        line = self.query_one(SanitizedInput)
        line.value = text
        line.cursor_position = len(text)

    def action_move(self, action: str) -> None:
        getattr(self.query_one(OptionList), f"action_{action}")()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _submit(self) -> None:
        self._is_submit_pending = self._listed_text != self._typed
        if self._is_submit_pending:
            return
        index = self.query_one(OptionList).highlighted
        if index is None or index >= len(self._choices):
            return
        entry = self._choices[index]
        if entry.is_dir and not self._allow_directories:
            self._complete_with(split_path(self._typed)[0], entry)
        else:
            self.dismiss([entry.path])


def _directory_line(directory: Path) -> Content:
    name = f"{directory.name}/" if directory.name else str(directory)
    return Content.assemble(sanitize.line(name, 120), "  ", ("the whole folder", MUTED))


def _entry_line(entry: LocalEntry) -> Content:
    if entry.is_dir:
        return sanitize.line(f"{entry.display_name}/", 200, "bold")
    facts = "" if entry.size is None else status.size(entry.size)
    return Content.assemble(sanitize.line(entry.display_name, 200), "  ", (facts, MUTED))
