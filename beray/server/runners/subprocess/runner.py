"""A runner in a process of its own, as the server sees it."""

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
from beray.server.runners.base import Job, Outcome, OverBudget, Sink, Usage
from beray.server.runners.subprocess import framing
from beray.server.runners.subprocess.fork_server import Forks, RunProcess
from beray.server.runners.subprocess.framing import Frame
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

LEAVE_SECONDS: Final = 1.0
"""How long a run that is stopped may take to say what it has used."""
WAITING_FRAMES: Final = 256
"""How many events may wait for the disk before the run has to."""

LONG_TEXT: Final = 32 * 1024
"""Characters beyond which nothing more is joined to a piece of text."""

log = structlog.get_logger("beray.runs")


class RemoteRunner:
    def __init__(
        self,
        name: Literal["model", "acp", "agent"],
        forks: Forks,
        settings: Settings,
        sandbox: Sandbox,
    ) -> None:
        self._name = name
        self._forks = forks
        self._settings = settings
        self._sandbox = sandbox

    async def run(self, job: Job, sink: Sink) -> Outcome:
        given = {
            "runner": self._name,
            "job": packed_job(job),
            "data_dir": str(self._settings.data_dir),
            "listener": self._settings.listener,
            "sandbox": self._sandbox.kind,
            "network": asdict(self._sandbox.networks.state),
            "bounds": {"memory": self._settings.task_max_memory_bytes},
        }
        async with self._forks.process(given) as process:
            try:
                end = await _Conversation(process, sink).until_end()
            except asyncio.CancelledError:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LEAVE_SECONDS):
                        await _last_words(process, sink)
                raise
            if "outcome" in end:
                if (over := end["outcome"].pop("over", None)) is not None:
                    raise OverBudget(over)
                return Outcome(**end["outcome"])
            await asyncio.wait([process.ended])
        return await self._lost(end, process.ended.result(), sink)

    async def _lost(self, end: Frame, ended: Frame, sink: Sink) -> Outcome:
        """Say why there is no outcome."""
        if "broken" in end:
            details = f"The run broke off ({end['broken']}); the server's log says where."
            await sink.emit(MsgError(code="RUNNER_FAILED", details=details))
            return Outcome("FAILED", "error")
        if problem := ended.get("problem"):
            await sink.emit(MsgError(code="LIMIT", details=f"The run was ended: {problem}."))
            return Outcome("FAILED", "limit")
        log.warning("a run's process was lost", status=ended.get("status"))
        details = "The process that did this task is gone."
        await sink.emit(MsgError(code="LOST_WORKER", details=details))
        return Outcome("FAILED", "lost_worker")


def packed_job(job: Job) -> Frame:
    paths = {"work_dir": job.work_dir, "conversation": job.conversation}
    return asdict(job) | {name: path and str(path) for name, path in paths.items()}


class _Conversation:
    """Reads ahead of the disk, and writes all that waits in one go."""

    def __init__(self, process: RunProcess, sink: Sink) -> None:
        self._process = process
        self._sink = sink
        self._frames: asyncio.Queue[Frame] = asyncio.Queue(WAITING_FRAMES)

    async def until_end(self) -> Frame:
        """Log what the run says; its last frame, an empty one where it had no last word."""
        reading = asyncio.create_task(self._read())
        try:
            while True:
                waiting = [await self._frames.get()]
                while not self._frames.empty():
                    waiting.append(self._frames.get_nowait())
                if (end := await self._take(waiting)) is not None:
                    return end
        finally:
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self) -> None:
        while True:
            try:
                frame = await framing.read(self._process.reader)
            except (EOFError, OSError):
                frame = {}
            await self._frames.put(frame)
            if not frame:
                return

    async def _take(self, waiting: list[Frame]) -> Frame | None:
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
        # Side by side, they are on disk in one transaction; in order all the same.
        await asyncio.gather(*(self._sink.emit(event, count) for event, count in joined(events)))

    async def _charge(self, usage: Frame) -> None:
        try:
            await self._sink.charge(Usage(**usage))
        except OverBudget as error:
            answer: Frame = {"refused": str(error)}
        else:
            answer = {"go": True}
        with suppress(ConnectionError):
            await self._process.send(answer)


async def _last_words(process: RunProcess, sink: Sink) -> None:
    """Ask the run to leave, and hear what it has used; what else it says comes too late."""
    with suppress(EOFError, OSError):
        await process.send({"stop": True})
        while True:
            frame = await framing.read(process.reader)
            if usage := frame.get("charge") or frame.get("record"):
                await sink.record(Usage(**usage))
            elif "event" not in frame:
                return


_Piece = MsgEventTextChunk | MsgEventToolCallChunk


def joined(events: Iterable[Event]) -> Iterator[tuple[Event, int]]:
    """Join pieces of one text, or of one call, that came together; with the number of pieces."""
    held: deque[tuple[Event, int]] = deque()
    for event in events:
        if held and (whole := _whole(held[-1][0], event)) is not None:
            held[-1] = (whole, held[-1][1] + 1)
        else:
            held.append((event, 1))
    yield from held


def _whole(first: Event, second: Event) -> Event | None:
    match first, second:
        case MsgEventTextChunk(), MsgEventTextChunk() if len(first.text) < LONG_TEXT and _alike(
            first, second
        ):
            return first.model_copy(update={"text": first.text + second.text})
        case MsgEventToolCallChunk(), MsgEventToolCallChunk() if (
            second.tool_name is None and len(first.args_chunk) < LONG_TEXT and _alike(first, second)
        ):
            return first.model_copy(update={"args_chunk": first.args_chunk + second.args_chunk})
    return None


def _alike(first: _Piece, second: _Piece) -> bool:
    return first.source == second.source and first.model_extra == second.model_extra
