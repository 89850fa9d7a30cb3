"""Output of a chat's answer while it arrives, stopping it, and output of earlier answers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from beray.cli import output
from beray.cli.context import ServerConnection
from beray.cli.errors import DONE, FAILED, INTERRUPTED, error_text
from beray.cli.render import EventView, TextView, describe_call, is_side_output, short_json
from beray.cli.stream_reader import ThreadedStreamReader
from beray.cli.watch import ConnectionNotices
from beray.exceptions import BeRayException
from beray.schema import Task
from beray.streaming.retraction import ends_attempt, retracted_range, without_retracted
from beray.streaming.streams import StreamState

if TYPE_CHECKING:
    from beray.cli.chat.markdown import MarkdownWriter


def follow(server: ServerConnection, task: Task, view: EventView) -> int:
    """Show the answer to a message, and return the exit status.

    Ctrl-C stops the answer. Its remaining events are still shown; a second Ctrl-C leaves it.

    Args:
        server: Connection to the server of the chat.
        task: Response to the message. The answer starts after its ``last_seq``.
        view: Destination of the events.

    Raises:
        BeRayException: The stream failed, see ``TaskStream``, or the local server could not be
            started again, see ``ServerConnection.renew``.
        KeyboardInterrupt: Ctrl-C was pressed a second time.
    """
    task_id, start = task["id"], str(task.get("last_seq", 0))
    notices = ConnectionNotices(view)
    has_started = failed = ended = False
    with _StopOnInterrupt(server, task_id) as stopping:
        reader = ThreadedStreamReader(
            server,
            lambda client, last_event_id, seconds, on_state: client.stream_task_updates(
                task_id,
                last_event_id=last_event_id or start,
                reconnect=seconds,
                on_state=on_state,
            ),
        )
        try:
            while not ended and (item := reader.get()) is not None:
                if isinstance(item, BeRayException):
                    raise item
                if isinstance(item, StreamState):
                    notices.state(item)
                    continue
                kind = item.get("type")
                # Final events of the previous answer may precede the message.
                has_started = has_started or kind == "USER_MESSAGE"
                if not has_started:
                    continue
                view.event(item)
                if kind in ("ERROR", "AGENT_EVENT_END"):
                    failed = kind == "ERROR"
                ended = kind == "TASK_STATUS" and item.get("status") == "INPUT_REQUIRED"
        finally:
            reader.close()
            view.finish()
    if stopping.requested:
        return INTERRUPTED
    return DONE if ended and not failed else FAILED


class _StopOnInterrupt:
    """Context manager in which Ctrl-C stops an answer. Reading continues, so no event is lost."""

    def __init__(self, server: ServerConnection, task_id: int) -> None:
        self._server = server
        self._task_id = task_id
        self._previous_handler: Any = None
        self.requested = False

    def __enter__(self) -> Self:
        # A handler of None or SIG_IGN was set by the parent process, and stays.
        if threading.current_thread() is threading.main_thread() and callable(
            signal.getsignal(signal.SIGINT)
        ):
            self._previous_handler = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        threading.Thread(target=self._stop, name="stop", daemon=True).start()

    def _stop(self) -> None:
        try:
            self._server.client.stop_task(self._task_id)
        except BeRayException as error:
            output.error(error_text(error))


class ChatView(TextView):
    """View of a chat: the agent's text on stdout, as Markdown if possible, and short lines.

    Args:
        sent: In an interactive chat, the list to which the paths of files from the agent are
            added; a tool call and its result are then one line, without the tool's output. None
            in scripts.
        history: Whether the events are earlier ones, so that messages of the user are shown.
        get_key: Key that downloads the newest file from the agent, "" if there is none.
    """

    def __init__(
        self, sent: list[str] | None = None, *, history: bool = False, get_key: str = ""
    ) -> None:
        super().__init__()
        self._sent = sent
        self._get_key = f"{get_key} or " if get_key else ""
        self._history = history
        self._calls: list[tuple[str, str, str]] = []
        """Name, arguments and ``call_id`` of calls without a result."""
        self._markdown: MarkdownWriter | None = None
        if output.has_colours():
            from beray.cli.chat.markdown import MarkdownWriter

            self._writer = self._markdown = MarkdownWriter()

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        kind = event.get("type")
        if ends_attempt(event):
            self._retractable_from = None  # also for events that the base class does not see
        if retracted_range(event) is not None:
            super().event(event)
        elif kind == "USER_MESSAGE":
            if self._history:
                self._end()
                self._writer.end_line()
                self._writer.note(f"you> {event.get('text', '')}")
                if attached := event.get("attachments"):
                    self.note(f"with {', '.join(map(str, attached))}")
        elif kind == "TASK_STATUS":
            self._end()
        elif kind == "AGENT_EVENT_TEXT_CHUNK":
            source = str(event.get("source", ""))
            if self._sent is not None and is_side_output(source) and source != "stderr":
                return
            self._end_calls()
            if self._markdown is not None and not is_side_output(source):
                self._markdown.literal(source.startswith("tools:"))
            super().event(event)
        elif kind == "AGENT_EVENT_TOOL_RESULT" and self._sent is not None:
            self._tool_result(event)
        elif kind == "AGENT_EVENT_SEND_FILE" and self._sent is not None:
            self._end()
            self._sent.append(str(event.get("path", "")))
            number = len(self._sent)
            self.note(
                f"file {number}: {self._sent[-1]} ({self._get_key}/get {number} downloads it)"
            )
        else:
            # A changed file is usually an effect of a running tool call, which stays open.
            if kind not in ("AGENT_EVENT_TOOL_CALL_CHUNK", "AGENT_EVENT_CUSTOM_UPDATE"):
                self._end_calls()
            super().event(event)
            if self._markdown is not None and self._sent is not None and event.get("tool_name"):
                # The line of the call is written with its result, which may take some time.
                self._markdown.busy(f"{event['tool_name']} ...")

    def finish(self) -> None:
        """Write incomplete lines and tool calls without a result."""
        self._end_calls()
        super().finish()

    def _retract(self, first: int, text: str) -> None:
        self._calls.clear()
        super()._retract(first, text)

    def _end(self) -> None:
        self._end_tool_call()
        self._end_calls()
        self._end_side_output()

    def _end_tool_call(self) -> None:
        if self._sent is None:
            super()._end_tool_call()
        elif self._call is not None:
            (name, pieces, call_id), self._call = self._call, None
            self._calls.append((name, "".join(pieces), call_id))

    def _tool_result(self, event: Mapping[str, Any]) -> None:
        """Write a call and its result in one line."""
        self._end_tool_call()
        name, result = str(event.get("tool_name")), event.get("result")
        call_id = str(event.get("call_id") or "")
        self._parallel.end(call_id)
        call = next(
            (item for item in self._calls if item[0] == name and call_id in ("", item[2])), None
        )
        if call is not None:
            self._calls.remove(call)
        elif result == {"exit_code": 0}:
            return
        arguments = call[1] if call is not None else ""
        self.note(f"{describe_call(name, arguments)} -> {short_json(result)}")

    def _end_calls(self) -> None:
        self._end_tool_call()
        calls, self._calls = self._calls, []
        for name, arguments, _ in calls:
            self.note(describe_call(name, arguments))


def show_events(events: Iterable[Mapping[str, Any]], view: EventView) -> None:
    """Show earlier events, without retracted ones."""
    try:
        for event in without_retracted(events):
            view.event(event)
    finally:
        view.finish()
