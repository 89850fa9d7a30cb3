"""Filtered log: the blocks that match a query, with one line of context around them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from beray.streaming.retraction import retracted_range
from tui.events.blocks import Block, BlockBuilder, BlockKey, is_retracted
from tui.events.text_stream import BlockContext, BlockKind
from tui.events.window import MAX_WEIGHT, EventWindow, NumberedEvent
from tui.log.model.query import Query, searchable_text

SCAN_PAGE: Final = 2000
"""Number of events per page when earlier events are read."""
MAX_MATCHES: Final = 2000
"""Number of matches beyond which some are dropped."""
_KEEP_RATIO: Final = 0.75
"""Share of the limits that remains after matches were dropped."""
_MAX_CONTEXT_CHARS: Final = 400
"""Maximum length of a line of context."""


def gap_block(text: str, number: int) -> Block:
    """Return a line of the view itself, which does not belong to an event."""
    return Block(BlockKind.GAP, number, number, text=text, style="event--note")


def event_count(count: int, which: str = "") -> str:
    """Return a count of events as text, such as "3 earlier events"."""
    return f"{count:,} {which}event{'' if count == 1 else 's'}"


@dataclass(slots=True)
class _FilterMatch:
    """Block that matches the filter, with its neighbours.

    Attributes:
        block: The block in the log.
        shown: The parts of the block that match.
        includes_start: Whether ``shown`` starts where the block starts.
        includes_end: Whether ``shown`` ends where the block ends.
        previous: Block before this one in the log.
        following: Block after this one in the log.
    """

    block: Block
    shown: list[Block]
    includes_start: bool
    includes_end: bool
    previous: Block | None = None
    following: Block | None = None

    @property
    def weight(self) -> int:
        return sum(block.weight for block in self.shown)


def has_stable_start(block: Block) -> bool:
    """Return True if the block would start at the same place had reading begun earlier."""
    return block.context.flow is None or (
        block.kind is BlockKind.OUTPUT and not block.context.continues_line
    )


def blocks_before(events: Sequence[NumberedEvent], start_key: BlockKey) -> list[Block]:
    """Return the blocks of ``events`` before the block with the key ``start_key``.

    The first returned block starts with event 1 or, if possible, has a stable start.
    """
    builder = BlockBuilder()
    for number, event in events:
        builder.feed(event, number)
    blocks = [block for block in builder.blocks if block.key < start_key]
    if events and events[0][0] == 1:
        return blocks
    for index, block in enumerate(blocks):
        if index and has_stable_start(block):
            return blocks[index:]
    return blocks[1:] or blocks


class FilteredLog:
    """Matches of a query in the part of a log that was read so far, in bounded memory.

    Args:
        query: The filter.
        window: Events to start with; more are added at both ends.

    Attributes:
        start_key: Key of the first block that was read.
        last: Number of the last event that was read.
    """

    def __init__(self, query: Query, window: EventWindow) -> None:
        self.query = query
        blocks = window.blocks
        first = next(
            (block for block in blocks[1:] if has_stable_start(block)),
            blocks[0] if blocks else None,
        )
        if window.first == 1 and window.is_first_event_complete:
            first = blocks[0] if blocks else None
        self.start_key = first.key if first is not None else (window.first, 0)
        self.last = self.start_key[0] - 1
        self._matches: list[_FilterMatch] = []
        self._weight = 0
        self._retracted_spans: list[tuple[int, int]] = []
        """Ranges that events read so far retract; kept because their events may be read later."""
        self._gap_blocks: dict[tuple[str, int], Block] = {}
        self._resume(first)
        self.append(window.events)

    @property
    def first(self) -> int:
        """Number of the first event that was read."""
        return self.start_key[0]

    @property
    def has_earlier(self) -> bool:
        """True if there are events before those that were read."""
        return self.first > 1

    def _resume(self, block: Block | None) -> None:
        self._builder = BlockBuilder(block.context if block is not None else BlockContext())
        self._remainder = block.remainder if block is not None and block.remainder else None
        self._previous: Block | None = None

    # Reading

    def append(self, events: Iterable[NumberedEvent]) -> None:
        """Read the events that follow; events that were read already are ignored."""
        for number, event in events:
            if number > self.last:
                self._builder.feed(event, number, self._remainder)
                self.last, self._remainder = number, None
                if (span := retracted_range(event)) is not None:
                    self._retract(span)
        closed = self._builder.blocks[:-1]
        del self._builder.blocks[:-1]
        for block in closed:
            self._process_block(block)

    def _retract(self, span: tuple[int, int]) -> None:
        """Remove the matches in a retracted answer."""
        self._retracted_spans.append(span)
        self._matches = [match for match in self._matches if not is_retracted(match.block, *span)]
        self._weight = sum(match.weight for match in self._matches)
        if self._matches and (after := self._matches[-1].following) and is_retracted(after, *span):
            self._matches[-1].following = None
        if self._previous is not None and is_retracted(self._previous, *span):
            self._previous = None

    def _process_block(self, block: Block) -> None:
        if (
            self._previous is not None
            and self._matches
            and self._matches[-1].block is self._previous
        ):
            self._matches[-1].following = block
        match = self._match_block(block, self._previous)
        if match is not None:
            self._matches.append(match)
            self._weight += match.weight
        self._previous = block

    def prepend(self, blocks: Sequence[Block]) -> None:
        """Add the blocks that ``blocks_before`` returned for the events before ``start_key``."""
        matches: list[_FilterMatch] = []
        previous: Block | None = None
        for block in blocks:
            if any(is_retracted(block, *span) for span in self._retracted_spans):
                continue
            if matches and matches[-1].block is previous:
                matches[-1].following = block
            match = self._match_block(block, previous)
            if match is not None:
                matches.append(match)
            previous = block
        if self._matches and previous is not None and self._matches[0].block.key == self.start_key:
            self._matches[0].previous = previous
        self._matches[:0] = matches
        self._weight += sum(match.weight for match in matches)
        if blocks:
            self.start_key = blocks[0].key

    def _match_block(self, block: Block, previous: Block | None) -> _FilterMatch | None:
        if not self.query.accepts(block):
            return None
        if block.kind is BlockKind.OUTPUT and self.query.patterns:
            return _match_lines(block, self.query, previous)
        if self.query.patterns and not self.query.matches_text(searchable_text(block)):
            return None
        return _FilterMatch(block, [block], True, True, previous)

    # Dropping matches

    @property
    def too_large(self) -> bool:
        """True if matches should be dropped at one end."""
        return len(self._matches) > MAX_MATCHES or self._weight > MAX_WEIGHT

    def _excess(self, matches: Iterable[_FilterMatch]) -> int:
        """Return how many of ``matches``, in this order, must be dropped."""
        count, number, weight = 0, len(self._matches), self._weight
        for match in matches:
            if number <= MAX_MATCHES * _KEEP_RATIO and weight <= MAX_WEIGHT * _KEEP_RATIO:
                break
            count, number, weight = count + 1, number - 1, weight - match.weight
        return min(count, len(self._matches) - 1)

    def drop_top(self) -> None:
        """Drop the oldest matches."""
        cut = self._excess(self._matches)
        self._weight -= sum(match.weight for match in self._matches[:cut])
        del self._matches[:cut]
        self.start_key = self._matches[0].block.key

    def drop_bottom(self) -> None:
        """Drop the newest matches; their events can be read again."""
        cut = len(self._matches) - self._excess(reversed(self._matches))
        if cut < len(self._matches):
            block = self._matches[cut].block
            self._weight -= sum(match.weight for match in self._matches[cut:])
            del self._matches[cut:]
            self.last = block.first - 1
            self._resume(block)

    # Result

    def blocks(self) -> list[Block]:
        """Return the matches, their context, and lines that count the events in between."""
        matches = self._matches
        last = self._builder.blocks[-1] if self._builder.blocks else None
        open_match = self._match_block(last, self._previous) if last is not None else None
        if open_match is not None:
            matches = [*matches, open_match]
        shown: list[Block] = []
        for index, match in enumerate(matches):
            before = matches[index - 1] if index else None
            joined = before is not None and before.block is match.previous and before.includes_end
            if match.includes_start and match.previous is not None and not joined:
                self._add(shown, _context_line(match.previous, first=False))
            for block in match.shown:
                self._add(shown, block)
            after = matches[index + 1] if index + 1 < len(matches) else None
            met = after is not None and after.previous is match.block and after.includes_start
            if match.includes_end and match.following is not None and not met:
                self._add(shown, _context_line(match.following, first=True))
        if shown and shown[0].first > self.first:
            shown.insert(
                0, self._gap_block(f"… {event_count(shown[0].first - self.first)}", self.first)
            )
        if not shown:
            count = self.last - self.first + 1
            return (
                [self._gap_block(f"no match in {event_count(count)}", self.first)]
                if count > 0
                else []
            )
        if shown[-1].last < self.last:
            shown.append(self._gap_block(f"… {event_count(self.last - shown[-1].last)}", self.last))
        return shown

    def _add(self, shown: list[Block], block: Block) -> None:
        before = shown[-1] if shown else None
        if before is not None:
            if before.text == block.text and before.first == block.first and block.faint:
                return
            count = block.first - before.last - 1
            if count > 0 and BlockKind.GAP not in (before.kind, block.kind):
                shown.append(self._gap_block(f"… {event_count(count)}", block.first - 1))
        shown.append(block)

    def _gap_block(self, text: str, number: int) -> Block:
        gap = self._gap_blocks.get((text, number))
        if gap is None:
            if len(self._gap_blocks) > 2 * MAX_MATCHES:
                self._gap_blocks.clear()
            gap = self._gap_blocks[text, number] = gap_block(text, number)
        return gap


def _match_lines(block: Block, query: Query, previous: Block | None) -> _FilterMatch | None:
    """Return the matching lines of output, each group as a block, or ``None``."""
    text = block.text[:-1] if block.text.endswith("\n") else block.text
    lines = text.split("\n")
    matches = {index for index, line in enumerate(lines) if query.matches_text(line)}
    if not matches:
        return None
    if len(matches) == len(lines):
        return _FilterMatch(block, [block], True, True, previous)
    shown: list[Block] = []
    at, last = 0, -1
    for index, line in enumerate(lines):
        if not matches.isdisjoint((index - 1, index, index + 1)):
            first, end = block.number_at(at), block.number_at(at + max(0, len(line) - 1))
            faint = index not in matches
            if shown and last < index - 1:
                shown.append(gap_block(f"… {index - 1 - last:,} lines", first))
            if shown and last == index - 1 and not faint and not shown[-1].faint:
                shown[-1].text += "\n" + line
                shown[-1].last = end
            else:
                shown.append(_partial_block(block, line, first, end, faint=faint))
                shown[-1].remainder = len(text) - at  # so that later lines have greater keys
            last = index
        at += len(line) + 1
    return _FilterMatch(block, shown, 0 in matches, len(lines) - 1 in matches, previous)


def _context_line(block: Block, *, first: bool) -> Block:
    """Return the first or the last line of a block, as context of a match."""
    if block.kind in (BlockKind.TEXT, BlockKind.OUTPUT):
        lines = block.text.strip("\n").split("\n")
        text = lines[0 if first else -1]
    else:
        text = searchable_text(block).split("\n")[0]
    number = block.first if first else block.last
    return _partial_block(block, text[:_MAX_CONTEXT_CHARS], number, number, faint=True)


def _partial_block(block: Block, text: str, first: int, last: int, *, faint: bool) -> Block:
    plain = block.kind in (BlockKind.TEXT, BlockKind.OUTPUT)
    return Block(
        block.kind if plain else BlockKind.NOTE,
        first,
        last,
        source=block.source,
        text=text,
        style=block.style,
        symbol=block.symbol,
        faint=faint,
    )
