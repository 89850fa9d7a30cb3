"""Model wrapper that emits answers as events, counts usage and retries failed requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import (
    CompletedStreamedResponse,
    Model,
    ModelRequestParameters,
    StreamedResponse,
)
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

from beray.events import MsgEventCustomUpdate, MsgEventTextChunk
from beray.server.runners.model._compat import ResponseHead
from beray.server.runners.model.answer_end import (
    IncompleteAnswer,
    is_complete,
    is_empty,
    require_usable,
    with_refusal,
)
from beray.server.runners.model.memory import MessageHistory
from beray.server.runners.model.provider_errors import describe, endpoint
from beray.server.runners.model.retries import RetryPolicy
from beray.server.runners.model.sinks import WrappedSink
from beray.server.runners.model.translate import EventTranslator
from beray.server.runners.model.usage import UsageMeter

_EMPTY_STREAM: Final = "Streamed response ended without"
"""Beginning of pydantic-ai's message for a stream without events."""
RESTART: Final = "\n\n[The answer broke off. It starts again:]\n\n"
"""Text of a chunk that retracts the chunks before it, for clients that do not know the field."""


class LiveModel(WrapperModel):
    """Wrapper of a model. The agent gets complete answers; the sink gets each chunk.

    The usage is charged before every request, which can end the run. After a transient failure a
    request is repeated, even if a part of its answer was emitted: tools are called only after the
    end of an answer, so the partial answer had no effect.

    Args:
        model: The model.
        sink: Destination of events and usage.
        meter: Counter of the usage.
        retry_policy: Number of attempts and delays between them.
        history: Message history in which answers are recorded.
    """

    def __init__(
        self,
        model: Model,
        *,
        sink: WrappedSink,
        meter: UsageMeter,
        retry_policy: RetryPolicy,
        history: MessageHistory,
    ) -> None:
        super().__init__(model)
        self._head = ResponseHead(model)
        self._history = history
        self._sink = sink
        self._meter = meter
        self._retry_policy = retry_policy
        self._emitted_any = False
        """True if events of the current attempt were emitted."""
        self._called_tools = False
        """True if an answer with tool calls was complete."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the complete answer to a request."""
        return await self._answer(messages, model_settings, model_request_parameters, None)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        """Return a stream that contains the complete answer at once."""
        response = await self._answer(
            messages, model_settings, model_request_parameters, run_context
        )
        yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters)

    async def _answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        context: RunContext[Any] | None,
    ) -> ModelResponse:
        await self._history.record_request(messages)
        attempts = 0
        while True:
            await self._sink.charge(self._meter.usage)
            attempts += 1
            requests, emitted = self._meter.usage.requests, self._sink.emitted
            self._emitted_any = False
            try:
                response = await self._request_once(messages, settings, parameters, context)
                await self._finish(with_refusal(response))
                return response
            except ModelAPIError as error:
                delay = self._retry_policy.delay(attempts, error)
                if delay is None:
                    raise
                if self._emitted_any:
                    await self._retract(self._sink.emitted - emitted)
                began = self._meter.usage.requests > requests
                await self._report_retry(error, delay, attempts, began=began)
            await asyncio.sleep(delay)

    async def _finish(self, response: ModelResponse) -> None:
        """Record a complete answer and check its end.

        Raises:
            UnusableAnswer: The end makes the run fail.
        """
        if not is_empty(response):  # providers reject empty answers in a history
            await self._history.record_answer(response)
        require_usable(response, acted=self._called_tools)
        if is_empty(response):
            payload = {"kind": "note", "message": "The model ended its answer without any text."}
            await self._sink.emit(MsgEventCustomUpdate(payload=payload))
        self._called_tools = self._called_tools or bool(response.tool_calls)

    async def _request_once(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        context: RunContext[Any] | None,
    ) -> ModelResponse:
        """Send one request. Its usage is counted, even if it fails or is cancelled."""
        stream: StreamedResponse | None = None
        complete = False
        self._history.begin_answer()
        self._head.clear()
        try:
            async with self._stream(messages, settings, parameters, context) as stream:
                translator = EventTranslator()
                async for part in stream:
                    for event in translator.events(part):
                        if isinstance(event, MsgEventTextChunk) and event.source == "main":
                            self._history.record_text(event.text)
                        self._emitted_any = True
                        await self._sink.emit(event)
                response = stream.get()
                if not is_complete(response):
                    raise self._incomplete()
                complete = True
                return response
        except asyncio.CancelledError:
            # The provider counts the input of a request that is cancelled before its response.
            if stream is None:
                self._meter.add(ModelResponse(parts=[]), messages, parameters, complete=False)
            raise
        finally:
            if stream is not None:
                self._meter.add(stream.get(), messages, parameters, complete=complete)

    @asynccontextmanager
    async def _stream(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        context: RunContext[Any] | None,
    ) -> AsyncIterator[StreamedResponse]:
        """Open the answer as a stream; if the model cannot stream, with all of it at once."""
        async with AsyncExitStack() as stack:
            opening = self.wrapped.request_stream(messages, settings, parameters, context)
            try:
                stream = await stack.enter_async_context(opening)
            except UnexpectedModelBehavior as error:
                if error.message.startswith(_EMPTY_STREAM):
                    raise self._incomplete() from error
                raise
            except NotImplementedError:
                response = await self.wrapped.request(messages, settings, parameters)
                stream = CompletedStreamedResponse(
                    response, model_request_parameters=parameters, replay_events=True
                )
            yield stream

    def _incomplete(self) -> IncompleteAnswer:
        return IncompleteAnswer(self.wrapped.model_name, self._head.text())

    async def _retract(self, count: int) -> None:
        """Retract the events of an attempt that failed."""
        self._history.begin_answer()
        chunk = {"text": RESTART, "retracts": count}
        await self._sink.emit(MsgEventTextChunk.model_validate(chunk))

    async def _report_retry(
        self, error: ModelAPIError, delay: float, attempts: int, *, began: bool
    ) -> None:
        """Log a failed attempt.

        Args:
            error: The failure.
            delay: Seconds until the next attempt.
            attempts: Number of attempts so far.
            began: Whether a part of the answer was received.
        """
        provider = f"model's provider{endpoint(self.wrapped)}"
        failure = (
            f"The answer of the {provider} was interrupted"
            if began
            else f"The request to the {provider} failed"
        )
        payload = {
            "kind": "retry",
            "message": (
                f"{failure} ({describe(error)}). Retrying in {delay:.1f} s, "
                f"attempt {attempts + 1} of {self._retry_policy.max_attempts}."
            ),
            "wait_seconds": round(delay, 3),
            "answer_began": began,
        }
        await self._sink.emit(MsgEventCustomUpdate(payload=payload))
