"""Streamed runs: their events as they come, until the run has said how it ended.

A stream is opened once, and ends with ``done`` or ``error``. One that ends without has broken,
and is not taken up again: the run may be under way, and must not be made twice.

Source: the Gateway wire page, POST /v1/internal/run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, Final

from beray.exceptions import ConnectionFailed, InvalidResponseError, StreamInterrupted
from beray.gateway.errors import translated
from beray.gateway.models import CallStatus, PrefabResult, StreamEvent, StreamEventType
from beray.gateway.schema import RUN, CallAnswer, RunAnswer
from beray.http.connection import CancelToken
from beray.http.errors import JsonDecoder, decode_event
from beray.http.response_body import BrokenBody, ResponseBody
from beray.schema import BODY_EXCERPT
from beray.streaming import sse
from beray.streaming.closable_iterator import ClosableIterator

RUN_PATH: Final = "/v1/internal/run"
EVENTS: Final = "text/event-stream"
_FIELDS: Final = frozenset({"job_id", "status", "output"})

Open = Callable[[CancelToken], ResponseBody]


class PrefabStream(ClosableIterator[StreamEvent]):
    """The events of a streamed run, up to its ``done`` or ``error``; also a context manager.

    Nothing is sent before the first ``next()``. ``close()`` may be called from any thread
    and returns at once; a loop that is left with ``break`` gives the connection back by itself.

    Raises, while iterating:
        GatewayError: as a run that is not streamed; :class:`RunInterrupted` where the
            stream ends without ``done`` or ``error``, :class:`GatewayTimeout` where it falls
            silent, :class:`InvalidAnswer` for an event that is none.
    """

    def __init__(self, source: RunEvents) -> None:
        super().__init__(source)
        self._ending = source.ending

    @property
    def result(self) -> PrefabResult | None:
        """How the run has ended, once ``done`` or ``error`` was given."""
        return self._ending.result


class Ending:
    """What events say of how their run ends.

    Attributes:
        given: how many there were.
        result: ``None`` before the end.
    """

    def __init__(self) -> None:
        self.given = 0
        self.result: PrefabResult | None = None
        self._job_id: str | None = None

    def take(self, event: StreamEvent) -> None:
        self.given += 1
        data = event.data
        if isinstance(data, dict) and isinstance(data.get("job_id"), str):
            self._job_id = data["job_id"]
        if event.type == StreamEventType.DONE:
            self.result = PrefabResult.of(_answer(data), self._job_id)
        elif event.type == StreamEventType.ERROR:
            if not data or not isinstance(data, dict | str):
                raise _invalid("an error event does not say what is wrong")
            self.result = PrefabResult(CallStatus.FAILED, error=data, job_id=self._job_id)


class RunEvents:
    """Where the events of one run come from.

    Args:
        opened: makes the request.
        prefab_id, version: what is run.
    """

    def __init__(self, opened: Open, prefab_id: str, version: str) -> None:
        self._opened = opened
        self._prefab = prefab_id, version
        self._cancel = CancelToken()
        self.ending = Ending()

    @property
    def closed(self) -> bool:
        return self._cancel.cancelled

    def close(self) -> None:
        self._cancel.cancel()

    def events(self) -> Generator[StreamEvent, None, None]:
        with translated(*self._prefab):
            try:
                for event in self._received():
                    self.ending.take(event)
                    yield event
                    if self.ending.result is not None:
                        return
            except ConnectionFailed:
                if not self.closed:
                    raise

    def _received(self) -> Generator[StreamEvent, None, None]:
        body = self._opened(self._cancel)
        with closing(body), self._cancel.on_cancel(body.shut_down):
            if body.content_type == "application/json":
                content = b"".join(iter(body.read, b""))
                if not self.closed:
                    yield from _as_events(content)
                return
            body.require_event_stream(RUN_PATH)
            with suppress(BrokenBody):
                yield from decoded_events(iter(body.read, b""))
        if not self.closed:
            raise broken_off(self.ending.given)


def decoded_events(chunks: Iterable[bytes]) -> Generator[StreamEvent, None, None]:
    """The events of a stream that is cut into ``chunks`` anywhere.

    Raises:
        InvalidResponseError: one is not a JSON object, or grows past all bounds.
    """
    from pydantic_core import from_json  # here, because importing it costs

    parser = sse.Parser()
    try:
        for chunk in chunks:
            for data, _, _ in parser.feed_raw(chunk):
                if data:
                    yield _event(data, from_json)
    except sse.BlockTooLarge as error:
        raise _invalid(str(error)) from None


def gathered(content: bytes) -> PrefabResult:
    """The result of a run that was streamed though nobody asked for it.

    What came in pieces is ``output["content"]``, as in the JSON of a gateway of ours.

    Raises:
        InvalidResponseError: an event is none.
        StreamInterrupted: it ends without ``done`` or ``error``.
    """
    ending = Ending()
    pieces: list[Any] = []
    for event in decoded_events([content]):
        ending.take(event)
        if event.type == StreamEventType.CONTENT:
            pieces.append(event.data)
        result = ending.result
        if result is not None and result.is_success() and pieces:
            return replace(result, output={"content": pieces} | (result.output or {}))
        if result is not None:
            return result
    raise broken_off(ending.given)


def broken_off(given: int) -> StreamInterrupted:
    return StreamInterrupted(
        f"{RUN_PATH}: the stream ended after {given} events, before the run said how it ended; "
        "it is not known what has become of it",
        method="POST",
        path=RUN_PATH,
    )


def _event(data: bytes, from_json: JsonDecoder) -> StreamEvent:
    event = decode_event(data, from_json, RUN_PATH)
    if not isinstance(event.get("type", ""), str | None):
        raise _invalid("the type of an event is not a string", data)
    return StreamEvent.from_dict(event)


def one_result(answer: RunAnswer) -> PrefabResult:
    """The result of a run of one call."""
    require_results(answer, 1)
    return PrefabResult.of(answer["results"][0], answer.get("job_id"))


def require_results(answer: RunAnswer, count: int) -> None:
    """Raise ``InvalidResponseError`` unless each call has its result."""
    if len(answer["results"]) != count:
        raise _invalid(f"the answer has {len(answer['results'])} results for {count} calls")


def _as_events(content: bytes) -> Generator[StreamEvent, None, None]:
    """What a stream would have said of an answer that is the JSON of a plain run."""
    from pydantic_core import from_json

    answer = decode_event(content, from_json, RUN_PATH)
    problem = RUN.problem(answer)
    if problem is not None:
        raise _invalid(f"the answer has an unexpected shape: {problem}", content)
    result = one_result(answer)
    yield StreamEvent(StreamEventType.START, {"job_id": result.job_id})
    if result.is_success():
        done = {"job_id": result.job_id, "status": result.status, "output": result.output}
        yield StreamEvent(StreamEventType.DONE, done)
    else:
        yield StreamEvent(StreamEventType.ERROR, result.error)


def _answer(done: Any) -> CallAnswer:
    """The answer that a ``done`` stands for; a gateway may say the output alone."""
    if isinstance(done, dict) and done.keys() >= _FIELDS and isinstance(done["status"], str):
        output: Any = done["output"]
        if output is None or isinstance(output, dict):
            return {"status": done["status"], "output": output, "error": done.get("error")}
    output = done if isinstance(done, dict) and "output" in done else {"output": done}
    return {"status": CallStatus.SUCCESS, "output": output}


def _invalid(problem: str, body: bytes = b"") -> InvalidResponseError:
    shown = body[:BODY_EXCERPT].decode("utf-8", "replace")
    return InvalidResponseError(
        f"POST {RUN_PATH}: {problem}", body=shown, method="POST", path=RUN_PATH
    )
