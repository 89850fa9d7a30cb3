"""One call of a function: its files go up, what it streams comes in, and how it ends.

A thread does what waits for the server. What it has to say is taken by the application,
whichever screen is up, so that a run goes on while nobody looks at it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from beray.exceptions import (
    InvalidResponseError,
    OutcomeUnknown,
    StreamInterrupted,
    TransferCancelled,
)
from beray.transfers.transfer import Transfer
from tui.io.background import EXPECTED
from tui.io.mailbox import Mailbox
from tui.prefabs import outcome
from tui.prefabs.call_draft import Order
from tui.prefabs.outcome import Outcome
from tui.prefabs.transcript import Transcript

if TYPE_CHECKING:
    from beray.gateway import GatewayClient, PrefabStream, StreamEvent

_STEP_BYTES: Final = 256 * 1024
_UNKNOWN: Final = (InvalidResponseError, OutcomeUnknown, StreamInterrupted)
"""What is raised, once all files are there, where the function may run all the same."""


class State(StrEnum):
    SENDING = "sending"
    """Its files go up."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It ran, and there is no result."""
    REFUSED = "refused"
    """It could not begin."""
    LOST = "lost"
    """It may have begun, and how it ended is not known."""
    STOPPED = "stopped"


@dataclass(frozen=True)
class Progress:
    """How far it is: a fraction where that is known, and words of the function's."""

    fraction: float | None = None
    message: str = ""


@dataclass(frozen=True)
class _Sending:
    name: str
    done: int
    total: int


class Run:
    """Begins at once. Except for its threads, all of it belongs to the event loop.

    Args:
        told: called, in a thread, with the run where ``advance`` has something to do.

    Attributes:
        sending: which file is on its way, bytes done, bytes in all.
        error: what was raised, for ``State.REFUSED`` and ``State.LOST``.
    """

    def __init__(
        self,
        gateway: GatewayClient,
        order: Order,
        clock: Callable[[], datetime],
        told: Callable[[Run], None],
    ) -> None:
        self.order = order
        self.state = State.SENDING if order.files else State.RUNNING
        self.sending: tuple[str, int, int] | None = None
        self.progress: Progress | None = None
        self.transcript = Transcript()
        self.outcome = Outcome()
        self.error: Exception | None = None
        self.began = clock()
        self.ended: datetime | None = None
        self._clock = clock
        self._gateway = gateway
        self._transfer = Transfer()
        self._stream: PrefabStream | None = None
        self._stopping = threading.Event()
        self._is_heard = False
        self._mailbox: Mailbox[_Sending | StreamEvent | Exception | None] = Mailbox(
            lambda: told(self)
        )
        """``None`` where all files have arrived."""
        threading.Thread(target=self._work, name="beray-prefab", daemon=True).start()

    @property
    def is_over(self) -> bool:
        return self.state not in (State.SENDING, State.RUNNING)

    def lasted(self) -> timedelta:
        """How long it has taken so far, or took."""
        return (self.ended or self._clock()) - self.began

    def stop(self) -> None:
        """Leave the stream, which stops the run. Returns at once."""
        if not self.is_over:
            self._end(State.STOPPED)
        self._stopping.set()
        self._mailbox.close()
        self._transfer.cancel()
        stream = self._stream
        if stream is not None:
            stream.close()

    def advance(self) -> bool:
        """Take over what has come; whether it is over by that."""
        was_over = self.is_over
        for item in self._mailbox.take():
            if not self.is_over:
                self._take(item)
        return self.is_over and not was_over

    def _take(self, item: _Sending | StreamEvent | Exception | None) -> None:
        if isinstance(item, _Sending):
            self.sending = (item.name, item.done, item.total)
        elif isinstance(item, Exception):
            self.error = item
            asked = self.state is State.RUNNING and isinstance(item, _UNKNOWN)
            self._end(State.LOST if asked or self._is_heard else State.REFUSED)
        elif item is None:
            self.state, self.sending = State.RUNNING, None
        else:
            self._take_event(str(item.type), item.data)

    def _take_event(self, kind: str, data: Any) -> None:
        self._is_heard = True
        match kind:
            case "content":
                self.transcript.add(data)
            case "progress":
                self.progress = _progress(data)
            case "done":
                self.outcome = outcome.of_done(data)
                self._end(State.SUCCEEDED)
            case "error":
                self.outcome = outcome.of_error(data)
                self._end(State.FAILED)

    def _end(self, state: State) -> None:
        self.transcript.end()
        self.state, self.ended = state, self._clock()
        self.sending = None

    # In the thread

    def _work(self) -> None:
        try:
            files = self._send_files()
            self._mailbox.put(None)
            self._read(files)
        except TransferCancelled:
            return  # it was stopped, which is known
        except EXPECTED as error:
            self._mailbox.put(error)

    def _send_files(self) -> dict[str, list[str]]:
        sent: dict[str, list[str]] = {}
        for key, paths in self.order.files.items():
            for path in paths:
                transfer = Transfer(self._telling(path))
                transfer.cancel_token = self._transfer.cancel_token
                url = self._gateway.upload_input_file(path, transfer=transfer)
                sent.setdefault(key, []).append(url)
        return sent

    def _telling(self, path: Path) -> Callable[[int, int | None], None]:
        told = -_STEP_BYTES

        def advanced(done: int, total: int | None) -> None:
            nonlocal told
            if done - told >= _STEP_BYTES or done == total:
                told = done
                self._mailbox.put(_Sending(path.name, done, total or 0))

        return advanced

    def _read(self, files: dict[str, list[str]]) -> None:
        order = self.order
        stream = self._gateway.run(
            order.prefab_id,
            order.version,
            order.function,
            dict(order.parameters),
            files=files or None,
            stream=True,
        )
        self._stream = stream
        if self._stopping.is_set():
            stream.close()
            return
        for event in stream:  # up to the one that says how it ended, or it raises
            if not self._mailbox.put(event):
                stream.close()
                return


def _progress(data: Any) -> Progress:
    told = data if isinstance(data, dict) else {}
    fraction, message = told.get("fraction"), told.get("message")
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or fraction != fraction:
        fraction = None
    return Progress(
        None if fraction is None else float(min(1, max(0, fraction))),
        message if isinstance(message, str) else "",
    )
