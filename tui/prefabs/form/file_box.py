"""Form control for the files of one input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, Static

from tui import sanitize
from tui.composer.attachment_list import MUTED, AttachmentList
from tui.composer.path_screen import PathScreen
from tui.prefabs.call_draft import refused_file
from tui.prefabs.form.field_widget import FormControl
from tui.prefabs.spec import FileInput


class FileList(AttachmentList):
    """List of the selected files, followed by a line for adding one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Choose")]
    adding = Content("")

    def _list_lines(self) -> list[Content]:
        return [*super()._list_lines(), self.adding]

    @property
    def is_adding(self) -> bool:
        """True if the cursor is on the line for adding a file."""
        return self.highlighted == len(self._paths)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "remove" or not self.is_adding

    def watch_highlighted(self, highlighted: int | None) -> None:
        super().watch_highlighted(highlighted)
        self.refresh_bindings()


class FileBox(FormControl):
    """Form control for the files of one input. Posts ``Changed``."""

    class Changed(Message):
        """The selected files have changed."""

    def __init__(self, place: FileInput, paths: Sequence[Path], *, id: str) -> None:
        super().__init__(id=id)
        self.place = place
        self.paths = tuple(paths)

    def compose(self) -> ComposeResult:
        place = self.place
        files = FileList(f"{self.id}-files")
        files.add_class("box")
        files.border_title = sanitize.line(f"{place.key} *" if place.required else place.key, 60)
        kind = " ".join(place.types) or "any file"
        files.adding = Content.assemble(
            ("+ ", "$text-primary"),
            "add files  " if place.many else "choose a file  ",
            sanitize.line(kind, 100, MUTED),
        )
        yield files
        about = Static(
            sanitize.line(" ".join(place.description.split()), 400), classes="about", markup=False
        )
        about.display = bool(place.description)
        yield about
        yield Static(classes="problem", markup=False)

    def on_mount(self) -> None:
        self.query_one(FileList).show(self.paths)

    @property
    def problem(self) -> str:
        """Reason why a selected file cannot be uploaded, as far as known; otherwise ""."""
        return self.query_one(FileList).problem

    @on(AttachmentList.Removed)
    def _remove(self, message: AttachmentList.Removed) -> None:
        message.stop()
        self.set_paths(tuple(path for path in self.paths if path is not message.item))

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if self.query_one(FileList).is_adding:
            self.choose()

    def choose(self) -> None:
        """Ask for files; the new one replaces the old one if only one is allowed."""

        def chosen(paths: list[Path] | None) -> None:
            there, refused = self.paths if self.place.many else (), ""
            for path in paths or ():
                problem = refused_file(self.place, path, there)
                refused = refused or problem
                there = there if problem else (*there, path)
            if paths and there:
                self.set_paths(there)
            if refused:
                self.show_problem(refused)

        last = self.paths[-1].parent if self.paths else Path.cwd()
        title = f"Select a file for {self.place.key}"
        screen = PathScreen(
            last, title, self.place.types, allow_directories=False, allow_multiple=self.place.many
        )
        self.app.push_screen(screen, chosen)

    def set_paths(self, paths: tuple[Path, ...]) -> None:
        """Replace the selected files, show them, and report the change."""
        self.paths = paths
        self.clear_problem()
        self.query_one(FileList).show(paths)
        self.post_message(self.Changed())
