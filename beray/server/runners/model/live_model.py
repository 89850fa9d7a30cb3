"""A model whose answers become events as they come, counted, and asked for again."""

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
from beray.server.runners.model.memory import Memory
from beray.server.runners.model.provider_errors import described, place
from beray.server.runners.model.retries import Patience
from beray.server.runners.model.sinks import Exit
from beray.server.runners.model.translate import Translator
from beray.server.runners.model.usage import Meter

_EMPTY_STREAM: Final = "Streamed response ended without"
"""Beginning of pydantic-ai's message for a stream with no event at all."""


RESTART: Final = "\n\n[The answer broke off. It starts again:]\n\n"
"""Text of a chunk that retracts the pieces before it, for clients that do not know the field."""


class LiveModel(WrapperModel):
    """What an agent asks instead of ``model``: it gets whole answers; the sink, each piece.

    Before every request the sink is told what has been used, and may refuse. A request
    that fails in a way that passes is made again, also when part of its answer was
    shown: nothing in an answer is acted upon before its end.
    """

    def __init__(
        self, model: Model, sink: Exit, meter: Meter, patience: Patience, memory: Memory
    ) -> None:
        super().__init__(model)
        self._head = ResponseHead(model)
        self._memory = memory
        self._sink = sink
        self._meter = meter
        self._patience = patience
        self._said = False
        """Whether anything of the current attempt was emitted."""
        self._acted = False
        """Whether tools were called."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self._answer(messages, model_settings, model_request_parameters, None)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncIterator[StreamedResponse]:
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
        await self._memory.sent(messages)
        tried = 0
        while True:
            await self._sink.charge(self._meter.usage)
            tried += 1
            requests, emitted = self._meter.usage.requests, self._sink.emitted
            self._said = False
            try:
                response = await self._ask(messages, settings, parameters, context)
                await self._ended(with_refusal(response))
                return response
            except ModelAPIError as error:
                wait = self._patience.wait_seconds(tried, error)
                if wait is None:
                    raise
                if self._said:
                    await self._retract(self._sink.emitted - emitted)
                began = self._meter.usage.requests > requests
                await self._tell(error, wait, tried, began=began)
            await asyncio.sleep(wait)

    async def _ended(self, response: ModelResponse) -> None:
        """Record a complete answer and judge how it ended.

        Raises:
            UnusableAnswer: It ended in a way that is a failure of the run.
        """
        if not is_empty(response):  # which providers reject in a history
            await self._memory.answered(response)
        require_usable(response, acted=self._acted)
        if is_empty(response):
            payload = {"kind": "note", "message": "The model ended its answer without any text."}
            await self._sink.emit(MsgEventCustomUpdate(payload=payload))
        self._acted = self._acted or bool(response.tool_calls)

    async def _ask(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        context: RunContext[Any] | None,
    ) -> ModelResponse:
        """Make one request. Whatever has been sent is counted, however it ends."""
        stream: StreamedResponse | None = None
        whole = False
        self._memory.begin_answer()
        self._head.clear()
        try:
            async with self._opened(messages, settings, parameters, context) as stream:
                translator = Translator()
                async for piece in stream:
                    for event in translator.events(piece):
                        if isinstance(event, MsgEventTextChunk) and event.source == "main":
                            self._memory.streamed(event.text)
                        self._said = True
                        await self._sink.emit(event)
                response = stream.get()
                if not is_complete(response):
                    raise self._incomplete()
                whole = True
                return response
        except asyncio.CancelledError:
            # It was under way: the provider counts what it has read, and so do we.
            if stream is None:
                self._meter.add(ModelResponse(parts=[]), messages, parameters, whole=False)
            raise
        finally:
            if stream is not None:
                self._meter.add(stream.get(), messages, parameters, whole=whole)

    @asynccontextmanager
    async def _opened(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        context: RunContext[Any] | None,
    ) -> AsyncIterator[StreamedResponse]:
        """The answer as a stream; of a model that knows no streams, all of it at once."""
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
        """Withdraw what was emitted of an attempt that broke off."""
        self._memory.begin_answer()
        chunk = {"text": RESTART, "retracts": count}
        await self._sink.emit(MsgEventTextChunk.model_validate(chunk))

    async def _tell(self, error: ModelAPIError, wait: float, tried: int, *, began: bool) -> None:
        provider = f"model's provider{place(self.wrapped)}"
        what = f"The answer of the {provider} was cut off" if began else f"The {provider} failed"
        payload = {
            "kind": "retry",
            "message": (
                f"{what} ({described(error)}). It is asked again in {wait:.1f} s, "
                f"try {tried + 1} of {self._patience.tries}."
            ),
            "wait_seconds": round(wait, 3),
            "answer_began": began,
        }
        await self._sink.emit(MsgEventCustomUpdate(payload=payload))
