"""Blocks of a log: a task's events grouped into text, tool calls, files, errors and notes.

This module has no side effects and knows no widgets or colours. All strings in a block are
sanitized, except tool arguments and results, which the layout sanitizes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from beray.event_types import is_verbatim_source
from beray.sanitize import one_line, printable
from beray.streaming.retraction import retracted_range
from tui.events import event_text
from tui.events.text_stream import (
    START_CONTEXT,
    BlockContext,
    BlockKind,
    FlowSplitter,
    TextFlow,
    TextStream,
)

__all__ = ["Block", "BlockBuilder", "BlockKey", "BlockKind"]

BlockKey = tuple[int, int]
"""Sort key of a block: later blocks have greater keys."""

_MAX_ARGUMENT_CHARS: Final = 64 * 1024
_MAX_NOTE_CHARS: Final = 16_000
"""Maximum length of the text of a note, an error, a status or a file."""
_MAX_OFFSET_GAP: Final = 16_000
"""Maximum number of offsets that one event adds for preceding events without text."""
_ASSUMED_COLUMNS: Final = 80
"""Terminal width that ``Block.weight`` assumes."""
_MAX_DESCRIPTION_CHARS: Final = 120
"""Maximum length of the caption that names the call of an output or a result."""
_MAX_OPEN_CALLS: Final = 32
_RETRACTABLE: Final = frozenset({"", "main", "thinking"})
"""Sources whose text can be retracted. A missing source means ``main``."""


@dataclass(slots=True, eq=False)
class Block:
    """Group of consecutive events that the log shows as one unit.

    Attributes:
        kind: Type of the block.
        first: Number of the first event in the block.
        last: Number of the last event in the block.
        context: State of the builder at the start of the block.
        source: Source of the events, such as ``main`` or ``tools:shell``.
        text: Text of the block; empty for tool calls and results.
        remainder: Characters of the first event's text from the start of the block on.
        starts_event: Whether the block starts where its first event starts.
        failed: Whether the block reports an error.
        style: Component class of the rows.
        symbol: Symbol in the gutter of the first row.
        name: Name of a tool, or the status of a status block without further information.
        call_id: Identifier of a tool call, which distinguishes concurrent calls.
        caption: Description of the call that an output or a result belongs to; empty if
            that is the call directly before it.
        arguments: Arguments of a tool call, as streamed.
        result: Result of a tool call.
        has_result: Whether ``result`` was received.
        path: Path of the file of a file block.
        paths: Paths of the files attached to a user's message.
        checkpoint: State of the files after the step that the block reports.
        offsets: Start of each event in ``text``, beginning with event ``first``. Only blocks
            of streamed text have offsets.
        faint: Whether the block is context around the matches of a filter.
        version: Number of changes so far; a view compares it to reuse a layout.
        layout: Rows that a view caches for this block.
    """

    kind: BlockKind
    first: int
    last: int
    context: BlockContext = START_CONTEXT
    source: str = ""
    text: str = ""
    remainder: int = 0
    starts_event: bool = True
    failed: bool = False
    style: str = ""
    symbol: str = ""
    name: str = ""
    call_id: str = ""
    caption: str = ""
    arguments: str = ""
    result: object = None
    has_result: bool = False
    path: str = ""
    paths: tuple[str, ...] = ()
    checkpoint: event_text.CheckpointText | None = None
    offsets: list[int] = field(default_factory=list, repr=False)
    faint: bool = False
    version: int = 0
    layout: Any = field(default=None, repr=False)

    @property
    def key(self) -> BlockKey:
        """Key of the block's start."""
        return self.first, -self.remainder

    def number_at(self, offset: int) -> int:
        """Return the number of the event that contains ``text[offset]``."""
        if not self.offsets:
            return self.first
        return self.first + max(0, bisect_right(self.offsets, offset) - 1)

    def offset_of(self, number: int) -> int:
        """Return the offset in ``text`` where event ``number`` starts."""
        at = number - self.first
        if not self.offsets or at < 0:
            return 0
        return self.offsets[at] if at < len(self.offsets) else len(self.text)

    @property
    def foldable(self) -> bool:
        """True if the block can be folded to one row."""
        return self.kind in (BlockKind.CALL, BlockKind.RESULT)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that the block links to."""
        if self.kind is BlockKind.FILE:
            return (self.path,) if self.path else ()
        return self.paths

    @property
    def weight(self) -> int:
        """Approximate number of rows."""
        size = len(self.text) + len(self.arguments) // 16
        return 1 + self.text.count("\n") + size // _ASSUMED_COLUMNS + len(self.paths)


def _append_to_block(block: Block, part: str) -> None:
    """Append ``part``; a carriage return in it erases the current line."""
    if "\r" not in part:
        block.text += part
        return
    first, *others = part.split("\r")
    text, keep_chars = block.text + first, len(block.text)
    for other in others:
        start = text.rfind("\n") + 1
        keep_chars = min(keep_chars, start)
        text = text[:start] + other
    block.text = text
    # Events whose text was erased start where the line starts.
    gone = bisect_right(block.offsets, keep_chars)
    block.offsets[gone:] = [keep_chars] * (len(block.offsets) - gone)


def is_retracted(block: Block, first: int, last: int) -> bool:
    """Return whether the block starts in a retracted range and contains an agent's answer."""
    is_piece = (
        block.kind in (BlockKind.TEXT, BlockKind.OUTPUT, BlockKind.CALL)
        and block.source in _RETRACTABLE
    )
    return is_piece and first <= block.first <= last


