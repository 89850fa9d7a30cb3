"""Run of a prefab function: uploads its files, receives its stream and records its outcome.

A thread does all blocking work. The application processes its updates whichever screen is shown,
so that a run continues while the user is elsewhere.
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
from tui.io.background import EXPECTED_ERRORS
from tui.io.mailbox import Mailbox
from tui.prefabs import outcome
from tui.prefabs.call_draft import CallDraft
from tui.prefabs.outcome import RunOutcome
from tui.prefabs.transcript import Transcript

if TYPE_CHECKING:
    from beray.gateway import GatewayClient, PrefabStream, StreamEvent

_STEP_BYTES: Final = 256 * 1024
_OUTCOME_UNKNOWN: Final = (InvalidResponseError, OutcomeUnknown, StreamInterrupted)
"""Exceptions after which the function may be running, if all files have been uploaded."""


class RunState(StrEnum):
    """State of a run."""

    SENDING = "sending"
    """The input files are being uploaded."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The function ran without a result."""
    REFUSED = "refused"
    """The run did not start."""
    LOST = "lost"
    """The run may have started; its outcome is unknown."""
    STOPPED = "stopped"


@dataclass(frozen=True)
class RunProgress:
    """Progress that the function reports: a fraction from 0 to 1 or None, and a message."""

    fraction: float | None = None
    message: str = ""


@dataclass(frozen=True)
class _UploadProgress:
    name: str
    done: int
    total: int


class Run:
    """Run of a prefab function, started on creation.

    Its attributes may only be used in the event loop's thread.

    Args:
        gateway: Client of the gateway.
        order: Call to execute.
        clock: Returns the current time.
        told: Called in a thread when ``advance`` has updates to process.

    Attributes:
        sending: Name of the file being uploaded, bytes done, bytes in total.
        error: Exception that led to ``RunState.REFUSED`` or ``RunState.LOST``.
    """

    def __init__(
        self,
        gateway: GatewayClient,
        order: CallDraft,
        clock: Callable[[], datetime],
        on_update: Callable[[Run], None],
    ) -> None:
        self.order = order
        self.state = RunState.SENDING if order.files else RunState.RUNNING
        self.sending: tuple[str, int, int] | None = None
        self.progress: RunProgress | None = None
        self.transcript = Transcript()
        self.outcome = RunOutcome()
        self.error: Exception | None = None
        self.began = clock()
        self.ended: datetime | None = None
        self._clock = clock
        self._gateway = gateway
        self._transfer = Transfer()
        self._stream: PrefabStream | None = None
        self._stopping = threading.Event()
        self._is_heard = False
        self._mailbox: Mailbox[_UploadProgress | StreamEvent | Exception | None] = Mailbox(
            lambda: on_update(self)
        )
        """None is put when all files have been uploaded."""
        threading.Thread(target=self._work, name="beray-prefab", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """True if the run has ended."""
        return self.state not in (RunState.SENDING, RunState.RUNNING)

    def lasted(self) -> timedelta:
        """Return the duration of the run so far, or in total."""
        return (self.ended or self._clock()) - self.began

    def stop(self) -> None:
        """Close the stream, which stops the run on the server. Returns at once."""
        if not self.is_over:
            self._end(RunState.STOPPED)
        self._stopping.set()
        self._mailbox.close()
        self._transfer.cancel()
        stream = self._stream
        if stream is not None:
            stream.close()

    def advance(self) -> bool:
        """Process the updates of the thread; return True if the run has ended now."""
        was_over = self.is_over
        for item in self._mailbox.take():
            if not self.is_over:
                self._take(item)
        return self.is_over and not was_over

    def _take(self, item: _UploadProgress | StreamEvent | Exception | None) -> None:
        if isinstance(item, _UploadProgress):
            self.sending = (item.name, item.done, item.total)
        elif isinstance(item, Exception):
            self.error = item
            asked = self.state is RunState.RUNNING and isinstance(item, _OUTCOME_UNKNOWN)
            self._end(RunState.LOST if asked or self._is_heard else RunState.REFUSED)
        elif item is None:
            self.state, self.sending = RunState.RUNNING, None
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
                self.outcome = outcome.outcome_of_result(data)
                self._end(RunState.SUCCEEDED)
            case "error":
                self.outcome = outcome.outcome_of_error(data)
                self._end(RunState.FAILED)

    def _end(self, state: RunState) -> None:
        self.transcript.end()
        self.state, self.ended = state, self._clock()
        self.sending = None

    # Runs in the thread

    def _work(self) -> None:
        try:
            files = self._send_files()
            self._mailbox.put(None)
            self._read(files)
        except TransferCancelled:
            return  # the user stopped the run
        except EXPECTED_ERRORS as error:
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
        on_update = -_STEP_BYTES

        def advanced(done: int, total: int | None) -> None:
            nonlocal on_update
            if done - on_update >= _STEP_BYTES or done == total:
                on_update = done
                self._mailbox.put(_UploadProgress(path.name, done, total or 0))

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
        for event in stream:  # raises unless it ends with a final event
            if not self._mailbox.put(event):
                stream.close()
                return


def _progress(data: Any) -> RunProgress:
    on_update = data if isinstance(data, dict) else {}
    fraction, message = on_update.get("fraction"), on_update.get("message")
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or fraction != fraction:
        fraction = None
    return RunProgress(
        None if fraction is None else float(min(1, max(0, fraction))),
        message if isinstance(message, str) else "",
    )
