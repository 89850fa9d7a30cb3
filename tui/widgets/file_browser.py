"""A task's files: the tree, and the beginning of the one that is selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import ContentSwitcher, Static, Tree
from textual.widgets.tree import TreeNode

from beray.schema import FileItem, size_of
from tui import preview, safe, status
from tui.widgets.ink import ink
from tui.widgets.line_view import LineView

MOST_SHOWN: Final = 2000


def path_of(item: FileItem) -> str:
    return item.get("path") or item["name"]


class FileTree(Tree[FileItem]):
    """Folders and files; a node's data is the item that the server named."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"file-tree--folder", "file-tree--size"}
    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(Text("work_dir"), id=id)
        self.show_root = False
        self.guide_depth = 2

    def render_label(self, node: TreeNode[FileItem], base_style: Style, style: Style) -> Text:
        label = super().render_label(node, base_style, style)
        item = node.data
        if item is not None and item["type"] != "directory" and (size := size_of(item)) is not None:
            label.append(f"  {status.size(size)}", base_style + ink(self, "file-tree--size"))
        return label

    def fill(self, items: Sequence[FileItem]) -> None:
        """Show ``items``; what was folded stays folded, and the cursor on its file.

        Where it was on none, it goes to the first file.
        """
        selected = self.selected
        folded = {path for path, node in self._folders() if not node.is_expanded}
        self.clear()
        folders: dict[str, TreeNode[FileItem]] = {"": self.root}
        chosen: TreeNode[FileItem] | None = None
        for item in items[:MOST_SHOWN]:
            path = path_of(item)
            parent = folders.get(path.rpartition("/")[0], self.root)
            name = safe.rich_line(item["name"] or path, 200)
            if item["type"] == "directory":
                folders[path] = parent.add(name, item, expand=path not in folded)
            else:
                node = parent.add_leaf(name, item)
                if chosen is None or (selected is not None and path_of(selected) == path):
                    chosen = node
        if len(items) > MOST_SHOWN:
            self.root.add_leaf(Text(f"… {len(items) - MOST_SHOWN} more"))
        self.root.expand()
        if chosen is not None:
            self.call_after_refresh(self.move_cursor, chosen)

    def _folders(self) -> list[tuple[str, TreeNode[FileItem]]]:
        found, waiting = [], list(self.root.children)
        while waiting:
            node = waiting.pop()
            if node.data is not None and node.allow_expand:
                found.append((path_of(node.data), node))
                waiting.extend(node.children)
        return found

    def node_of(self, path: str) -> TreeNode[FileItem] | None:
        """The node of the file or folder at ``path``, if it is shown."""
        waiting = list(self.root.children)
        while waiting:
            node = waiting.pop()
            if node.data is not None and path_of(node.data) == path:
                return node
            waiting.extend(node.children)
        return None

    def go_to(self, node: TreeNode[FileItem]) -> None:
        """Unfold what ``node`` is in, and put the cursor on it."""
        parent = node.parent
        while parent is not None:
            parent.expand()
            parent = parent.parent
        self.call_after_refresh(self.move_cursor, node)

    @property
    def selected(self) -> FileItem | None:
        """The file or folder under the cursor."""
        return self.cursor_node.data if self.cursor_node else None


class FileBrowser(Horizontal):
    """Is given files and previews; says which file it wants to see."""

    class Wanted(Message):
        """The cursor is on this file: a preview of it would be welcome."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._items: Sequence[FileItem] | None = None
        self._wanted = ""
        self._sought = ""

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="files-note", id="files-left"):
            yield Static("Reading the files …", id="files-note", classes="note", markup=False)
            yield FileTree(id="tree")
        with ContentSwitcher(initial="preview-note", id="files-right"):
            yield Static(id="preview-note", classes="note", markup=False)
            yield LineView(id="preview")

    @property
    def selected_file(self) -> str | None:
        """The path of the file under the cursor; ``None`` for a folder, or nothing."""
        item = self.query_one(FileTree).selected
        return path_of(item) if item is not None and item["type"] != "directory" else None

    def forget(self) -> None:
        """Another task: nothing is known of its files."""
        self._items, self._wanted, self._sought = None, "", ""
        self.query_one(FileTree).clear()
        self._note("left", Content("Reading the files …"))
        self._note("right", Content(""))

    def show(self, items: Sequence[FileItem]) -> None:
        if items == self._items:
            self._seek()
            return
        self._items = items
        if not items:
            self.query_one(FileTree).clear()
            self._note("left", Content("No files yet."))
            self._note("right", Content(""))
            return
        self.query_one("#files-left", ContentSwitcher).current = "tree"
        self.query_one(FileTree).fill(items)
        self._seek()
        if self._wanted:
            # The file on show may be another one by now.
            self.post_message(self.Wanted(self._wanted))

    def select(self, path: str) -> None:
        """Put the cursor on a file, as soon as it is known that it is there."""
        self._sought = path
        self._seek()

    def _seek(self) -> None:
        node = self.query_one(FileTree).node_of(self._sought) if self._sought else None
        if node is not None:
            self._sought = ""
            self.query_one(FileTree).call_after_refresh(self.query_one(FileTree).go_to, node)

    def refused(self, error: BaseException) -> None:
        self._items = None
        self._note("left", safe.block(safe.words(error)), failed=True)

    def show_preview(self, path: str, content: bytes, complete: bool) -> None:
        """Show a file's first bytes as text, or say that they are none."""
        if path != self._wanted:
            return
        document = preview.document(content, complete)
        if not content:
            self._note("right", Content("An empty file."))
        elif document is None:
            self._note("right", Content("A binary file.\nd downloads it."))
        else:
            self.query_one("#files-right", ContentSwitcher).current = "preview"
            self.query_one("#preview", LineView).show(document)

    def preview_refused(self, path: str, error: BaseException) -> None:
        if path == self._wanted:
            self._note("right", safe.block(safe.words(error)), failed=True)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[FileItem]) -> None:
        event.stop()
        path = self.selected_file
        if path is None:
            self._wanted = ""
            self._note("right", Content(""))
        elif path != self._wanted:
            self._wanted = path
            self.post_message(self.Wanted(path))

    def _note(self, side: str, words: Content, *, failed: bool = False) -> None:
        switcher = self.query_one(f"#files-{side}", ContentSwitcher)
        name = "files-note" if side == "left" else "preview-note"
        note = self.query_one(f"#{name}", Static)
        note.update(words)
        note.set_class(failed, "failed")
        switcher.current = name
