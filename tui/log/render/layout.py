"""Blocks as rows of a given width. The one place where the rows of the log are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from beray.sanitize import one_line, printable
from tui.log.model import event_text
from tui.log.model.blocks import Block, Kind
from tui.log.model.text_stream import LINE
from tui.log.render.markdown import is_plain
from tui.wrapping import wrapped

_TAB: Final = 8
_ATTACHED: Final = "⇧"
_SHORT: Final = 160
"""Characters of the arguments of a folded call, and of its result."""

RenderMarkdown = Callable[[str, int, str], list[tuple[Segment, ...]] | None]


class Row(NamedTuple):
    """One row of the view, without its gutter."""

    text: str
    style: str
    """A component class."""
    mark: str = ""
    """What stands in the gutter."""
    spans: tuple[tuple[str, str | Style], ...] | None = None
    """Where a row has several styles: its text in parts, each with its own."""
    joined: bool = False
    """It goes on with the row before: no line break is between them."""
    path: str = ""
    """The file that it leads to, where that is not the whole block's."""


def is_costly(block: Block) -> bool:
    """Whether the block takes a renderer of Markdown to be laid out."""
    if block.kind is not Kind.TEXT or block.faint:
        return False
    return bool(block.context.fence) or block.context.joined or not is_plain(block.text)


def rows_of(block: Block, width: int, unfolded: bool, markdown: RenderMarkdown | None) -> list[Row]:
    """``block`` in rows of at most ``width`` cells, apart from Markdown that needs more.

    Args:
        markdown: ``None`` to have Markdown as it was written.
    """
    if block.kind in (Kind.CALL, Kind.RESULT):
        return _tool(block, width, unfolded)
    if block.kind is Kind.USER:
        return [*lines(block.text, width, block.style, block.mark), *_attached(block, width)]
    if markdown is not None and is_costly(block):
        rendered = markdown(block.text, width, block.context.fence)
        if rendered is not None:
            return _flowing(block, _markdown_rows(rendered, block), width)
    text = block.text.rstrip("\n") if block.kind is Kind.TEXT else block.text.removesuffix("\n")
    rows = lines(text, width, block.style, block.mark)
    return _flowing(block, rows, width) if block.kind in (Kind.TEXT, Kind.OUTPUT) else rows


def lines(text: str, width: int, style: str, mark: str = "", *, joined: bool = False) -> list[Row]:
    """Plain text in rows."""
    rows: list[Row] = []
    for whole in printable(text).split("\n"):
        line = whole.expandtabs(_TAB) if "\t" in whole else whole
        for at in range(0, len(line) or 1, LINE):
            for row in wrapped(line[at : at + LINE], width):
                rows.append(Row(row, style, mark, None, joined))
                mark, joined = "", True
        joined = False
    return rows


def _flowing(block: Block, rows: list[Row], width: int) -> list[Row]:
    context = block.context
    if block.caption:
        rows.insert(0, Row(_cut(block.caption, width), "event--note", "▹"))
    if context.joined and rows:
        rows[0] = rows[0]._replace(joined=True)
    if context.spaced and block.kind is Kind.TEXT:
        rows.insert(0, Row("", block.style))
    if context.flow is None and block.kind is Kind.TEXT and block.source not in ("", "main"):
        rows.insert(0, Row(block.source, "event--note"))
    return rows


def _markdown_rows(rendered: list[tuple[Segment, ...]], block: Block) -> list[Row]:
    rows = []
    for segments in rendered:
        spans = tuple((segment.text, segment.style or Style.null()) for segment in segments)
        rows.append(Row("".join(text for text, _ in spans), block.style, "", spans))
    return rows


def _attached(block: Block, width: int) -> list[Row]:
    return [
        Row(_cut(path, width), "event--file", _ATTACHED, None, False, path) for path in block.paths
    ]


def _tool(block: Block, width: int, unfolded: bool) -> list[Row]:
    call = block.kind is Kind.CALL
    said = event_text.result(block.result) if block.answered else None
    name = block.caption or block.name or ("call" if call else "result")
    if not unfolded:
        return [_folded(block, name, said, width)]
    rows = lines(name, width, block.style, "▾" if call else block.mark)
    if call and block.arguments:
        rows += lines(event_text.pretty(block.arguments), width, "event--output")
    if said is not None:
        if call:
            rows += lines(said.text, width, said.style, said.mark)
        value = block.result
        text = value if isinstance(value, str) else event_text.as_json(value, indent=2)
        told = isinstance(value, dict) and value.keys() == {"exit_code"}
        if not (told or (call and text == said.text)):
            rows += lines(event_text.pretty(text), width, "event--output")
    return rows


def _folded(block: Block, name: str, said: event_text.Said | None, width: int) -> Row:
    """A tool call on one row: as much of its arguments as its result leaves room for."""
    call = block.kind is Kind.CALL
    name = _cut(name, width if said is None else max(4, width - 10))
    spans: list[tuple[str, str | Style]] = [(name, block.style)]
    room = width - cell_len(name)
    answer = ""
    if said is not None:
        answer = f"{said.mark} {said.text}" if call else said.text
        answer = "  " + _cut(answer, max(8, min(room - 2, width // 2 if call else width)))
        room -= cell_len(answer)
    if call and block.arguments and room > 4:
        spans.append((" " + _cut(one_line(block.arguments, _SHORT), room - 1), "event--output"))
    if said is not None:
        spans.append((answer, said.style))
    text = "".join(part for part, _ in spans)
    return Row(text, block.style, "▸" if call else block.mark, tuple(spans))


def _cut(text: str, cells: int) -> str:
    flat = one_line(text, max(1, cells) + 1)
    if cell_len(flat) <= cells:
        return flat
    return set_cell_size(flat, max(0, cells - 1)).rstrip() + "…"
