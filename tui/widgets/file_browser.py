"""Files of a task: the tree and a preview of the selected file."""

from __future__ import annotations

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Static, Tree

from beray.schema import FileItem, FilePage
from tui import preview, sanitize
from tui.state.file_listing import ListedFolder, TaskFileListing, is_folder, path_of
from tui.widgets.file_tree import FileTree, MoreEntries
from tui.widgets.line_view import LineView


class FileBrowser(Horizontal):
    """File tree with a preview. Requests directories and previews through messages."""

    @dataclass(eq=False, repr=False)
    class PreviewRequested(Message):
        """The cursor is on the file ``path``: its preview is needed."""

        path: str

    @dataclass(eq=False, repr=False)
    class FolderRequested(Message):
        """A page of a directory is needed: the first one, or the one after the cursor ``after``."""

        path: str
        after: str | None

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._listing: TaskFileListing | None = None
        self._reading: str | None = None
        self._queue: list[str] = []
        """Directories to be read one after the other: a whole level may be opened at once."""
        self._wanted = ""
        self.requested_path = ""
        """Path that is selected once it is listed; "" for none."""
        self._pinned = ""

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="files-note", id="files-left"):
            yield Static("Loading files …", id="files-note", classes="note", markup=False)
            yield FileTree(id="tree")
        with ContentSwitcher(initial="preview-note", id="files-right"):
            yield Static(id="preview-note", classes="note", markup=False)
            yield LineView(id="preview")

    @property
    def selected_file(self) -> str | None:
        """Path of the file under the cursor; None for a directory or an empty tree."""
        item = self.query_one(FileTree).selected
        return path_of(item) if item is not None and not is_folder(item) else None

    @property
    def is_large(self) -> bool:
        """True if the files were too many to be read in one request."""
        return self._listing is not None and not self._listing.is_whole

    def open_folders(self) -> dict[str, int]:
        """Return the open directories with their number of displayed entries."""
        if self._listing is None:
            return {}
        known = self._listing.folders
        return {
            path: len(known[path].items) if path in known else 0
            for path in self.query_one(FileTree).open_folders()
        }

    def forget(self) -> None:
        """Remove everything: another task was selected."""
        self._listing, self._wanted, self.requested_path, self._pinned = None, "", "", ""
        self._reading = None
        self._queue.clear()
        self.query_one(FileTree).clear()
        self._note("left", Content("Loading files …"))
        self._note("right", Content(""))

    def replace(self) -> None:
        """Have the next listing replace the present one: it is of another state of the files."""
        self._listing, self._reading = None, None
        self._queue.clear()

    def set_preview(self, *, shown: bool) -> None:
        """Show or hide the preview beside the tree."""
        self.query_one("#files-right").display = shown
        if shown:
            self._look()

    def show(self, listing: TaskFileListing) -> None:
        """Show a new listing; the cursor and the open directories are kept."""
        listing = listing.merged(self._listing, self.open_folders())
        if listing == self._listing:
            self._seek()
            return
        self._listing = listing
        tree = self.query_one(FileTree)
        if listing.is_empty:
            tree.clear()
            self._note("left", Content("No files yet."))
            self._note("right", Content(""))
            return
        self.query_one("#files-left", ContentSwitcher).current = "tree"
        tree.fill(listing, self._pinned)
        for path in tree.open_folders():
            self._want(path)
        self._seek()
        if self._wanted and self._has_preview:
            # The file may have changed since its preview was read.
            self.post_message(self.PreviewRequested(self._wanted))

    def add_page(self, path: str, after: str | None, page: FilePage) -> None:
        """Show a page of a directory, unless it is outdated."""
        self._go_on(path)
        listing = self._listing
        if listing is None or listing.is_whole:
            return
        known = listing.folders.get(path)
        if known is None and after is None:
            known = ListedFolder([])
        if known is None or known.after != after:
            return
        folder = known.extended(page)
        self._listing = listing.with_folder(path, folder)
        tree = self.query_one(FileTree)
        tree.extend(path, page.items, folder)
        tree.call_after_refresh(self._look)
        self._seek()

    def page_refused(self, path: str, error: BaseException) -> None:
        """Show that a page of the directory ``path`` could not be read."""
        self._go_on(path)
        self.query_one(FileTree).note(path, sanitize.error_text(error))

    def select(self, path: str) -> None:
        """Move the cursor to a file as soon as its directory has been read."""
        self.requested_path = path
        self._seek()

    def _seek(self) -> None:
        if not self.requested_path or self._listing is None:
            return
        tree = self.query_one(FileTree)
        node = tree.node_of(self.requested_path)
        if node is None and not self._listing.is_whole:
            above = self.requested_path.rpartition("/")[0]
            while above and tree.node_of(above) is None:
                above = above.rpartition("/")[0]
            known = self._listing.folders.get(above)
            if known is None:
                self._want(above)
            elif known.after is not None or known.hidden:
                self._pinned = self.requested_path
                node = tree.pin(self.requested_path)
        if node is not None:
            self.requested_path = ""
            tree.call_after_refresh(tree.go_to, node)

    def _want(self, path: str) -> None:
        """Request the directory at ``path`` if it has not been read."""
        if self._listing is None or path in self._listing.folders:
            return
        if path not in (self._reading, *self._queue):
            self._queue.append(path)
            self._read_next()

    def _want_more(self, path: str) -> None:
        known = self._listing.folders.get(path) if self._listing is not None else None
        if known is not None and known.after is not None and self._reading is None:
            self._reading = path
            self.post_message(self.FolderRequested(path, known.after))

    def _go_on(self, path: str) -> None:
        """Request the next directory after a response for ``path``."""
        if self._reading == path:
            self._reading = None
            self._read_next()

    def _read_next(self) -> None:
        if self._reading is None and self._queue:
            self._reading = self._queue.pop(0)
            self.post_message(self.FolderRequested(self._reading, None))

    def refused(self, error: BaseException) -> None:
        """Show that the files could not be read."""
        self._listing = None
        self._note("left", sanitize.block(sanitize.error_text(error)), failed=True)

    def show_preview(self, path: str, content: bytes, complete: bool) -> None:
        """Show the first bytes of a file as text, or report that the file is not text."""
        if path != self._wanted:
            return
        document = preview.document(content, complete)
        if not content:
            self._note("right", Content("An empty file."))
        elif document is None:
            self._note("right", Content("A binary file.\nPress d to download it."))
        else:
            self.query_one("#files-right", ContentSwitcher).current = "preview"
            self.query_one("#preview", LineView).show(document)

    def preview_refused(self, path: str, error: BaseException) -> None:
        """Show that the preview of ``path`` could not be read."""
        if path == self._wanted:
            self._note("right", sanitize.block(sanitize.error_text(error)), failed=True)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[FileItem | MoreEntries]) -> None:
        event.stop()
        self._look()

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[FileItem | MoreEntries]) -> None:
        event.stop()
        item = event.node.data
        if item is None or isinstance(item, MoreEntries):
            return
        path = path_of(item)
        if self._listing is not None and path not in self._listing.folders:
            self.query_one(FileTree).note(path, "loading …")
            self._want(path)

    def _look(self) -> None:
        """Request the preview or the entries that belong to the line under the cursor."""
        node = self.query_one(FileTree).cursor_node
        if node is not None and isinstance(node.data, MoreEntries):
            self._want_more(node.data.folder)
        path = self.selected_file if self._has_preview else None
        if path is None:
            self._wanted = ""
            self._note("right", Content(""))
        elif path != self._wanted:
            self._wanted = path
            self.post_message(self.PreviewRequested(path))

    @property
    def _has_preview(self) -> bool:
        return bool(self.query_one("#files-right").display)

    def _note(self, side: str, text: Content, *, failed: bool = False) -> None:
        switcher = self.query_one(f"#files-{side}", ContentSwitcher)
        name = "files-note" if side == "left" else "preview-note"
        note = self.query_one(f"#{name}", Static)
        note.update(text)
        note.set_class(failed, "failed")
        switcher.current = name
