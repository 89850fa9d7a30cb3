"""The blocks of a log that a filter lets through, with a line around each group of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from beray.streaming.retraction import retracted_range
from tui.events.blocks import Block, Builder, is_retracted
from tui.events.text_stream import Context, Kind
from tui.events.window import MOST_WEIGHT, Numbered, Window
from tui.log.model.query import Query, text_of

SCAN_PAGE: Final = 2000
MAX_SHOWN: Final = 2000
_KEPT: Final = 0.75
_CONTEXT_CHARACTERS: Final = 400
_LAST: Final = 1 << 62


def note(words: str, number: int) -> Block:
    """A line of the view's own, which is no event."""
    return Block(Kind.GAP, number, number, text=words, style="event--note")


def counted(count: int, which: str = "") -> str:
    return f"{count:,} {which}event{'' if count == 1 else 's'}"


@dataclass(slots=True)
class _Hit:
    """A block that the filter lets through, and the lines beside it."""

    block: Block
    shown: list[Block]
    begins: bool
    """Whether what is shown begins with the block."""
    ends: bool
    previous: Block | None = None
    following: Block | None = None

    @property
    def weight(self) -> int:
        return sum(block.weight for block in self.shown)


def sure(block: Block) -> bool:
    """Whether a reader who began earlier would have the block begin where it does."""
    return block.context.flow is None or (block.kind is Kind.OUTPUT and not block.context.joined)


def blocks_before(events: Sequence[Numbered], begin: tuple[int, int]) -> list[Block]:
    """The blocks of ``events`` up to the one that begins at the key ``begin``.

    The first of them begins with event 1, or is one whose beginning is sure, if any is.
    """
    builder = Builder()
    for number, event in events:
        builder.feed(event, number)
    blocks = [block for block in builder.blocks if block.key < begin]
    if events and events[0][0] == 1:
        return blocks
    for index, block in enumerate(blocks):
        if index and sure(block):
            return blocks[index:]
    return blocks[1:] or blocks


class Sieve:
    """What a filter shows of a log, as far as it was read. Flat, whatever there is.

    Args:
        window: where it begins: the events of the log that are at hand.
    """

    def __init__(self, query: Query, window: Window) -> None:
        self.query = query
        blocks = window.blocks
        first = next((one for one in blocks[1:] if sure(one)), blocks[0] if blocks else None)
        if window.first == 1 and window.is_whole:
            first = blocks[0] if blocks else None
        self.begin = first.key if first is not None else (window.first, 0)
        """The key of the first block that was read."""
        self.last = self.begin[0] - 1
        """The number of the last event that was read."""
        self._hits: list[_Hit] = []
        self._weight = 0
        self._spans: list[tuple[int, int]] = []
        """What the events that were read retract: earlier ones may be read later."""
        self._notes: dict[tuple[str, int], Block] = {}
        self._resume(first)
        self.append(window.events)

    @property
    def first(self) -> int:
        return self.begin[0]

    @property
    def has_earlier(self) -> bool:
        return self.first > 1

    def _resume(self, block: Block | None) -> None:
        self._builder = Builder(block.context if block is not None else Context())
        self._left = block.left if block is not None and block.left else None
        self._previous: Block | None = None

    # Reading

    def append(self, events: Iterable[Numbered]) -> None:
        """Read what comes right behind; what was read already is passed over."""
        for number, event in events:
            if number > self.last:
                self._builder.feed(event, number, self._left)
                self.last, self._left = number, None
                if (span := retracted_range(event)) is not None:
                    self._retract(span)
        closed = self._builder.blocks[:-1]
        del self._builder.blocks[:-1]
        for block in closed:
            self._read(block)

    def _retract(self, span: tuple[int, int]) -> None:
        """Remove the matches in a broken answer."""
        self._spans.append(span)
        self._hits = [hit for hit in self._hits if not is_retracted(hit.block, *span)]
        self._weight = sum(hit.weight for hit in self._hits)
        if self._hits and (after := self._hits[-1].following) and is_retracted(after, *span):
            self._hits[-1].following = None
        if self._previous is not None and is_retracted(self._previous, *span):
            self._previous = None

    def _read(self, block: Block) -> None:
        if self._previous is not None and self._hits and self._hits[-1].block is self._previous:
            self._hits[-1].following = block
        hit = self._hit(block, self._previous)
        if hit is not None:
            self._hits.append(hit)
            self._weight += hit.weight
        self._previous = block

    def prepend(self, blocks: Sequence[Block]) -> None:
        """Add what ``blocks_before`` has made of the events before ``begin``."""
        hits: list[_Hit] = []
        previous: Block | None = None
        for block in blocks:
            if any(is_retracted(block, *span) for span in self._spans):
                continue
            if hits and hits[-1].block is previous:
                hits[-1].following = block
            hit = self._hit(block, previous)
            if hit is not None:
                hits.append(hit)
            previous = block
        if self._hits and previous is not None and self._hits[0].block.key == self.begin:
            self._hits[0].previous = previous
        self._hits[:0] = hits
        self._weight += sum(hit.weight for hit in hits)
        if blocks:
            self.begin = blocks[0].key

    def _hit(self, block: Block, previous: Block | None) -> _Hit | None:
        if not self.query.accepts(block):
            return None
        if block.kind is Kind.OUTPUT and self.query.patterns:
            return _lines(block, self.query, previous)
        if self.query.patterns and not self.query.has_words(text_of(block)):
            return None
        return _Hit(block, [block], True, True, previous)

    # Letting go

    @property
    def too_large(self) -> bool:
        return len(self._hits) > MAX_SHOWN or self._weight > MOST_WEIGHT

    def _excess(self, hits: Iterable[_Hit]) -> int:
        """How many of ``hits``, which come in the order in which they may go, are too many."""
        count, number, weight = 0, len(self._hits), self._weight
        for hit in hits:
            if number <= MAX_SHOWN * _KEPT and weight <= MOST_WEIGHT * _KEPT:
                break
            count, number, weight = count + 1, number - 1, weight - hit.weight
        return min(count, len(self._hits) - 1)

    def drop_top(self) -> None:
        cut = self._excess(self._hits)
        self._weight -= sum(hit.weight for hit in self._hits[:cut])
        del self._hits[:cut]
        self.begin = self._hits[0].block.key

    def drop_bottom(self) -> None:
        cut = len(self._hits) - self._excess(reversed(self._hits))
        if cut < len(self._hits):
            block = self._hits[cut].block
            self._weight -= sum(hit.weight for hit in self._hits[cut:])
            del self._hits[cut:]
            self.last = block.first - 1
            self._resume(block)

    # What is shown

    def blocks(self) -> list[Block]:
        """Matches, their context, and what is left out between them."""
        hits = self._hits
        last = self._builder.blocks[-1] if self._builder.blocks else None
        open_hit = self._hit(last, self._previous) if last is not None else None
        if open_hit is not None:
            hits = [*hits, open_hit]
        shown: list[Block] = []
        for index, hit in enumerate(hits):
            before = hits[index - 1] if index else None
            joined = before is not None and before.block is hit.previous and before.ends
            if hit.begins and hit.previous is not None and not joined:
                self._add(shown, _line(hit.previous, first=False))
            for block in hit.shown:
                self._add(shown, block)
            after = hits[index + 1] if index + 1 < len(hits) else None
            met = after is not None and after.previous is hit.block and after.begins
            if hit.ends and hit.following is not None and not met:
                self._add(shown, _line(hit.following, first=True))
        if shown and shown[0].first > self.first:
            shown.insert(0, self._note(f"… {counted(shown[0].first - self.first)}", self.first))
        if not shown:
            count = self.last - self.first + 1
            return [self._note(f"nothing of {counted(count)}", self.first)] if count > 0 else []
        if shown[-1].last < self.last:
            shown.append(self._note(f"… {counted(self.last - shown[-1].last)}", self.last))
        return shown

    def _add(self, shown: list[Block], block: Block) -> None:
        before = shown[-1] if shown else None
        if before is not None:
            if before.text == block.text and before.first == block.first and block.faint:
                return
            count = block.first - before.last - 1
            if count > 0 and Kind.GAP not in (before.kind, block.kind):
                shown.append(self._note(f"… {counted(count)}", block.first - 1))
        shown.append(block)

    def _note(self, words: str, number: int) -> Block:
        found = self._notes.get((words, number))
        if found is None:
            if len(self._notes) > 2 * MAX_SHOWN:
                self._notes.clear()
            found = self._notes[words, number] = note(words, number)
        return found


