"""Search in the log, and jumps in it, also to what is not at hand."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input

from tui import messages, sanitize
from tui.log.bar import FIND, LogBar
from tui.log.live_log import Reading
from tui.log.model import query as queries
from tui.log.model.query import Query, QueryError
from tui.log.model.scan import Scan, ScanAdvanced, ScanEnded
from tui.log.render.match_highlights import Marks
from tui.log.render.row_layout import Place, Spot

_SAID_SECONDS = 4.0


class _Goal:
    """What is looked for, and in which direction."""

    def __init__(self, marks: Marks, query: Query, what: str, step: int, or_back: bool) -> None:
        self.marks = marks
        self.query = query
        self.action = what
        self.step = step
        self.or_back = or_back


class Finding(Reading):
    """Adds to the log what finds something in it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._search: Query | None = None
        self._prompt = FIND
        self._typed: dict[str, str] = {}
        self._jumps = Marks()
        self._scan: Scan | None = None
        self._goal: _Goal | None = None

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield LogBar(id="log-bar")

    @property
    def bar(self) -> LogBar:
        return self.query_one(LogBar)

    @property
    def is_searching(self) -> bool:
        return self._search is not None

    @property
    def is_typing(self) -> bool:
        return self.screen.focused is self.bar.input

    def reset(self) -> None:
        super().reset()
        self._search = None
        self.view.marks.search(None)
        self._jumps.search(None)
        self.restore_bar()

    def leave(self) -> None:
        self._end_scan()
        super().leave()

    # The bar

    def ask_in_bar(self, prompt: str) -> None:
        self._prompt = prompt
        self.bar.ask(prompt, self._typed.get(prompt, ""))

    def restore_bar(self) -> None:
        """Let the bar show what is on, and the log have the keys."""
        if self._search is not None:
            self._prompt = FIND
            self.bar.show(FIND, self._typed.get(FIND, ""))
        else:
            self.bar.hide()
        if self.is_typing:
            self.screen.set_focus(self.view)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.read(lambda: self.typed(self._prompt, event.value)):
            self.bar.say("")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._typed[self._prompt] = event.value
        self.read(lambda: self.entered(self._prompt, event.value))

    def read(self, query: Callable[[], object]) -> bool:
        """Whether what was typed could be read; what is wrong with it is said beside it."""
        try:
            query()
        except QueryError as error:
            self.bar.say(str(error), problem=True)
            return False
        return True

    def typed(self, prompt: str, text: str) -> None:
        """What is being typed: its matches are marked at once."""
        if prompt == FIND:
            self._mark(queries.search(text))

    def entered(self, prompt: str, text: str) -> None:
        if prompt != FIND:
            return
        query = queries.search(text)
        self._mark(query)
        self._search = query if query.patterns else None
        self.restore_bar()
        self.screen.set_focus(self.view)
        if self._search is not None:
            self._go(_Goal(self.view.marks, query, "match", 1, or_back=True))

    def _mark(self, query: Query) -> None:
        self.view.marks.search(query.pattern)
        self.view.refresh()

    def say(self, words: str) -> None:
        """Say something in the bar, which is there for that alone where nothing is asked."""
        if not self.bar.display:
            self.bar.show("", None)
            self.set_timer(_SAID_SECONDS, self._said_enough)
        self.bar.say(words)

    def _said_enough(self) -> None:
        if self._scan is None and not self.bar.input.display:
            self.bar.hide()

    # Actions

    def action_find(self) -> None:
        """Ask what to search for."""
        self.ask_in_bar(FIND)

    def action_next_match(self) -> None:
        self._go_on(1)

    def action_previous_match(self) -> None:
        self._go_on(-1)

    def _go_on(self, step: int) -> None:
        if self._search is not None:
            self._go(_Goal(self.view.marks, self._search, "match", step, or_back=False))

    def action_next_error(self) -> None:
        self._jump(queries.ERRORS, "error", 1)

    def action_previous_error(self) -> None:
        self._jump(queries.ERRORS, "error", -1)

    def action_next_file(self) -> None:
        self._jump(queries.FILES, "file", 1)

    def action_previous_file(self) -> None:
        self._jump(queries.FILES, "file", -1)

    def _jump(self, query: Query, what: str, step: int) -> None:
        if self._jumps.accepts != query.accepts:
            self._jumps.search(None, query.accepts)
        self._go(_Goal(self._jumps, query, what, step, or_back=False))

    def can_leave(self) -> bool:
        """Whether there is something here for ``escape`` to end."""
        return self._scan is not None or self.is_typing or self.is_searching

    def action_leave(self) -> None:
        """End what was begun last: the scan, the typing, the search."""
        if self._scan is not None:
            self._end_scan()
            self.say("stopped")
        elif self.is_typing or self.is_searching:
            self._search = None
            self.view.marks.search(None)
            self.view.refresh()
            self.restore_bar()

    # Going there

    def can_scan(self) -> bool:
        """Whether what is not at hand can be looked through."""
        return self.record.pageable

    def _go(self, goal: _Goal) -> None:
        self._end_scan()
        view, marks = self.view, goal.marks
        marks.lay_out(view.sheet)
        here = marks.found
        seen = here is not None and view.shows(here)
        found = marks.step(goal.step, None if seen else view.edge(goal.step))
        window = self.record.window
        if found is not None:
            self._show(found)
        elif self.can_scan() and goal.step > 0 and not self.record.attached:
            self._scan_for(goal, window.last)
        elif self.can_scan() and goal.step < 0 and self.record.has_earlier:
            self._scan_for(goal, window.first + (not window.is_whole))
        else:
            self._nothing_more(goal)

    def _nothing_more(self, goal: _Goal) -> None:
        if goal.or_back:
            self._go(_Goal(goal.marks, goal.query, goal.action, -1, or_back=False))
        else:
            self.say(f"no further {goal.action} {'below' if goal.step > 0 else 'above'}")

    def _show(self, place: Place, *, centre: bool = False) -> None:
        view = self.view
        view.point_at(place, centre=centre)
        number = view.sheet.event_at(place)
        if self.bar.display or self._search is not None:
            self.say(f"event {number:,}")
        view.refresh()

    def _scan_for(self, goal: _Goal, number: int) -> None:
        client, task_id = self._client, self._task_id
        if client is not None and task_id is not None:
            self._goal = goal
            self._scan = Scan(client, task_id, goal.query, goal.step, number, self)
            self.say("searching …  esc ends")

    def _end_scan(self) -> None:
        if self._scan is not None:
            self._scan.close()
            self._scan = None

    def on_scan_advanced(self, message: ScanAdvanced) -> None:
        message.stop()
        if message.scan is self._scan:
            self.say(f"searching … event {message.number:,}  esc ends")

    def on_scan_ended(self, message: ScanEnded) -> None:
        message.stop()
        if message.scan is not self._scan or self._goal is None:
            return
        self._scan, goal, number = None, self._goal, message.number
        if message.error is not None:
            self.say(sanitize.error_text(message.error))
            self.post_message(messages.OperationFailed("search the log", message.error))
        elif number is None:
            self._nothing_more(goal)
        else:
            self.go_to(Spot(number), lambda: self._arrive(goal, number))

    def _arrive(self, goal: _Goal, number: int) -> None:
        """The window is around the match now: find it in there."""
        view = self.view
        place = view.sheet.place_of(number)
        if place is None:
            return
        last = Place(place.block, len(view.sheet.rows(place.block)))
        goal.marks.lay_out(view.sheet)
        found = goal.marks.step(goal.step, place if goal.step > 0 else last)
        self._show(found or place, centre=True)
