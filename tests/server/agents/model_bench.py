"""What the tests of the model runner stand on."""

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
from support import descendants

from beray.server.runners.base import Job, Outcome
from beray.server.runners.model import ModelRunner, Patience
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces
from tests.server.agents.recording import Budget, Recorder

QUICK = Patience(tries=5, first_seconds=0.01)
Step = str | Sequence[tuple[str, dict[str, Any]]]


@dataclass
class Bench:
    """A work_dir, a sandbox and a sink; ``run`` does a goal with them."""

    settings: Settings
    sandbox: Sandbox
    work_dir: Path
    sink: Recorder = field(default_factory=Recorder)
    model: Scripted | None = None
    patience: Patience = QUICK

    @classmethod
    async def make(cls, tmp_path: Path, *steps: Step, **settings: Any) -> Bench:
        """``steps`` are the answers of a model; without any, the settings' model is asked."""
        made = Settings(data_dir=tmp_path / "data", **settings)
        (tmp_path / "work").mkdir()
        sandbox = await Sandbox.detect(made)
        work_dir = Workspaces(tmp_path / "work", uid_of=sandbox.uid_of).create(1, 1)
        model = Scripted(steps) if steps else None
        return cls(made, sandbox, work_dir, model=model)

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
        runner = ModelRunner(self.settings, self.sandbox, given, patience=self.patience)
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
        """What the model was told of its tools' answers, in order."""
        assert self.model is not None
        return self.model.answers()


class Scripted:
    """A model that says what it is told to, a step for each request."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)
        self.asked: list[list[ModelMessage]] = []
        self.instructions = ""
        self.tools: list[str] = []
        self.model = FunctionModel(stream_function=self._stream)

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaToolCalls]:
        self.instructions = info.instructions or ""
        self.tools = [tool.name for tool in info.function_tools]
        step = self.steps[len(self.asked)]
        self.asked.append(list(messages))
        if isinstance(step, str):
            for word in step.split(" "):
                yield f"{word} "
            return
        for index, (name, arguments) in enumerate(step):
            call_id = f"call_{len(self.asked)}_{index}"
            yield {index: DeltaToolCall(name, json.dumps(arguments), tool_call_id=call_id)}

    def answers(self) -> list[str]:
        parts = [
            part
            for message in self.asked[-1]
            if isinstance(message, ModelRequest)
            for part in message.parts
            if isinstance(part, ToolReturnPart)
        ]
        return [str(part.content) for part in parts]


def about(value: float) -> Any:
    """Equal to ``value``, as far as a computer can tell."""
    return pytest.approx(value)


async def stop(run: asyncio.Task[Outcome]) -> float:
    """Stop a run; return how long that took, in seconds."""
    began = time.monotonic()
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert run.cancelled()
    return time.monotonic() - began


def processes() -> set[int]:
    """The processes below this one."""
    return {process.pid for process in descendants()}


def other_tasks() -> set[str]:
    """What this loop still does beside the test."""
    current = asyncio.current_task()
    return {str(task) for task in asyncio.all_tasks() if task is not current}


async def until(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.02)
