"""One answer of a chat: how it is asked for, followed, shown and stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from beray.cli import output
from beray.cli.context import Connection
from beray.cli.errors import DONE, FAILED, INTERRUPTED, words
from beray.cli.render import Lines, View, called, is_aside, shortened
from beray.cli.stream_reader import StreamReader
from beray.cli.watch import Told
from beray.exceptions import BeRayException
from beray.schema import Task
from beray.streaming.retraction import ends_attempt, retracted_range, without_retracted
from beray.streaming.streams import StreamState

if TYPE_CHECKING:
    from beray.cli.chat.markdown import MarkdownFlow


def follow(server: Connection, task: Task, view: View) -> int:
    """Show the answer to the message that gave ``task``, and return the exit status.

    Ctrl-C stops the answer, whose rest is still shown; a second one leaves it.

    Raises:
        BeRayException: what ``TaskStream`` and ``Connection.renew`` raise.
        KeyboardInterrupt: at the second Ctrl-C.
    """
    task_id, behind = task["id"], str(task.get("last_seq", 0))
    told = Told(view)
    begun = failed = ended = False
    with _Stopping(server, task_id) as stopping:
        reader = StreamReader(
            server,
            lambda client, last_event_id, seconds, on_state: client.stream_task_updates(
                task_id,
                last_event_id=last_event_id or behind,
                reconnect=seconds,
                on_state=on_state,
            ),
        )
        try:
            while not ended and (item := reader.get()) is not None:
                if isinstance(item, BeRayException):
                    raise item
                if isinstance(item, StreamState):
                    told.state(item)
                    continue
                kind = item.get("type")
                # In front of it there may be the end of the answer before.
                begun = begun or kind == "USER_MESSAGE"
                if not begun:
                    continue
                view.event(item)
                if kind in ("ERROR", "AGENT_EVENT_END"):
                    failed = kind == "ERROR"
                ended = kind == "TASK_STATUS" and item.get("status") == "INPUT_REQUIRED"
        finally:
            reader.close()
            view.finish()
    if stopping.asked:
        return INTERRUPTED
    return DONE if ended and not failed else FAILED


class _Stopping:
    """Has Ctrl-C stop an answer. The reader does not notice: no event is lost by it."""

    def __init__(self, server: Connection, task_id: int) -> None:
        self._server = server
        self._task_id = task_id
        self._before: Any = None
        self.asked = False

    def __enter__(self) -> Self:
        # None and SIG_IGN: somebody who started this program does not want it to hear.
        if threading.current_thread() is threading.main_thread() and callable(
            signal.getsignal(signal.SIGINT)
        ):
            self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        try:
            self._server.client.stop_task(self._task_id)
        except BeRayException as error:
            output.problem(words(error))


class Spoken(Lines):
    """What the agent says to stdout, as Markdown where that suits; the rest in short lines.

    Args:
        sent: takes the paths of the files that the agent sends, which get numbers; ``None``
            where nobody is there to take them. A call of a tool is then one line, too, with
            its result behind it and without its output.
        take_key: the key that takes the newest of these, if there is one.
    """

    def __init__(
        self, sent: list[str] | None = None, *, history: bool = False, take_key: str = ""
    ) -> None:
        super().__init__()
        self._sent = sent
        self._take = f"{take_key} or " if take_key else ""
        self._history = history
        self._calls: list[tuple[str, str, str]] = []
        """Name, arguments and ``call_id`` of calls without a result."""
        self._markdown: MarkdownFlow | None = None
        if markdown_suits():
            from beray.cli.chat.markdown import MarkdownFlow

            self._flow = self._markdown = MarkdownFlow()

    def event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if ends_attempt(event):
            self._said_from = None  # also where the event is shown here
        if retracted_range(event) is not None:
            super().event(event)
        elif kind == "USER_MESSAGE":
            if self._history:
                self._end()
                self._flow.end_line()
                self._flow.note(f"you> {event.get('text', '')}")
                if attached := event.get("attachments"):
                    self.note(f"with {', '.join(map(str, attached))}")
        elif kind == "TASK_STATUS":
            self._end()
        elif kind == "AGENT_EVENT_TEXT_CHUNK":
            source = str(event.get("source", ""))
            if self._sent is not None and is_aside(source) and source != "stderr":
                return
            self._end_calls()
            if self._markdown is not None and not is_aside(source):
                self._markdown.literal(source.startswith("tools:"))
            super().event(event)
        elif kind == "AGENT_EVENT_TOOL_RESULT" and self._sent is not None:
            self._returned(event)
        elif kind == "AGENT_EVENT_SEND_FILE" and self._sent is not None:
            self._end()
            self._sent.append(str(event.get("path", "")))
            number = len(self._sent)
            self.note(f"file {number}: {self._sent[-1]} ({self._take}/get {number} takes it)")
        else:
            # A file that changes is often what the tool at work does.
            if kind not in ("AGENT_EVENT_TOOL_CALL_CHUNK", "AGENT_EVENT_CUSTOM_UPDATE"):
                self._end_calls()
            super().event(event)
            if self._markdown is not None and self._sent is not None and event.get("tool_name"):
                # Its line comes with its result, which may take a while.
                self._markdown.busy(f"{event['tool_name']} ...")

    def finish(self) -> None:
        self._end_calls()
        super().finish()

    def _retract(self, first: int, text: str) -> None:
        self._calls.clear()
        super()._retract(first, text)

    def _end(self) -> None:
        self._end_tool_call()
        self._end_calls()
        self._end_asides()

    def _end_tool_call(self) -> None:
        if self._sent is None:
            super()._end_tool_call()
        elif self._call is not None:
            (name, pieces, call_id), self._call = self._call, None
            self._calls.append((name, "".join(pieces), call_id))

    def _returned(self, event: Mapping[str, Any]) -> None:
        """Say a call and its result in one line."""
        self._end_tool_call()
        name, result = str(event.get("tool_name")), event.get("result")
        call_id = str(event.get("call_id") or "")
        self._parallel.end(call_id)
        asked = next(
            (call for call in self._calls if call[0] == name and call_id in ("", call[2])), None
        )
        if asked is not None:
            self._calls.remove(asked)
        elif result == {"exit_code": 0}:
            return
        arguments = asked[1] if asked is not None else ""
        self.note(f"{called(name, arguments)} -> {shortened(result)}")

    def _end_calls(self) -> None:
        self._end_tool_call()
        calls, self._calls = self._calls, []
        for name, arguments, _ in calls:
            self.note(called(name, arguments))


def markdown_suits(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether stdout is a terminal that can, and may, show more than plain text."""
    plain = output.is_dumb(environ) or bool(environ.get("NO_COLOR"))
    return output.is_terminal(sys.stdout) and not plain


def told(events: Iterable[Mapping[str, Any]], view: View) -> None:
    """Show what was said before."""
    try:
        for event in without_retracted(events):
            view.event(event)
    finally:
        view.finish()