def retract(blocks: list[Block], first: int, last: int) -> None:
    """Remove the incomplete answer in the events ``first`` to ``last`` from ``blocks``."""
    index = bisect_left(blocks, first, key=lambda block: block.last)
    if index < len(blocks) and blocks[index].first < first:
        _truncate_from_event(blocks[index], first)
    blocks[index:] = [block for block in blocks[index:] if not is_retracted(block, first, last)]


def _truncate_from_event(block: Block, number: int) -> None:
    """Remove the text of event ``number`` and of all later events."""
    if block.kind not in (BlockKind.TEXT, BlockKind.OUTPUT) or block.source not in _RETRACTABLE:
        return
    block.text = block.text[: block.offset_of(number)]
    del block.offsets[number - block.first :]
    block.last = number - 1
    block.version += 1


class BlockBuilder:
    """Builder that groups a sequence of events into blocks.

    Args:
        context: State at the start of the first event; by default that of the first event
            of a task.
    """

    def __init__(self, context: BlockContext | None = None) -> None:
        context = context or START_CONTEXT
        self.blocks: list[Block] = []
        self._pending_calls = context.pending_calls
        self._last_call_id = context.last_call_id if context.flow is None else context.flow.call_id
        self._open_calls = dict(context.open_calls)
        self._flow: TextFlow | None = None
        self._stream = TextStream(context.pending)
        self._open_block: Block | None = None
        self._flow_event = 0
        if context.flow is not None:
            self._start_flow(context.flow, context)

    def feed(self, event: Mapping[str, Any], number: int, remainder: int | None = None) -> None:
        """Add one event to the blocks.

        Args:
            event: The event, as received.
            number: Number of the event in the log.
            remainder: Use only this many characters from the end of the event's text; by
                default the whole text.
        """
        kind = event.get("type", "")
        if (span := retracted_range(event)) is not None:
            self._end_flow()
            self._pending_calls = 0
            self._open_calls.clear()
            retract(self.blocks, *span)
            return
        if kind == "AGENT_EVENT_TEXT_CHUNK":
            self._add_text_chunk(event, number, remainder)
            return
        self._end_flow()
        if kind == "AGENT_EVENT_TOOL_CALL_CHUNK":
            self._add_tool_call(event, number)
        elif kind == "AGENT_EVENT_TOOL_RESULT":
            self._add_tool_result(event, number)
        elif kind == "USER_MESSAGE":
            self._add_user_message(event, number)
        else:
            self._add_line(event, number)

    # Streamed text

    def _add_text_chunk(self, event: Mapping[str, Any], number: int, remainder: int | None) -> None:
        source = event_text.to_text(event.get("source"))
        plain = is_verbatim_source(source)
        flow = (
            TextFlow(BlockKind.OUTPUT, source, _call_id(event))
            if plain
            else TextFlow(BlockKind.TEXT, source)
        )
        if flow != self._flow:
            self._end_flow()
            if not plain:
                self._open_calls.clear()
            self._start_flow(flow, self._current_context())
            self._caption = self._call_caption(flow.call_id)
            self._pending_calls, self._last_call_id = 0, flow.call_id
        pending, self._flow_event = self._stream.pending, number
        text = self._stream.feed(event_text.to_text(event.get("text")))
        self._append_text(text, number, remainder, pending)

    def _start_flow(self, flow: TextFlow, context: BlockContext) -> None:
        self._flow, self._context, self._open_block = flow, context, None
        self._splitter, self._caption = FlowSplitter(flow, context), ""

    def _append_text(
        self, text: str, number: int, remainder: int | None = None, pending: str = ""
    ) -> None:
        assert self._flow is not None
        rest = len(text) if remainder is None else min(remainder, len(text))
        starts_event = rest == len(text)
        for part, cut in self._splitter.split(text[len(text) - rest :], number):
            block = self._open_block
            if block is None and part:
                block = self._open_block = Block(
                    self._flow.kind,
                    number,
                    number,
                    self._context._replace(pending=pending if starts_event else ""),
                    one_line(self._flow.source, 80),
                    remainder=rest,
                    starts_event=starts_event,
                    style="event--output" if self._flow.kind is BlockKind.OUTPUT else "event--text",
                )
                if self._context.flow is None:
                    block.caption = self._caption
                self.blocks.append(block)
            if block is not None and part:
                # One offset per event, including events without text.
                missing = number - block.first + 1 - len(block.offsets)
                if 0 < missing < _MAX_OFFSET_GAP:
                    block.offsets.extend([len(block.text)] * missing)
                _append_to_block(block, part)
                block.last = number
                block.version += 1
                rest, starts_event = rest - len(part), False
            if cut is not None:
                self._open_block, self._context = None, cut

    def _end_flow(self) -> None:
        if self._flow is None:
            return
        pending = self._stream.flush()
        if pending and self._open_block is None and self._context.flow is not None and self.blocks:
            # Too short for a block of its own.
            self.blocks[-1].text += pending
            self.blocks[-1].version += 1
        elif pending:
            self._append_text(pending, self._flow_event)
        self._flow = self._open_block = None

    # Tools

    def _add_tool_call(self, event: Mapping[str, Any], number: int) -> None:
        name = event_text.to_text(event.get("tool_name"))
        source = one_line(event_text.to_text(event.get("source")), 80)
        call_id = _call_id(event)
        block = self.blocks[-1] if self.blocks else None
        is_continued = block is not None and block.kind is BlockKind.CALL and not block.has_result
        is_same_call = block is not None and (block.source, block.call_id) == (source, call_id)
        if block is None or not is_continued or name or not is_same_call:
            block = self._add_block(BlockKind.CALL, number)
            block.source, block.name, block.call_id = source, one_line(name, 120), call_id
            block.style, block.symbol = "event--call", "▸"
            self._pending_calls += 1
        chunk = event_text.to_text(event.get("args_chunk"))
        block.arguments += chunk[: _MAX_ARGUMENT_CHARS - len(block.arguments)]
        self._last_call_id = call_id
        if call_id and (call_id in self._open_calls or len(self._open_calls) < _MAX_OPEN_CALLS):
            described = f"{block.name} {block.arguments[: 4 * _MAX_DESCRIPTION_CHARS]}"
            self._open_calls[call_id] = one_line(described, _MAX_DESCRIPTION_CHARS)
        block.last = number
        block.version += 1

    def _add_tool_result(self, event: Mapping[str, Any], number: int) -> None:
        name = one_line(event_text.to_text(event.get("tool_name")), 120)
        value = event.get("result")
        described = event_text.describe_result(value)
        block = self.blocks[-1] if self.blocks else None
        call_id = _call_id(event)
        follows_call = block is not None and block.kind is BlockKind.CALL and block.name == name
        # If the call of a result is ambiguous, the result gets a block of its own.
        is_unambiguous = (
            self._pending_calls == 1 if block is None or not call_id else block.call_id == call_id
        )
        if block is None or not follows_call or not is_unambiguous:
            block = self._add_block(BlockKind.RESULT, number)
            block.name = name
            block.source = one_line(event_text.to_text(event.get("source")), 80)
            block.style, block.symbol = described.style, described.symbol
            block.caption = self._call_caption(call_id)
        self._open_calls.pop(call_id, None)
        self._pending_calls = 0
        block.result, block.has_result, block.failed = value, True, described.failed
        block.last = number
        block.version += 1

    # Messages of the user

    def _add_user_message(self, event: Mapping[str, Any], number: int) -> None:
        block = self._add_block(BlockKind.USER, number)
        self._pending_calls = 0
        self._open_calls.clear()
        described = event_text.describe_user_message(event.get("text"))
        block.text, block.style, block.symbol = described[:3]
        block.paths = event_text.attachment_paths(event.get("attachments"))

    # Events that are shown on a line of their own

    def _add_line(self, event: Mapping[str, Any], number: int) -> None:
        kind, block_kind, path = event.get("type", ""), BlockKind.NOTE, None
        checkpoint: event_text.CheckpointText | None = None
        if kind == "TASK_STATUS":
            block_kind, described = BlockKind.STATUS, event_text.describe_status(event)
        elif kind == "AGENT_EVENT_SEND_FILE":
            path = event_text.to_text(event.get("path"))
            described = event_text.describe_file(path, "⇩")
        elif kind == "AGENT_EVENT_CUSTOM_UPDATE":
            payload = event.get("payload")
            path = event_text.changed_file_path(payload)
            checkpoint = event_text.checkpoint_text(payload)
            block_kind = BlockKind.NOTE if checkpoint is None else BlockKind.CHECKPOINT
            described = event_text.describe_update(payload)
        elif kind == "AGENT_EVENT_END":
            block_kind, described = BlockKind.END, event_text.describe_end(event)
        elif kind == "ERROR":
            block_kind, described = BlockKind.ERROR, event_text.describe_error(event)
        else:
            described = event_text.describe_unknown(event)
        block = self._add_block(BlockKind.FILE if path is not None else block_kind, number)
        self._pending_calls = 0
        if block_kind not in (BlockKind.NOTE, BlockKind.CHECKPOINT):
            self._open_calls.clear()
        block.text, block.style, block.symbol, block.failed = described
        block.text, block.path = printable(block.text[:_MAX_NOTE_CHARS]), path or ""
        block.source = one_line(event_text.to_text(event.get("source")), 80)
        block.checkpoint = checkpoint
        if block_kind is BlockKind.STATUS and event.get("reason") in (None, "", "user"):
            block.name = event_text.to_text(event.get("status"))

    def _add_block(self, kind: BlockKind, number: int) -> Block:
        block = Block(kind, number, number, self._current_context())
        self.blocks.append(block)
        return block

    def _current_context(self) -> BlockContext:
        calls = tuple(self._open_calls.items())
        return BlockContext(
            pending_calls=self._pending_calls, last_call_id=self._last_call_id, open_calls=calls
        )

    def _call_caption(self, call_id: str) -> str:
        """Return the description of a call, or "" if the previous block belongs to it."""
        if not call_id or call_id == self._last_call_id:
            return ""
        return self._open_calls.get(call_id, "")


def _call_id(event: Mapping[str, Any]) -> str:
    return one_line(event_text.to_text(event.get("call_id")), 80)
