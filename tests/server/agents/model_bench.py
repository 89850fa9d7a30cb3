"""Test environment of the model runner: settings, sandbox, work_dir, sink and scripted model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from beray.server.runners.base import Job, Outcome
from beray.server.runners.model import ModelRunner, RetryPolicy
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces
from tests.server.agents.recording import Budget, Recorder
from tests.support import WAIT_SECONDS, descendants

QUICK = RetryPolicy(max_attempts=5, initial_seconds=0.01)
Step = str | Sequence[tuple[str, dict[str, Any]]]


@dataclass
class Bench:
    """Environment of one run."""

    settings: Settings
    sandbox: Sandbox
    work_dir: Path
    sink: Recorder = field(default_factory=Recorder)
    model: ScriptedModel | None = None
    retry_policy: RetryPolicy = QUICK

    @classmethod
    async def make(cls, tmp_path: Path, *steps: Step, **settings: Any) -> Bench:
        """Create an environment.

        Args:
            tmp_path: Directory for the server's data and the work_dir.
            steps: Answers of a scripted model; without any, the model of the settings is used.
            settings: Settings of the server.
        """
        server_settings = Settings(data_dir=tmp_path / "data", **settings)
        (tmp_path / "work").mkdir()
        sandbox = await Sandbox.detect(server_settings)
        work_dir = Workspaces(tmp_path / "work", uid_of=sandbox.uid_of).create(1, 1)
        model = ScriptedModel(steps) if steps else None
        return cls(server_settings, sandbox, work_dir, model=model)

    def budget(self, budget: Budget) -> None:
        self.sink = Recorder(budget)

    async def run(
        self,
        *,
        goal: str = "write hello world",
        tools: list[dict[str, Any]] | None = None,
        job_model: str | None = None,
        network: bool = False,
        model: Model | None = None,
    ) -> Outcome:
        given = model or (self.model.model if self.model else None)
        runner = ModelRunner(
            settings=self.settings,
            sandbox=self.sandbox,
            model=given,
            retry_policy=self.retry_policy,
        )
        job = self.job(goal=goal, tools=tools, job_model=job_model, network=network)
        return await runner.run(job, self.sink)

    def job(
        self,
        *,
        goal: str = "write hello world",
        tools: list[dict[str, Any]] | None = None,
        job_model: str | None = None,
        network: bool = False,
    ) -> Job:
        return Job(1, goal, tools, self.work_dir, job_model, network)

    def start(self, **arguments: Any) -> asyncio.Task[Outcome]:
        return asyncio.create_task(self.run(**arguments))

    def answers(self) -> list[str]:
        """Return the results of tools that the model has received, in order."""
        assert self.model is not None
        return self.model.answers()


class ScriptedModel:
    """Model with scripted answers, one step for each request."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.requests: list[list[ModelMessage]] = []
        self.instructions = ""
        self.tools: list[str] = []
        self.model = FunctionModel(stream_function=self._stream)

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaToolCalls]:
        self.instructions = info.instructions or ""
        self.tools = [tool.name for tool in info.function_tools]
        step = self.steps[len(self.requests)]
        self.requests.append(list(messages))
        if isinstance(step, str):
            for word in step.split(" "):
                yield f"{word} "
            return
        for index, (name, arguments) in enumerate(step):
            call_id = f"call_{len(self.requests)}_{index}"
            yield {index: DeltaToolCall(name, json.dumps(arguments), tool_call_id=call_id)}

    def answers(self) -> list[str]:
        parts = [
            part
            for message in self.requests[-1]
            if isinstance(message, ModelRequest)
            for part in message.parts
            if isinstance(part, ToolReturnPart)
        ]
        return [str(part.content) for part in parts]


def about(value: float) -> Any:
    """Return an object that is equal to ``value`` within floating-point precision."""
    return pytest.approx(value)


async def stop(run: asyncio.Task[Outcome]) -> float:
    """Stop a run and return the duration in seconds."""
    started = time.monotonic()
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert run.cancelled()
    return time.monotonic() - started


def processes() -> set[int]:
    """Return the ids of the descendants of this process."""
    return {process.pid for process in descendants()}


def other_tasks() -> set[str]:
    """Return the other tasks of this event loop."""
    current = asyncio.current_task()
    return {str(task) for task in asyncio.all_tasks() if task is not current}


async def until(condition: Callable[[], bool], *, seconds: float = WAIT_SECONDS) -> None:
    """Wait until ``condition`` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        await asyncio.sleep(0.02)
