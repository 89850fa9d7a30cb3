"""Runner ``model``: asks, calls tools, asks again, until the model has done the goal."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterable
from typing import Final

import structlog
from pydantic_ai import Agent, RunContext
from pydantic_ai.agent import AgentRetries
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelNotFoundError,
    UserError,
)
from pydantic_ai.messages import AgentStreamEvent, FunctionToolResultEvent
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from beray.events import MsgError, MsgEventEnd
from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners.base import Job, Outcome, OverBudget, Sink, Usage
from beray.server.runners.model import models, toolset
from beray.server.runners.model.answer_end import UnusableAnswer
from beray.server.runners.model.file_tools import FileTools
from beray.server.runners.model.instructions import instructions
from beray.server.runners.model.live_model import LiveModel
from beray.server.runners.model.mcp_servers import connected
from beray.server.runners.model.mcp_session import Surroundings
from beray.server.runners.model.memory import Memory
from beray.server.runners.model.prefab_tools import prefab_tools
from beray.server.runners.model.provider_errors import described, place
from beray.server.runners.model.retries import Patience
from beray.server.runners.model.sinks import Exit, SinkFailed
from beray.server.runners.model.translate import tool_result
from beray.server.runners.model.usage import Meter
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

log = structlog.get_logger("beray.model")

TRACE_CHARACTERS: Final = 4000
RECORD_SECONDS: Final = 0.8
_ALWAYS: Final = 1_000_000
"""So many times a tool may be called wrongly: a run is ended by its budget, not by this."""


class ModelRunner:
    """A ``Runner``. ``model`` is used instead of the one that the settings or the job name."""

    def __init__(
        self,
        settings: Settings,
        sandbox: Sandbox,
        model: Model | None = None,
        *,
        patience: Patience | None = None,
        outbound: OutboundPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._outbound = outbound or OutboundPolicy.of(settings)
        self._sandbox = sandbox
        self._model = model
        self._patience = patience or Patience()

    async def run(self, job: Job, sink: Sink) -> Outcome:
        try:
            return await self._run(job, Exit(sink))
        except SinkFailed as failed:
            raise failed.error from None

    async def _run(self, job: Job, sink: Exit) -> Outcome:
        try:
            model = self._model or await self._build(job)
        except models.UnusableModel as error:
            await sink.emit(MsgError(code="MODEL", details=f"{error}."))
            return Outcome("FAILED", "model")
        meter = Meter(model.model_name)
        try:
            failure = await self._work(job, sink, model, meter)
            if failure is not None:
                await sink.emit(failure)
            if failure is None or meter.usage.tokens:
                await sink.emit(MsgEventEnd(tokens_used=meter.usage.tokens))
        except SinkFailed as failed:
            if isinstance(failed.error, OverBudget) and meter.usage.tokens:
                await sink.emit(MsgEventEnd(tokens_used=meter.usage.tokens))
            raise
        finally:
            await _settle(sink.sink, meter.usage)
        if failure is None:
            return Outcome("COMPLETED")
        return Outcome("FAILED", failure.code.lower())

    async def _build(self, job: Job) -> Model:
        name = job.model or self._settings.model
        if not name:
            raise models.UnusableModel(
                "No model is configured: BERAY_MODEL is not set on this server "
                "(such as openai:gpt-4o)"
            )
        setting = "The model of this task" if job.model else "BERAY_MODEL"
        return await asyncio.to_thread(models.build, name, setting)

    async def _work(self, job: Job, sink: Exit, model: Model, meter: Meter) -> MsgError | None:
        """Do the goal; what kept the provider or the model from it, if anything did."""
        memory = await asyncio.to_thread(Memory, job.conversation, job.goal)
        live = LiveModel(model, sink, meter, self._patience, memory)
        files = FileTools(job.work_dir, self._sandbox.disk_space(job.work_dir))
        around = Surroundings(job, self._settings, self._sandbox, self._outbound)
        servers = connected(around, sink, files, toolset.NAMES)
        try:
            async with live, servers as mcp:
                taken = [*toolset.NAMES, *(tool.name for tool in mcp.tools)]
                prefabs = await prefab_tools(self._settings, job, sink, files, taken)
                further = [*mcp.tools, *prefabs]
                agent: Agent[None, str | None] = Agent(
                    live,
                    # A model that has nothing more to say has come to its end.
                    output_type=[str, type(None)],
                    deps_type=type(None),
                    instructions=instructions(
                        self._sandbox.inside(job.work_dir),
                        network=self._sandbox.networks.reached(asked=job.network),
                        problems=mcp.problems,
                    ),
                    toolsets=[toolset.build(self._settings, self._sandbox, job, sink, further)],
                    retries=AgentRetries(tools=_ALWAYS, output=3),
                    model_settings=ModelSettings(max_retries=0, cache=True),
                    name="beray",
                )

                async def log_results(
                    _: RunContext[None], events: AsyncIterable[AgentStreamEvent]
                ) -> None:
                    async for event in events:
                        if isinstance(event, FunctionToolResultEvent):
                            await memory.returned(event.part)
                            await sink.emit(tool_result(event.part))

                await agent.run(
                    job.goal,
                    message_history=memory.messages,
                    usage_limits=UsageLimits(request_limit=None),
                    event_stream_handler=log_results,
                )
        except (ModelAuthenticationError, ModelNotFoundError) as error:
            return MsgError(
                code="MODEL",
                details=f"{_named(model)} cannot be used: {described(error)}. {_hint(error)}",
            )
        except ModelAPIError as error:
            return MsgError(code="PROVIDER", details=f"{_named(model)} failed: {described(error)}.")
        except UnusableAnswer as ended:
            return MsgError(code=ended.code, details=str(ended))
        except SinkFailed:
            raise
        except Exception as error:  # noqa: BLE001 - of a provider, anything can be expected
            # What an endpoint sends may break the client of its provider in any way.
            if not isinstance(error, AgentRunError | UserError):
                # Without the values of variables: there may be keys among them.
                trace = "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]
                log.error("the model's provider failed in an unknown way", trace=trace)
            details = f"{_named(model)} gave no answer that can be used: {described(error)}."
            return MsgError(code="PROVIDER", details=details)
        return None


def _named(model: Model) -> str:
    return f"The model {model.model_name} of {model.system}{place(model)}"


def _hint(error: ModelAPIError) -> str:
    if isinstance(error, ModelAuthenticationError):
        return "Check the key of its provider, which is set where the server runs."
    return "Check its name (BERAY_MODEL, or the model of the task) and its provider's base URL."


async def _settle(sink: Sink, usage: Usage) -> None:
    """Say what the run has taken in all, quickly, also while it is being stopped."""
    recording = asyncio.ensure_future(sink.record(usage))
    done, _ = await asyncio.wait([recording], timeout=RECORD_SECONDS)
    if not done:
        recording.cancel()
    elif error := recording.exception():
        raise error
