"""Runner that executes each job in a subprocess."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Final, Literal

import structlog
from pydantic import ValidationError

from beray.events import EVENT, Event, MsgError, MsgEventTextChunk, MsgEventToolCallChunk
from beray.server.runners.base import BudgetExceeded, Job, Outcome, Sink, Usage
from beray.server.runners.subprocess import protocol
from beray.server.runners.subprocess.fork_server import ForkServer, RunProcess
from beray.server.runners.subprocess.protocol import Frame
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

LEAVE_SECONDS: Final = 1.0
"""Time in which a stopped run can report its usage."""
MAX_QUEUED_FRAMES: Final = 256
"""Number of received events that may wait for the disk before reading pauses."""
MAX_MERGED_CHARACTERS: Final = 32 * 1024
"""Length from which on no further text is merged into a chunk."""

log = structlog.get_logger("beray.runs")


class SubprocessRunner:
    """Runner that executes each job in a process of its own.

    Args:
        name: Name of the runner inside that process.
        forks: Client of the fork server.
        settings: Settings of the server.
        sandbox: Sandbox of the server; the process creates an equal one.
    """

    def __init__(
        self,
        name: Literal["model", "acp", "agent"],
        *,
        forks: ForkServer,
        settings: Settings,
        sandbox: Sandbox,
    ) -> None:
        self._name = name
        self._forks = forks
        self._settings = settings
        self._sandbox = sandbox

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Start a process for the job and log its events."""
        frame = {
            "runner": self._name,
            "job": encode_job(job),
            "data_dir": str(self._settings.data_dir),
            "listener": self._settings.listener,
            "sandbox": self._sandbox.kind,
            "network": asdict(self._sandbox.networks.state),
            "bounds": {"memory": self._settings.task_max_memory_bytes},
        }
        async with self._forks.process(frame) as process:
            try:
                last = await _FrameReader(process=process, sink=sink).read_to_end()
            except asyncio.CancelledError:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAVE_SECONDS):
                        await _stop(process, sink)
                raise
            if "outcome" in last:
                if (over := last["outcome"].pop("over", None)) is not None:
                    raise BudgetExceeded(over)
                return Outcome(**last["outcome"])
            await asyncio.wait([process.ended])
        return await self._report_failure(last, process.ended.result(), sink)

    async def _report_failure(self, last: Frame, status: Frame, sink: Sink) -> Outcome:
        """Log why a run ended without an outcome."""
        if "broken" in last:
            details = (
                f"The run failed with an internal error ({last['broken']}). "
                "The server's log has the traceback."
            )
            await sink.emit(MsgError(code="RUNNER_FAILED", details=details))
            return Outcome("FAILED", "error")
        if problem := status.get("problem"):
            await sink.emit(MsgError(code="LIMIT", details=f"The run was terminated: {problem}."))
            return Outcome("FAILED", "limit")
        exit_status = status.get("status")
        log.warning("a run's process exited without an outcome", status=exit_status)
        known = "" if exit_status is None else f" (status {exit_status})"
        details = f"The process of this run exited unexpectedly{known}. Run the task again."
        await sink.emit(MsgError(code="LOST_WORKER", details=details))
        return Outcome("FAILED", "lost_worker")


def encode_job(job: Job) -> Frame:
    """Return a job as a JSON object."""
    paths = {"work_dir": job.work_dir, "conversation": job.conversation}
    return asdict(job) | {name: path and str(path) for name, path in paths.items()}


class _FrameReader:
    """Reader of a run's frames that logs waiting events in one transaction.

    A separate task fills a bounded queue, so that reading continues while events are written.
    """

    def __init__(self, *, process: RunProcess, sink: Sink) -> None:
        self._process = process
        self._sink = sink
        self._frames: asyncio.Queue[Frame] = asyncio.Queue(MAX_QUEUED_FRAMES)

    async def read_to_end(self) -> Frame:
        """Log the events of the run and return its last frame.

        Returns:
            The frame with ``outcome`` or ``broken``; an empty one if the connection ended before.
        """
        reading = asyncio.create_task(self._read())
        try:
            while True:
                waiting = [await self._frames.get()]
                while not self._frames.empty():
                    waiting.append(self._frames.get_nowait())
                if (last := await self._handle(waiting)) is not None:
                    return last
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        while True:
            try:
                frame = await protocol.read(self._process.reader)
            except (EOFError, OSError):
                frame = {}
            await self._frames.put(frame)
            if not frame:
                return

    async def _handle(self, waiting: list[Frame]) -> Frame | None:
        """Process frames in order; return the last frame of the run if it is among them."""
        events: list[Event] = []
        for frame in waiting:
            if "event" in frame:
                try:
                    events.append(EVENT.validate_python(frame["event"]))
                except ValidationError:
                    return {}
                continue
            await self._log(events)
            events = []
            if "charge" in frame:
                await self._charge(frame["charge"])
            elif "record" in frame:
                await self._sink.record(Usage(**frame["record"]))
            else:
                return frame
        await self._log(events)
        return None

    async def _log(self, events: list[Event]) -> None:
        # Concurrent calls are written in one transaction, in the order of the calls.
        merged = merge_chunks(events)
        await asyncio.gather(*(self._sink.emit(event, count) for event, count in merged))

    async def _charge(self, usage: Frame) -> None:
        try:
            await self._sink.charge(Usage(**usage))
        except BudgetExceeded as error:
            response: Frame = {"refused": str(error)}
        else:
            response = {"go": True}
        with suppress(ConnectionError):
            await self._process.send(response)


async def _stop(process: RunProcess, sink: Sink) -> None:
    """Stop the run and record the usage that it reports; ignore its further events."""
    with suppress(EOFError, OSError):
        await process.send({"stop": True})
        while True:
            frame = await protocol.read(process.reader)
            if usage := frame.get("charge") or frame.get("record"):
                await sink.record(Usage(**usage))
            elif "event" not in frame:
                return


_Chunk = MsgEventTextChunk | MsgEventToolCallChunk


def merge_chunks(events: Iterable[Event]) -> Iterator[tuple[Event, int]]:
    """Merge adjacent chunks of the same text or tool call.

    Yields:
        Each event, and the number of events that were merged into it.
    """
    merged: deque[tuple[Event, int]] = deque()
    for event in events:
        if merged and (combined := _combine(merged[-1][0], event)) is not None:
            merged[-1] = (combined, merged[-1][1] + 1)
        else:
            merged.append((event, 1))
    yield from merged


def _combine(first: Event, second: Event) -> Event | None:
    """Return both chunks as one event, or None if they must remain separate."""
    limit = MAX_MERGED_CHARACTERS
    match first, second:
        case MsgEventTextChunk(), MsgEventTextChunk() if len(
            first.text
        ) < limit and _is_same_source(first, second):
            return first.model_copy(update={"text": first.text + second.text})
        case MsgEventToolCallChunk(), MsgEventToolCallChunk() if (
            second.tool_name is None
            and len(first.args_chunk) < limit
            and _is_same_source(first, second)
        ):
            return first.model_copy(update={"args_chunk": first.args_chunk + second.args_chunk})
    return None


def _is_same_source(first: _Chunk, second: _Chunk) -> bool:
    return first.source == second.source and first.model_extra == second.model_extra
