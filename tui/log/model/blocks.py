"""A task's events as blocks: text that flows, tool calls, files, errors, notes.

Pure: no widget and no colour. Every text in a block is printable already, apart from
arguments and results, which are made so where they are shown.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from beray.sanitize import one_line, printable
from beray.streaming.retraction import retracted_range
from tui.log.model import event_text
from tui.log.model.text_stream import START, Context, Cutter, Flow, Gate, Kind

__all__ = ["Block", "Builder", "Kind"]

_MOST_ARGUMENTS: Final = 64 * 1024
_MOST_WORDS: Final = 16_000
_COLUMNS: Final = 80
_DESCRIPTION: Final = 120
"""Characters that describe a call where its output is not right after it."""
_MOST_CALLS: Final = 32
_RETRACTABLE: Final = frozenset({"", "main", "thinking"})
"""Sources whose pieces can be retracted; no source is ``main``."""


@dataclass(slots=True, eq=False)
class Block:
    """What stands together in the log.

    Attributes:
        first, last: the numbers of the events that it was made of.
        left: how many characters of its first event's text there were from its start.
        whole: it begins where its first event begins.
        version: counts its changes.
        layout: what a view keeps here of its rows.
    """

    kind: Kind
    first: int
    last: int
    context: Context = START
    source: str = ""
    text: str = ""
    left: int = 0
    whole: bool = True
    failed: bool = False
    style: str = ""
    mark: str = ""
    name: str = ""
    """A tool's, or that of a status which says no more than that."""
    call_id: str = ""
    """What tells a call from others that are made at the same time."""
    caption: str = ""
    """The call that an output or a result belongs to, if it is not the one right before."""
    arguments: str = ""
    result: object = None
    answered: bool = False
    path: str = ""
    paths: tuple[str, ...] = ()
    """Of the files that a user's message has with it."""
    offsets: list[int] = field(default_factory=list, repr=False)
    """Where in ``text`` each event of a flow begins, from ``first`` on."""
    faint: bool = False
    """Shown beside what a filter found."""
    version: int = 0
    layout: Any = field(default=None, repr=False)

    @property
    def key(self) -> tuple[int, int]:
        """Where it begins; later blocks have greater keys."""
        return self.first, -self.left

    def number_at(self, offset: int) -> int:
        """The number of the event that this character of ``text`` came with."""
        if not self.offsets:
            return self.first
        return self.first + max(0, bisect_right(self.offsets, offset) - 1)

    def offset_of(self, number: int) -> int:
        """Where in ``text`` event ``number`` begins."""
        at = number - self.first
        if not self.offsets or at < 0:
            return 0
        return self.offsets[at] if at < len(self.offsets) else len(self.text)

    @property
    def foldable(self) -> bool:
        return self.kind in (Kind.CALL, Kind.RESULT)

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it leads to."""
        if self.kind is Kind.FILE:
            return (self.path,) if self.path else ()
        return self.paths

    @property
    def weight(self) -> int:
        """Its rows, roughly."""
        size = len(self.text) + len(self.arguments) // 16
        return 1 + self.text.count("\n") + size // _COLUMNS + len(self.paths)


def _add_text(block: Block, part: str) -> None:
    """Append ``part``; each CR in it removes what its line had so far."""
    if "\r" not in part:
        block.text += part
        return
    first, *others = part.split("\r")
    text, kept = block.text + first, len(block.text)
    for other in others:
        start = text.rfind("\n") + 1
        kept = min(kept, start)
        text = text[:start] + other
    block.text = text
    # Events whose text is gone begin where the line does.
    gone = bisect_right(block.offsets, kept)
    block.offsets[gone:] = [kept] * (len(block.offsets) - gone)


def is_retracted(block: Block, first: int, last: int) -> bool:
    """Return whether a block is a piece of an answer that begins in a retracted range."""
    is_piece = block.kind in (Kind.TEXT, Kind.OUTPUT, Kind.CALL) and block.source in _RETRACTABLE
    return is_piece and first <= block.first <= last


def retract(blocks: list[Block], first: int, last: int) -> None:
    """Remove from ``blocks`` what the events ``first`` to ``last`` have of a broken answer."""
    index = bisect_left(blocks, first, key=lambda block: block.last)
    if index < len(blocks) and blocks[index].first < first:
        _cut_off(blocks[index], first)
    blocks[index:] = [block for block in blocks[index:] if not is_retracted(block, first, last)]


def _cut_off(block: Block, number: int) -> None:
    """Remove the text that came with event ``number`` and those after it."""
    if block.kind not in (Kind.TEXT, Kind.OUTPUT) or block.source not in _RETRACTABLE:
        return
    block.text = block.text[: block.offset_of(number)]
    del block.offsets[number - block.first :]
    block.last = number - 1
    block.version += 1


class Builder:
    """Makes blocks of events, one after another.

    Args:
        context: what holds where the first event begins.
    """

    def __init__(self, context: Context | None = None) -> None:
        context = context or START
        self.blocks: list[Block] = []
        self._calls = context.calls
        self._last_call = context.last_call if context.flow is None else context.flow.call
        self._open_calls = dict(context.open_calls)
        self._flow: Flow | None = None
        self._gate = Gate(context.held)
        self._open: Block | None = None
        self._flowed = 0
        if context.flow is not None:
            self._begin(context.flow, context)

    def feed(self, event: Mapping[str, Any], number: int, left: int | None = None) -> None:
        """Take one event, or only the last ``left`` characters of its text."""
        kind = event.get("type", "")
        if (span := retracted_range(event)) is not None:
            self._end_flow()
            self._calls = 0
            self._open_calls.clear()
            retract(self.blocks, *span)
            return
        if kind == "AGENT_EVENT_TEXT_CHUNK":
            self._text(event, number, left)
            return
        self._end_flow()
        if kind == "AGENT_EVENT_TOOL_CALL_CHUNK":
            self._call(event, number)
        elif kind == "AGENT_EVENT_TOOL_RESULT":
            self._result(event, number)
        elif kind == "USER_MESSAGE":
            self._user(event, number)
        else:
            self._say(event, number)

    # Text that flows

    def _text(self, event: Mapping[str, Any], number: int, left: int | None) -> None:
        source = event_text.words(event.get("source"))
        plain = event_text.is_plain(source)
        flow = Flow(Kind.OUTPUT, source, _call_id(event)) if plain else Flow(Kind.TEXT, source)
        if flow != self._flow:
            self._end_flow()
            if not plain:
                self._open_calls.clear()
            self._begin(flow, self._here())
            self._caption = self._caption_of(flow.call)
            self._calls, self._last_call = 0, flow.call
        held, self._flowed = self._gate.held, number
        text = self._gate.pass_on(event_text.words(event.get("text")))
        self._flow_on(text, number, left, held)

    def _begin(self, flow: Flow, context: Context) -> None:
        self._flow, self._context, self._open = flow, context, None
        self._cutter, self._caption = Cutter(flow, context), ""

    def _flow_on(self, text: str, number: int, left: int | None = None, held: str = "") -> None:
        assert self._flow is not None
        rest = len(text) if left is None else min(left, len(text))
        whole = rest == len(text)
        for part, cut in self._cutter.feed(text[len(text) - rest :], number):
            block = self._open
            if block is None and part:
                block = self._open = Block(
                    self._flow.kind,
                    number,
                    number,
                    self._context._replace(held=held if whole else ""),
                    one_line(self._flow.source, 80),
                    left=rest,
                    whole=whole,
                    style="event--output" if self._flow.kind is Kind.OUTPUT else "event--text",
                )
                if self._context.flow is None:
                    block.caption = self._caption
                self.blocks.append(block)
            if block is not None and part:
                # One for each event, also for one that had no text.
                missing = number - block.first + 1 - len(block.offsets)
                if 0 < missing < _MOST_WORDS:
                    block.offsets.extend([len(block.text)] * missing)
                _add_text(block, part)
                block.last = number
                block.version += 1
                rest, whole = rest - len(part), False
            if cut is not None:
                self._open, self._context = None, cut

    def _end_flow(self) -> None:
        if self._flow is None:
            return
        held = self._gate.rest()
        if held and self._open is None and self._context.flow is not None and self.blocks:
            # Behind the end of a piece: not worth one of its own.
            self.blocks[-1].text += held
            self.blocks[-1].version += 1
        elif held:
            self._flow_on(held, self._flowed)
        self._flow = self._open = None

    # Tools

    def _call(self, event: Mapping[str, Any], number: int) -> None:
        name = event_text.words(event.get("tool_name"))
        source = one_line(event_text.words(event.get("source")), 80)
        call_id = _call_id(event)
        block = self.blocks[-1] if self.blocks else None
        goes_on = block is not None and block.kind is Kind.CALL and not block.answered
        same = block is not None and (block.source, block.call_id) == (source, call_id)
        if block is None or not goes_on or name or not same:
            block = self._add(Kind.CALL, number)
            block.source, block.name, block.call_id = source, one_line(name, 120), call_id
            block.style, block.mark = "event--call", "▸"
            self._calls += 1
        chunk = event_text.words(event.get("args_chunk"))
        block.arguments += chunk[: _MOST_ARGUMENTS - len(block.arguments)]
        self._last_call = call_id
        if call_id and (call_id in self._open_calls or len(self._open_calls) < _MOST_CALLS):
            described = f"{block.name} {block.arguments[: 4 * _DESCRIPTION]}"
            self._open_calls[call_id] = one_line(described, _DESCRIPTION)
        block.last = number
        block.version += 1

    def _result(self, event: Mapping[str, Any], number: int) -> None:
        name = one_line(event_text.words(event.get("tool_name")), 120)
        value = event.get("result")
        said = event_text.result(value)
        block = self.blocks[-1] if self.blocks else None
        call_id = _call_id(event)
        answers = block is not None and block.kind is Kind.CALL and block.name == name
        # Where it is not said which of several calls it answers, it stands alone.
        sure = self._calls == 1 if block is None or not call_id else block.call_id == call_id
        if block is None or not answers or not sure:
            block = self._add(Kind.RESULT, number)
            block.name = name
            block.source = one_line(event_text.words(event.get("source")), 80)
            block.style, block.mark = said.style, said.mark
            block.caption = self._caption_of(call_id)
        self._open_calls.pop(call_id, None)
        self._calls = 0
        block.result, block.answered, block.failed = value, True, said.failed
        block.last = number
        block.version += 1

    # What the user says

    def _user(self, event: Mapping[str, Any], number: int) -> None:
        block = self._add(Kind.USER, number)
        self._calls = 0
        self._open_calls.clear()
        block.text, block.style, block.mark = event_text.user(event.get("text"))[:3]
        block.paths = event_text.attachments(event.get("attachments"))

    # What is said on a line of its own

    def _say(self, event: Mapping[str, Any], number: int) -> None:
        kind, block_kind, path = event.get("type", ""), Kind.NOTE, None
        if kind == "TASK_STATUS":
            block_kind, said = Kind.STATUS, event_text.status_of(event)
        elif kind == "AGENT_EVENT_SEND_FILE":
            path = event_text.words(event.get("path"))
            said = event_text.file(path, "⇩")
        elif kind == "AGENT_EVENT_CUSTOM_UPDATE":
            path = event_text.changed_file(event.get("payload"))
            said = (
                event_text.note(event.get("payload"))
                if path is None
                else event_text.file(path, "✎")
            )
        elif kind == "AGENT_EVENT_END":
            block_kind, said = Kind.END, event_text.end(event)
        elif kind == "ERROR":
            block_kind, said = Kind.ERROR, event_text.error(event)
        else:
            said = event_text.unknown(event)
        block = self._add(Kind.FILE if path is not None else block_kind, number)
        self._calls = 0
        if block_kind is not Kind.NOTE:
            self._open_calls.clear()
        block.text, block.style, block.mark, block.failed = said
        block.text, block.path = printable(block.text[:_MOST_WORDS]), path or ""
        block.source = one_line(event_text.words(event.get("source")), 80)
        if block_kind is Kind.STATUS and event.get("reason") in (None, "", "user"):
            block.name = event_text.words(event.get("status"))

    def _add(self, kind: Kind, number: int) -> Block:
        block = Block(kind, number, number, self._here())
        self.blocks.append(block)
        return block

    def _here(self) -> Context:
        calls = tuple(self._open_calls.items())
        return Context(calls=self._calls, last_call=self._last_call, open_calls=calls)

    def _caption_of(self, call_id: str) -> str:
        """Return the description of a call, "" if the block right before leaves no doubt."""
        if not call_id or call_id == self._last_call:
            return ""
        return self._open_calls.get(call_id, "")


def _call_id(event: Mapping[str, Any]) -> str:
    return one_line(event_text.words(event.get("call_id")), 80)
