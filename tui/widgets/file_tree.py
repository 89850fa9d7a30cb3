"""Tree of the folders and files of a task that were read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from rich.style import Style
from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from beray.schema import FileItem, size_of
from tui import sanitize, status
from tui.state.file_listing import ROOT, FileListing, Folder, is_folder, path_of
from tui.widgets.component_colours import ink

MOST_LEVELS: Final = 200
"""Levels that are shown: Textual needs a stack frame for each of them."""


@dataclass(frozen=True)
class Rest:
    """In the place of entries of a folder that are not read yet, or not shown."""

    folder: str


Node = TreeNode[FileItem | Rest]


class FileTree(Tree[FileItem | Rest]):
    """Folders and files; a node's data is the item that the server named, or a ``Rest``."""

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
        self, node: TreeNode[FileItem | Rest], base_style: Style, style: Style
    ) -> Text:
        label = super().render_label(node, base_style, style)
        label.append(self._size_text(node), base_style + ink(self, "file-tree--size"))
        return label

    def get_label_width(self, node: TreeNode[FileItem | Rest]) -> int:
        # Asked for each line of the tree whenever it changes, so it is not rendered.
        icon = len(self.ICON_NODE) if node.allow_expand else 0
        label = node.label
        width = label.cell_len if isinstance(label, Text) else len(label)
        return icon + width + len(self._size_text(node))

    @staticmethod
    def _size_text(node: Node) -> str:
        item = node.data
        if item is None or isinstance(item, Rest) or is_folder(item):
            return ""
        size = size_of(item)
        return "" if size is None else f"  {status.size(size)}"

    def fill(self, listing: FileListing, pinned: str = "") -> None:
        """Show ``listing``; what was folded stays folded, and the cursor where it was.

        Where it was nowhere, it goes to the first file of a whole tree, else to the first entry.

        Args:
            pinned: A file that is shown in any case; see ``pin``.
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
                self._set_rest(path, node, "reading …" if node.is_expanded else None)
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
        chosen = self._rests.get(cursor.folder) if isinstance(cursor, Rest) else None
        if chosen is None and cursor is not None and not isinstance(cursor, Rest):
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

    def extend(self, path: str, items: list[FileItem], folder: Folder) -> None:
        """Show further entries of a folder that is shown; ``folder`` has all of them."""
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

    def note(self, path: str, words: str) -> None:
        """Show in a folder why its entries are not shown."""
        node = self.root if path == ROOT else self._shown.get(path)
        if node is not None:
            self._set_rest(path, node, words)

    def pin(self, path: str) -> Node:
        """Show a file that is beyond the entries that were read of its folder."""
        parent = path.rpartition("/")[0]
        while parent and (parent not in self._shown or not self._shown[parent].allow_expand):
            parent = parent.rpartition("/")[0]
        name = path[len(parent) + 1 :] if parent else path
        item = FileItem(name=name, path=path, type="file")
        node = self._shown[parent] if parent else self.root
        self._shown[path] = leaf = node.add_leaf(sanitize.rich_line(name, 200), item)
        return leaf

    def open_folders(self) -> list[str]:
        """Return the paths of the open folders in their order, ``ROOT`` first."""
        found = [ROOT]
        waiting = list(reversed(self.root.children))
        while waiting:
            node = waiting.pop()
            item = node.data
            if item is not None and not isinstance(item, Rest) and node.is_expanded:
                if node.allow_expand:
                    found.append(path_of(item))
                waiting.extend(reversed(node.children))
        return found

    def node_of(self, path: str) -> Node | None:
        """The node of the file or folder at ``path``, if it is shown."""
        return self._shown.get(path)

    def go_to(self, node: Node) -> None:
        """Unfold what ``node`` is in, and put the cursor on it."""
        parent = node.parent
        while parent is not None:
            parent.expand()
            parent = parent.parent
        self._move_to(node)

    def _move_to(self, node: Node) -> None:
        """Put the cursor on ``node`` with the next refresh, if it is still shown then."""

        def move() -> None:
            data = node.data
            if isinstance(data, Rest):
                is_shown = self._rests.get(data.folder) is node
            else:
                is_shown = data is not None and self._shown.get(path_of(data)) is node
            # ``last_line`` lays the tree out: before that, a new node has no line.
            if is_shown and self.last_line >= 0:
                self.move_cursor(node)

        self.call_after_refresh(move)

    @property
    def selected(self) -> FileItem | None:
        """The file or folder under the cursor."""
        data = self.cursor_node.data if self.cursor_node else None
        return None if isinstance(data, Rest) else data

    def _add(self, node: Node, item: FileItem, level: int, *, expand: bool = False) -> Node:
        name = sanitize.rich_line(item["name"] or path_of(item), 200)
        if not is_folder(item):
            child = node.add_leaf(name, item)
        elif level < MOST_LEVELS:
            child = node.add(name, item, expand=expand)
        else:
            child = node.add_leaf(Text.assemble(name, "  too deep to be shown"), item)
        self._shown[path_of(item)] = child
        return child

    def _set_rest(self, path: str, node: Node, words: str | None) -> None:
        old = self._rests.pop(path, None)
        if old is not None:
            old.remove()
        if words is not None:
            self._rests[path] = node.add_leaf(Text(words, style="italic"), Rest(path))

    def _ends(self, path: str) -> list[Node]:
        return [self._rests[path]] if path in self._rests else []

    def _first(self, listing: FileListing) -> Node | None:
        if not listing.is_whole:
            return next(iter(self._shown.values()), None)
        waiting = list(reversed(self.root.children))
        while waiting:
            node = waiting.pop()
            if not node.allow_expand:
                return node
            waiting.extend(reversed(node.children))
        return None


def _rest(folder: Folder) -> str | None:
    if folder.hidden:
        return f"… {folder.hidden} more"
    return "… more" if folder.after is not None else None
