"""Layout of blocks as rows of a given width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from beray.sanitize import one_line, printable
from tui.events import event_text
from tui.events.blocks import Block, BlockKind
from tui.events.text_stream import MAX_LINE_CHARS
from tui.log.render.markdown import is_plain_text
from tui.wrapping import wrapped

_TAB_WIDTH: Final = 8
_ATTACHMENT_SYMBOL: Final = "⇧"
_MAX_FOLDED_CHARS: Final = 160
"""Maximum length of the arguments of a folded tool call."""

RenderMarkdown = Callable[[str, int, str], list[tuple[Segment, ...]] | None]


class LogRow(NamedTuple):
    """Row of the log, without its gutter.

    Attributes:
        text: Text of the row.
        style: Component class.
        symbol: Symbol in the gutter.
        spans: Parts of the text with their styles, if the row has several styles.
        continues_line: Whether the row continues the line of the previous row.
        path: Path of the file that the row links to, if only this row of the block does.
    """

    text: str
    style: str
    symbol: str = ""
    spans: tuple[tuple[str, str | Style], ...] | None = None
    continues_line: bool = False
    path: str = ""


def needs_markdown(block: Block) -> bool:
    """Return True if the layout of the block requires the Markdown renderer."""
    if block.kind is not BlockKind.TEXT or block.faint:
        return False
    return (
        bool(block.context.fence) or block.context.continues_line or not is_plain_text(block.text)
    )


def layout_block(
    block: Block, width: int, unfolded: bool, markdown: RenderMarkdown | None
) -> list[LogRow]:
    """Return the rows of ``block``.

    Args:
        block: The block to lay out.
        width: Maximum width of a row, in cells. Markdown such as tables may exceed it.
        unfolded: Whether the complete arguments and result of a tool call are shown.
        markdown: Markdown renderer; ``None`` to show Markdown as plain text.
    """
    if block.kind in (BlockKind.CALL, BlockKind.RESULT):
        return _tool_rows(block, width, unfolded)
    if block.kind is BlockKind.USER:
        return [
            *text_rows(block.text, width, block.style, block.symbol),
            *_attachment_rows(block, width),
        ]
    if block.checkpoint is not None:
        return [_checkpoint_row(block, block.checkpoint, width)]
    if markdown is not None and needs_markdown(block):
        rendered = markdown(block.text, width, block.context.fence)
        if rendered is not None:
            return _add_heading_rows(block, _markdown_rows(rendered, block), width)
    text = (
        block.text.rstrip("\n") if block.kind is BlockKind.TEXT else block.text.removesuffix("\n")
    )
    rows = text_rows(text, width, block.style, block.symbol)
    return (
        _add_heading_rows(block, rows, width)
        if block.kind in (BlockKind.TEXT, BlockKind.OUTPUT)
        else rows
    )


def text_rows(
    text: str, width: int, style: str, symbol: str = "", *, continues_line: bool = False
) -> list[LogRow]:
    """Return plain text as rows of at most ``width`` cells."""
    rows: list[LogRow] = []
    for source_line in printable(text).split("\n"):
        line = source_line.expandtabs(_TAB_WIDTH) if "\t" in source_line else source_line
        for at in range(0, len(line) or 1, MAX_LINE_CHARS):
            for row in wrapped(line[at : at + MAX_LINE_CHARS], width):
                rows.append(LogRow(row, style, symbol, None, continues_line))
                symbol, continues_line = "", True
        continues_line = False
    return rows


def _add_heading_rows(block: Block, rows: list[LogRow], width: int) -> list[LogRow]:
    context = block.context
    if block.caption:
        rows.insert(0, LogRow(_truncate(block.caption, width), "event--note", "▹"))
    if context.continues_line and rows:
        rows[0] = rows[0]._replace(continues_line=True)
    if context.after_paragraph and block.kind is BlockKind.TEXT:
        rows.insert(0, LogRow("", block.style))
    if context.flow is None and block.kind is BlockKind.TEXT and block.source not in ("", "main"):
        rows.insert(0, LogRow(block.source, "event--note"))
    return rows


def _markdown_rows(rendered: list[tuple[Segment, ...]], block: Block) -> list[LogRow]:
    rows = []
    for segments in rendered:
        spans = tuple((segment.text, segment.style or Style.null()) for segment in segments)
        rows.append(LogRow("".join(text for text, _ in spans), block.style, "", spans))
    return rows


def _attachment_rows(block: Block, width: int) -> list[LogRow]:
    return [
        LogRow(_truncate(path, width), "event--file", _ATTACHMENT_SYMBOL, None, False, path)
        for path in block.paths
    ]


def _checkpoint_row(block: Block, checkpoint: event_text.CheckpointText, width: int) -> LogRow:
    if cell_len(block.text) > width:
        return LogRow(_truncate(block.text, width), block.style, block.symbol)
    spans: list[tuple[str, str | Style]] = [(checkpoint.text, block.style)]
    for count, style in (
        (checkpoint.added, "event--added"),
        (checkpoint.deleted, "event--deleted"),
    ):
        if count:
            spans.append((f" {count}", style))
    return LogRow(block.text, block.style, block.symbol, tuple(spans))


def _tool_rows(block: Block, width: int, unfolded: bool) -> list[LogRow]:
    call = block.kind is BlockKind.CALL
    result = event_text.describe_result(block.result) if block.has_result else None
    name = block.caption or block.name or ("call" if call else "result")
    if not unfolded:
        return [_folded_row(block, name, result, width)]
    rows = text_rows(name, width, block.style, "▾" if call else block.symbol)
    if call and block.arguments:
        rows += text_rows(event_text.format_json(block.arguments), width, "event--output")
    if result is not None:
        if call:
            rows += text_rows(result.text, width, result.style, result.symbol)
        value = block.result
        text = value if isinstance(value, str) else event_text.to_json(value, indent=2)
        is_exit_code_only = isinstance(value, dict) and value.keys() == {"exit_code"}
        if not (is_exit_code_only or (call and text == result.text)):
            rows += text_rows(event_text.format_json(text), width, "event--output")
    return rows


def _folded_row(block: Block, name: str, result: event_text.EventText | None, width: int) -> LogRow:
    """Return a tool call or result as one row; arguments are shortened in favour of the result."""
    call = block.kind is BlockKind.CALL
    name = _truncate(name, width if result is None else max(4, width - 10))
    spans: list[tuple[str, str | Style]] = [(name, block.style)]
    width_left = width - cell_len(name)
    result_text = ""
    if result is not None:
        result_text = f"{result.symbol} {result.text}" if call else result.text
        result_text = "  " + _truncate(
            result_text, max(8, min(width_left - 2, width // 2 if call else width))
        )
        width_left -= cell_len(result_text)
    if call and block.arguments and width_left > 4:
        spans.append(
            (
                " " + _truncate(one_line(block.arguments, _MAX_FOLDED_CHARS), width_left - 1),
                "event--output",
            )
        )
    if result is not None:
        spans.append((result_text, result.style))
    text = "".join(part for part, _ in spans)
    return LogRow(text, block.style, "▸" if call else block.symbol, tuple(spans))


def _truncate(text: str, cells: int) -> str:
    flat = one_line(text, max(1, cells) + 1)
    if cell_len(flat) <= cells:
        return flat
    return set_cell_size(flat, max(0, cells - 1)).rstrip() + "…"
