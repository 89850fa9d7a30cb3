"""Runner ``model``: the agent loop of requests to a model and tool calls."""

from __future__ import annotations

import asyncio
import importlib
import traceback
from collections.abc import AsyncIterable
from contextlib import suppress
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
from beray.server.runners.base import BudgetExceeded, Job, Outcome, Sink, Usage
from beray.server.runners.model import models, toolset
from beray.server.runners.model.answer_end import UnusableAnswer
from beray.server.runners.model.file_tools import FileTools
from beray.server.runners.model.instructions import instructions
from beray.server.runners.model.live_model import LiveModel
from beray.server.runners.model.mcp_servers import connect_servers
from beray.server.runners.model.mcp_session import McpContext
from beray.server.runners.model.memory import MessageHistory
from beray.server.runners.model.prefab_tools import prefab_tools
from beray.server.runners.model.provider_errors import describe, endpoint
from beray.server.runners.model.retries import RetryPolicy
from beray.server.runners.model.sinks import SinkFailed, WrappedSink
from beray.server.runners.model.translate import tool_result
from beray.server.runners.model.usage import UsageMeter
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings

log = structlog.get_logger("beray.model")

TRACE_CHARACTERS: Final = 4000
RECORD_SECONDS: Final = 0.8
"""Timeout of recording the final usage."""
_UNLIMITED: Final = 1_000_000
"""Number of invalid tool calls. The run is limited by its budget instead."""
_LATE_IMPORTS: Final = (
    "anyio._backends._asyncio",
    "concurrent.futures.thread",
    "genai_prices.data",
    "genai_prices.decompose",
    "genai_prices.validation",
)
"""Modules that libraries import during a run."""


def preload(model: str | None) -> None:
    """Import the modules that a run with ``model`` needs, in the process that runs are forked from.

    No connection is opened and no thread is started.
    """
    for module in _LATE_IMPORTS:
        importlib.import_module(module)
    if model is not None:
        # An invalid name is reported by the run itself.
        with suppress(models.UnusableModel):
            models.build(model, "BERAY_MODEL")


class ModelRunner:
    """Runner that lets a language model work on the goal with tools.

    Args:
        settings: Settings of the server.
        sandbox: Sandbox of the server.
        model: Model to use instead of the one that the job or the settings name.
        retry_policy: Policy for failed requests.
        outbound: Policy for MCP servers' URLs; derived from the settings by default.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        sandbox: Sandbox,
        model: Model | None = None,
        retry_policy: RetryPolicy | None = None,
        outbound: OutboundPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._outbound = outbound or OutboundPolicy.of(settings)
        self._sandbox = sandbox
        self._model = model
        self._retry_policy = retry_policy or RetryPolicy()

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Run the agent loop until the model ends its answer or fails."""
        try:
            return await self._run(job, WrappedSink(sink))
        except SinkFailed as failed:
            raise failed.error from None

    async def _run(self, job: Job, sink: WrappedSink) -> Outcome:
        try:
            model = self._model or await self._build(job)
        except models.UnusableModel as error:
            await sink.emit(MsgError(code="MODEL", details=f"{error}."))
            return Outcome("FAILED", "model")
        meter = UsageMeter(model.model_name)
        try:
            failure = await self._run_agent(job, sink, model, meter)
            if failure is not None:
                await sink.emit(failure)
            if failure is None or meter.usage.tokens:
                await sink.emit(MsgEventEnd(tokens_used=meter.usage.tokens))
        except SinkFailed as failed:
            if isinstance(failed.error, BudgetExceeded) and meter.usage.tokens:
                await sink.emit(MsgEventEnd(tokens_used=meter.usage.tokens))
            raise
        finally:
            await _record_usage(sink.sink, meter.usage)
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

    async def _run_agent(
        self, job: Job, sink: WrappedSink, model: Model, meter: UsageMeter
    ) -> MsgError | None:
        """Run the agent loop; return the error if the provider or the model failed."""
        history = await asyncio.to_thread(MessageHistory, job.conversation, job.goal)
        live = LiveModel(
            model, sink=sink, meter=meter, retry_policy=self._retry_policy, history=history
        )
        files = FileTools(job.work_dir, space=self._sandbox.disk_space(job.work_dir))
        context = McpContext(job, self._settings, self._sandbox, self._outbound)
        servers = connect_servers(context, sink, files, toolset.NAMES)
        try:
            async with live, servers as mcp:
                reserved = [*toolset.NAMES, *(tool.name for tool in mcp.tools)]
                prefabs = await prefab_tools(self._settings, job, sink, files, reserved)
                further = [*mcp.tools, *prefabs]
                agent: Agent[None, str | None] = Agent(
                    live,
                    # None accepts an empty answer after tool calls as the end of the run.
                    output_type=[str, type(None)],
                    deps_type=type(None),
                    instructions=instructions(
                        self._sandbox.inside(job.work_dir),
                        network=self._sandbox.networks.reached(requested=job.network),
                        problems=mcp.problems,
                    ),
                    toolsets=[toolset.build(self._settings, self._sandbox, job, sink, further)],
                    retries=AgentRetries(tools=_UNLIMITED, output=3),
                    model_settings=ModelSettings(max_retries=0, cache=True),
                    name="beray",
                )

                async def log_results(
                    _: RunContext[None], events: AsyncIterable[AgentStreamEvent]
                ) -> None:
                    async for event in events:
                        if isinstance(event, FunctionToolResultEvent):
                            await history.record_tool_result(event.part)
                            await sink.emit(tool_result(event.part))

                await agent.run(
                    job.goal,
                    message_history=history.messages,
                    usage_limits=UsageLimits(request_limit=None),
                    event_stream_handler=log_results,
                )
        except (ModelAuthenticationError, ModelNotFoundError) as error:
            return MsgError(
                code="MODEL",
                details=f"{_label(model)} cannot be used: {describe(error)}. {_hint(error)}",
            )
        except ModelAPIError as error:
            return MsgError(code="PROVIDER", details=f"{_label(model)} failed: {describe(error)}.")
        except UnusableAnswer as error:
            return MsgError(code=error.code, details=str(error))
        except SinkFailed:
            raise
        except Exception as error:  # noqa: BLE001 - an unexpected response can raise any exception
            if not isinstance(error, AgentRunError | UserError):
                # Without the values of variables, which may include API keys.
                trace = "".join(traceback.format_exception(error))[-TRACE_CHARACTERS:]
                log.error("unexpected exception in the client of a model's provider", trace=trace)
            details = f"{_label(model)} sent an answer that cannot be used: {describe(error)}."
            return MsgError(code="PROVIDER", details=details)
        return None


def _label(model: Model) -> str:
    return f"The model {model.model_name} of {model.system}{endpoint(model)}"


def _hint(error: ModelAPIError) -> str:
    if isinstance(error, ModelAuthenticationError):
        return "Check the provider's API key on the server."
    return "Check its name (BERAY_MODEL, or the model of the task) and its provider's base URL."


async def _record_usage(sink: Sink, usage: Usage) -> None:
    """Record the total usage within ``RECORD_SECONDS``, also while the run is being stopped."""
    recording = asyncio.ensure_future(sink.record(usage))
    done, _ = await asyncio.wait([recording], timeout=RECORD_SECONDS)
    if not done:
        recording.cancel()
    elif error := recording.exception():
        raise error
