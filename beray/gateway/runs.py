"""Results and event streams of runs.

A stream is opened once and ends with a ``done`` or ``error`` event. A stream that ends without one
was interrupted. It is not opened again, because a second request would start a second run.

Source: the Gateway wire page, POST /v1/internal/run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, Final

from beray.exceptions import ConnectionFailed, InvalidResponseError, StreamInterrupted
from beray.gateway.errors import gateway_errors
from beray.gateway.models import CallStatus, PrefabResult, StreamEvent, StreamEventType
from beray.gateway.schema import RUN, CallResponse, RunResponse
from beray.http.connection import CancelToken
from beray.http.errors import JsonDecoder, decode_event
from beray.http.response_body import BrokenBody, ResponseBody
from beray.schema import BODY_EXCERPT
from beray.streaming import sse
from beray.streaming.closable_iterator import ClosableIterator

RUN_PATH: Final = "/v1/internal/run"
EVENT_STREAM_TYPE: Final = "text/event-stream"
_DONE_FIELDS: Final = frozenset({"job_id", "status", "output"})

OpenStream = Callable[[CancelToken], ResponseBody]
"""Sends the request of a streamed run and returns the body of the response."""


class PrefabStream(ClosableIterator[StreamEvent]):
    """Iterator over the events of a streamed run, up to ``done`` or ``error``.

    The request is sent when the first event is requested. Leaving a loop with ``break`` releases
    the connection. The iterator is also a context manager; ``close()`` may be called from any
    thread and returns at once.

    Iterating raises a :class:`GatewayError` for the same reasons as a run that is not streamed,
    and also :class:`RunInterrupted` if the stream ends without ``done`` or ``error``,
    :class:`GatewayTimeout` if no data arrives within the client's ``idle`` seconds, and
    :class:`InvalidAnswer` if an event is not a JSON object.

    Args:
        source: Source of the events.
    """

    def __init__(self, source: RunEventSource) -> None:
        super().__init__(source)
        self._outcome = source.outcome

    @property
    def result(self) -> PrefabResult | None:
        """Result of the run; None before ``done`` or ``error`` was received."""
        return self._outcome.result


class RunOutcomeBuilder:
    """Builder of a run's result from its events.

    Attributes:
        event_count: Number of events so far.
        result: Result of the run; None before ``done`` or ``error``.
    """

    def __init__(self) -> None:
        self.event_count = 0
        self.result: PrefabResult | None = None
        self._job_id: str | None = None

    def add(self, event: StreamEvent) -> None:
        """Process the next event.

        Raises:
            InvalidResponseError: An ``error`` event contains no description of the error.
        """
        self.event_count += 1
        data = event.data
        if isinstance(data, dict) and isinstance(data.get("job_id"), str):
            self._job_id = data["job_id"]
        if event.type == StreamEventType.DONE:
            self.result = PrefabResult.from_response(_done_response(data), self._job_id)
        elif event.type == StreamEventType.ERROR:
            if not data or not isinstance(data, dict | str):
                raise _invalid("an error event contains no description of the error")
            self.result = PrefabResult(CallStatus.FAILED, error=data, job_id=self._job_id)


class RunEventSource:
    """Source of the events of one run.

    Args:
        open_stream: Sends the request.
        prefab_id: ID of the prefab, for exceptions.
        version: Version of the prefab, for exceptions.
    """

    def __init__(self, open_stream: OpenStream, prefab_id: str, version: str) -> None:
        self._open_stream = open_stream
        self._prefab = prefab_id, version
        self._cancel = CancelToken()
        self.outcome = RunOutcomeBuilder()

    @property
    def closed(self) -> bool:
        """True after ``close()``."""
        return self._cancel.cancelled

    def close(self) -> None:
        """Cancel the request; from any thread."""
        self._cancel.cancel()

    def events(self) -> Generator[StreamEvent, None, None]:
        """Send the request and yield the events, up to ``done`` or ``error``.

        Raises:
            GatewayError: See ``PrefabStream``.
        """
        with gateway_errors(*self._prefab):
            try:
                for event in self._received_events():
                    self.outcome.add(event)
                    yield event
                    if self.outcome.result is not None:
                        return
            except ConnectionFailed:
                if not self.closed:
                    raise

    def _received_events(self) -> Generator[StreamEvent, None, None]:
        body = self._open_stream(self._cancel)
        with closing(body), self._cancel.on_cancel(body.shut_down):
            if body.content_type == "application/json":
                content = b"".join(iter(body.read, b""))
                if not self.closed:
                    yield from _events_of_plain_run(content)
                return
            body.require_event_stream(RUN_PATH)
            with suppress(BrokenBody):
                yield from decode_events(iter(body.read, b""))
        if not self.closed:
            raise _interrupted(self.outcome.event_count)


def decode_events(chunks: Iterable[bytes]) -> Generator[StreamEvent, None, None]:
    """Yield the events of a stream.

    Args:
        chunks: The stream in pieces, which may be split at any byte.

    Raises:
        InvalidResponseError: An event is not a JSON object, or exceeds the parser's size limit.
    """
    from pydantic_core import from_json  # imported late to keep ``import beray`` fast

    parser = sse.Parser()
    try:
        for chunk in chunks:
            for data, _, _ in parser.feed_raw(chunk):
                if data:
                    yield _decode_run_event(data, from_json)
    except sse.BlockTooLarge as error:
        raise _invalid(str(error)) from None


def result_of_stream(content: bytes) -> PrefabResult:
    """Return the result of a run that the gateway streamed although the client did not request it.

    The data of content events is in ``output["content"]``, as in the JSON response of BeRay's
    gateway.

    Args:
        content: The complete stream.

    Raises:
        InvalidResponseError: An event is not a JSON object.
        StreamInterrupted: The stream ends without ``done`` or ``error``.
    """
    outcome = RunOutcomeBuilder()
    contents: list[Any] = []
    for event in decode_events([content]):
        outcome.add(event)
        if event.type == StreamEventType.CONTENT:
            contents.append(event.data)
        result = outcome.result
        if result is not None and result.is_success() and contents:
            return replace(result, output={"content": contents} | (result.output or {}))
        if result is not None:
            return result
    raise _interrupted(outcome.event_count)


def _interrupted(event_count: int) -> StreamInterrupted:
    return StreamInterrupted(
        f"{RUN_PATH}: the stream ended after {event_count} events, without done or error; "
        "the outcome of the run is unknown",
        method="POST",
        path=RUN_PATH,
    )


def _decode_run_event(data: bytes, from_json: JsonDecoder) -> StreamEvent:
    event = decode_event(data, from_json, RUN_PATH)
    if not isinstance(event.get("type", ""), str | None):
        raise _invalid("the type of an event is not a string", data)
    return StreamEvent.from_dict(event)


def single_result(response: RunResponse) -> PrefabResult:
    """Return the result of a run of one call.

    Raises:
        InvalidResponseError: The response does not have exactly one result.
    """
    require_result_count(response, 1)
    return PrefabResult.from_response(response["results"][0], response.get("job_id"))


def require_result_count(response: RunResponse, count: int) -> None:
    """Raise ``InvalidResponseError`` unless the response has ``count`` results."""
    if len(response["results"]) != count:
        raise _invalid(f"the response has {len(response['results'])} results for {count} calls")


def _events_of_plain_run(content: bytes) -> Generator[StreamEvent, None, None]:
    """Yield the events that are equivalent to the JSON response of a run without a stream."""
    from pydantic_core import from_json

    response = decode_event(content, from_json, RUN_PATH)
    problem = RUN.problem(response)
    if problem is not None:
        raise _invalid(f"the response does not have the documented form: {problem}", content)
    result = single_result(response)
    yield StreamEvent(StreamEventType.START, {"job_id": result.job_id})
    if result.is_success():
        done = {"job_id": result.job_id, "status": result.status, "output": result.output}
        yield StreamEvent(StreamEventType.DONE, done)
    else:
        yield StreamEvent(StreamEventType.ERROR, result.error)


def _done_response(done: Any) -> CallResponse:
    """Return the response that the data of a ``done`` event means.

    Some gateways send only the function's return value instead of the whole response.
    """
    if isinstance(done, dict) and done.keys() >= _DONE_FIELDS and isinstance(done["status"], str):
        output: Any = done["output"]
        if output is None or isinstance(output, dict):
            return {"status": done["status"], "output": output, "error": done.get("error")}
    output = done if isinstance(done, dict) and "output" in done else {"output": done}
    return {"status": CallStatus.SUCCESS, "output": output}


def _invalid(problem: str, body: bytes = b"") -> InvalidResponseError:
    excerpt = body[:BODY_EXCERPT].decode("utf-8", "replace")
    return InvalidResponseError.for_request("POST", RUN_PATH, problem, body=excerpt)