def _lines(block: Block, query: Query, previous: Block | None) -> _Hit | None:
    """The lines of output that match, in pieces of their own."""
    text = block.text[:-1] if block.text.endswith("\n") else block.text
    lines = text.split("\n")
    hits = {index for index, line in enumerate(lines) if query.has_words(line)}
    if not hits:
        return None
    if len(hits) == len(lines):
        return _Hit(block, [block], True, True, previous)
    shown: list[Block] = []
    at, last = 0, -1
    for index, line in enumerate(lines):
        if not hits.isdisjoint((index - 1, index, index + 1)):
            first, end = block.number_at(at), block.number_at(at + max(0, len(line) - 1))
            faint = index not in hits
            if shown and last < index - 1:
                shown.append(note(f"… {index - 1 - last:,} lines", first))
            if shown and last == index - 1 and not faint and not shown[-1].faint:
                shown[-1].text += "\n" + line
                shown[-1].last = end
            else:
                shown.append(_piece(block, line, first, end, faint=faint))
                shown[-1].left = len(text) - at  # later lines of one event have greater keys
            last = index
        at += len(line) + 1
    return _Hit(block, shown, 0 in hits, len(lines) - 1 in hits, previous)


def _line(block: Block, *, first: bool) -> Block:
    """The first or the last line of a block, as context."""
    if block.kind in (Kind.TEXT, Kind.OUTPUT):
        lines = block.text.strip("\n").split("\n")
        text = lines[0 if first else -1]
    else:
        text = text_of(block).split("\n")[0]
    number = block.first if first else block.last
    return _piece(block, text[:_CONTEXT_CHARACTERS], number, number, faint=True)


def _piece(block: Block, text: str, first: int, last: int, *, faint: bool) -> Block:
    plain = block.kind in (Kind.TEXT, Kind.OUTPUT)
    return Block(
        block.kind if plain else Kind.NOTE,
        first,
        last,
        source=block.source,
        text=text,
        style=block.style,
        mark=block.mark,
        faint=faint,
    )
