"""Tree of a task's directories and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from rich.style import Style
from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from beray.schema import FileItem, size_of
from tui import sanitize, status
from tui.state.file_listing import ROOT, ListedFolder, TaskFileListing, is_folder, path_of
from tui.widgets.drawing import foreground_style

MAX_LEVELS: Final = 200
"""Maximum depth: Textual needs a stack frame for each level."""


@dataclass(frozen=True)
class MoreEntries:
    """Placeholder for the entries of a directory that are not read or not shown."""

    folder: str


Node = TreeNode[FileItem | MoreEntries]


class FileTree(Tree[FileItem | MoreEntries]):
    """Tree widget; a node's data is an item of the server or a placeholder."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"file-tree--folder", "file-tree--size"}
    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(Text("work_dir"), id=id)
        self.show_root = False
        self.guide_depth = 2
        self._shown: dict[str, Node] = {}
        self._rests: dict[str, Node] = {}

    def render_label(
        self, node: TreeNode[FileItem | MoreEntries], base_style: Style, style: Style
    ) -> Text:
        label = super().render_label(node, base_style, style)
        label.append(self._size_text(node), base_style + foreground_style(self, "file-tree--size"))
        return label

    def get_label_width(self, node: TreeNode[FileItem | MoreEntries]) -> int:
        # Called for each line whenever the tree changes, so the label is not rendered.
        icon = len(self.ICON_NODE) if node.allow_expand else 0
        label = node.label
        width = label.cell_len if isinstance(label, Text) else len(label)
        return icon + width + len(self._size_text(node))

    @staticmethod
    def _size_text(node: Node) -> str:
        item = node.data
        if item is None or isinstance(item, MoreEntries) or is_folder(item):
            return ""
        size = size_of(item)
        return "" if size is None else f"  {status.size(size)}"

    def fill(self, listing: TaskFileListing, pinned: str = "") -> None:
        """Show ``listing``; collapsed directories and the cursor position are kept.

        Initially the cursor is on the first file of a whole tree, otherwise on the first entry.

        Args:
            listing: Directories to show.
            pinned: File that is shown even if its directory has not been read; see ``pin``.
        """
        cursor = self.cursor_node.data if self.cursor_node else None
        expanded = {path: node.is_expanded for path, node in self._shown.items()}
        self.clear()
        self.root.expand()
        waiting = [(ROOT, self.root, 1)]
        while waiting:
            path, node, level = waiting.pop()
            folder = listing.folders.get(path)
            if folder is None:
                self._set_rest(path, node, "loading …" if node.is_expanded else None)
                continue
            for item in folder.items:
                below = path_of(item)
                is_open = expanded.get(below, listing.is_whole) and not listing.is_dropped(below)
                child = self._add(node, item, level, expand=is_open)
                if child.allow_expand:
                    waiting.append((below, child, level + 1))
            self._set_rest(path, node, _rest(folder))
        if pinned and pinned not in self._shown:
            self.pin(pinned)
        chosen = self._rests.get(cursor.folder) if isinstance(cursor, MoreEntries) else None
        if chosen is None and cursor is not None and not isinstance(cursor, MoreEntries):
            chosen = self._shown.get(path_of(cursor))
        if chosen is None:
            chosen = self._first(listing)
        if chosen is not None:
            self._move_to(chosen)

    def clear(self) -> Self:
        self._shown.clear()
        self._rests.clear()
        super().clear()
        return self

    def extend(self, path: str, items: list[FileItem], folder: ListedFolder) -> None:
        """Add ``items`` to a displayed directory; ``folder`` is its new state."""
        node = self.root if path == ROOT else self._shown.get(path)
        if node is None:
            return
        old = self._rests.pop(path, None)
        was_there = old is not None and self.cursor_node is old
        if old is not None:
            old.remove()
        level = 1 if path == ROOT else path.count("/") + 2
        added = [self._add(node, item, level) for item in items]
        self._set_rest(path, node, _rest(folder))
        if was_there and (following := [*added, *self._ends(path)]):
            self._move_to(following[0])

    def note(self, path: str, text: str) -> None:
        """Show in a directory why its entries are missing."""
        node = self.root if path == ROOT else self._shown.get(path)
        if node is not None:
            self._set_rest(path, node, text)

    def pin(self, path: str) -> Node:
        """Show a file whose page of its directory has not been read."""
        parent = path.rpartition("/")[0]
        while parent and (parent not in self._shown or not self._shown[parent].allow_expand):
            parent = parent.rpartition("/")[0]
        name = path[len(parent) + 1 :] if parent else path
        item = FileItem(name=name, path=path, type="file")
        node = self._shown[parent] if parent else self.root
        self._shown[path] = leaf = node.add_leaf(sanitize.rich_line(name, 200), item)
        return leaf

    def open_folders(self) -> list[str]:
        """Return the paths of the open directories in display order, ``ROOT`` first."""
        found = [ROOT]
        waiting = list(reversed(self.root.children))
        while waiting:
            node = waiting.pop()
            item = node.data
            if item is not None and not isinstance(item, MoreEntries) and node.is_expanded:
                if node.allow_expand:
                    found.append(path_of(item))
                waiting.extend(reversed(node.children))
        return found

    def node_of(self, path: str) -> Node | None:
        """Return the node of the file or directory at ``path``, or None if it is not shown."""
        return self._shown.get(path)

    def go_to(self, node: Node) -> None:
        """Expand the ancestors of ``node`` and move the cursor to it."""
        parent = node.parent
        while parent is not None:
            parent.expand()
            parent = parent.parent
        self._move_to(node)

    def _move_to(self, node: Node) -> None:
        """Move the cursor to ``node`` at the next refresh, if it is still shown."""

        def move() -> None:
            data = node.data
            if isinstance(data, MoreEntries):
                is_shown = self._rests.get(data.folder) is node
            else:
                is_shown = data is not None and self._shown.get(path_of(data)) is node
            # ``last_line`` computes the layout; a new node has no line before that.
            if is_shown and self.last_line >= 0:
                self.move_cursor(node)

        self.call_after_refresh(move)

    @property
    def selected(self) -> FileItem | None:
        """The file or directory under the cursor."""
        data = self.cursor_node.data if self.cursor_node else None
        return None if isinstance(data, MoreEntries) else data

    def _add(self, node: Node, item: FileItem, level: int, *, expand: bool = False) -> Node:
        name = sanitize.rich_line(item["name"] or path_of(item), 200)
        if not is_folder(item):
            child = node.add_leaf(name, item)
        elif level < MAX_LEVELS:
            child = node.add(name, item, expand=expand)
        else:
            child = node.add_leaf(Text.assemble(name, "  too deep to be shown"), item)
        self._shown[path_of(item)] = child
        return child

    def _set_rest(self, path: str, node: Node, text: str | None) -> None:
        old = self._rests.pop(path, None)
        if old is not None:
            old.remove()
        if text is not None:
            self._rests[path] = node.add_leaf(Text(text, style="italic"), MoreEntries(path))

    def _ends(self, path: str) -> list[Node]:
        return [self._rests[path]] if path in self._rests else []

    def _first(self, listing: TaskFileListing) -> Node | None:
        if not listing.is_whole:
            return next(iter(self._shown.values()), None)
        waiting = list(reversed(self.root.children))
        while waiting:
            node = waiting.pop()
            if not node.allow_expand:
                return node
            waiting.extend(reversed(node.children))
        return None


def _rest(folder: ListedFolder) -> str | None:
    if folder.hidden:
        return f"… {folder.hidden} more"
    return "… more" if folder.after is not None else None
