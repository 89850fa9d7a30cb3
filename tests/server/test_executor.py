"""The lifecycle of runs: turns, stops, ends and recovery, with a policy that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from beray.events import Event, MsgError, MsgUserMessage, TaskStatusChanged
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.fair_queue import QueueFull
from beray.server.storage.tables import Task
from beray.server.storage.tasks import UnfinishedTask
from beray.server.tasks import executor as executor_module
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog, TaskClosed
from beray.server.tasks.executor import Executor, ExecutorClosed, RunActive
from beray.server.tasks.run_policy import Run, RunKind, SlotLimits, StopReason


class Log:
    """Event log in memory, which can be blocked."""

    def __init__(self) -> None:
        self.events: dict[int, list[str]] = {}
        self.writable = asyncio.Event()
        self.writable.set()

    async def append(self, task_id: int, event: Event, *, recovers: bool = False) -> int:
        await self.writable.wait()
        name = event.text if isinstance(event, MsgUserMessage) else event.type
        if isinstance(event, TaskStatusChanged):
            name = f"{event.status} {event.reason}"
        logged = self.events.setdefault(task_id, [])
        logged.append(name)
        return len(logged)


class Policy:
    """Policy whose runs last until the test ends or fails them."""

    def __init__(self, log: Log, limits: SlotLimits, *, outlives_server: bool) -> None:
        self.limits = limits
        self.outlives_server = outlives_server
        self.started: list[int] = []
        self.ended: list[int] = []
        self.cleanup = asyncio.Event()
        """Set when the processes of stopped runs have ended."""
        self.cleanup.set()
        self.preparation = asyncio.Event()
        self.preparation.set()
        self._log = log
        self._results: dict[int, asyncio.Future[str]] = {}

    def finish(self, task_id: int, result: str | Exception = "COMPLETED") -> None:
        if isinstance(result, Exception):
            self._results[task_id].set_exception(result)
        else:
            self._results[task_id].set_result(result)

    async def prepare(self, run: Run) -> None:
        assert run.message is not None
        await self._log.append(run.task_id, run.message)
        run.is_message_logged = True
        await self.preparation.wait()

    async def execute(self, run: Run) -> Sequence[Event]:
        self.started.append(run.task_id)
        self._results[run.task_id] = asyncio.get_running_loop().create_future()
        try:
            return [TaskStatusChanged(status=await self._results[run.task_id])]
        finally:
            await self.cleanup.wait()

    def stopped(self, run: Run, reason: StopReason) -> Sequence[Event]:
        return [TaskStatusChanged(status="STOPPED", reason=reason)]

    def failed(self, run: Run) -> Sequence[Event]:
        problem = MsgError(code="RUNNER_FAILED", details="It failed.")
        return [problem, TaskStatusChanged(status="FAILED", reason="error")]

    def on_end(self, run: Run) -> None:
        self.ended.append(run.task_id)

    async def stop_idle(self, task_id: int) -> bool:
        return task_id not in self._log.events

    async def recover(self, tasks: Sequence[UnfinishedTask]) -> list[Run]:
        return [goal(task.id, task.user_id) for task in tasks if not task.held]

    def subject(self, task_id: int) -> str:
        return f"Run {task_id}"


class Bench:
    """An executor with two slots for each kind, of which one user may have one answer."""

    def __init__(self, unfinished: Sequence[UnfinishedTask] = ()) -> None:
        self.log = Log()
        self.ends = EndWriter(event_log=cast(EventLog, self.log))
        self.goals = Policy(
            self.log, SlotLimits(slots=2, slots_per_user=None), outlives_server=True
        )
        limits = SlotLimits(slots=2, slots_per_user=1, waiting_per_user=1, noun="messages")
        self.answers = Policy(self.log, limits, outlives_server=False)
        policies: dict[RunKind, Policy] = {"goal": self.goals, "answer": self.answers}

        def page(after: int) -> list[UnfinishedTask]:
            return [task for task in unfinished if task.id > after][:3]

        self.executor = Executor(policies=policies, end_writer=self.ends, unfinished_tasks=page)

    async def stop(self, task_id: int, **fields: Any) -> bool:
        return await self.executor.stop(a_task(task_id, **fields))

    async def ended(self, task_id: int) -> list[str]:
        async with asyncio.timeout(5):
            await self.executor.wait_ended(task_id)
        return self.log.events[task_id]


def goal(task_id: int, user_id: int = 1) -> Run:
    return Run(kind="goal", task_id=task_id, user_id=user_id, position=task_id)


def answer(task_id: int, user_id: int = 1) -> Run:
    message = MsgUserMessage(text="hello", attachments=[])
    return Run(kind="answer", task_id=task_id, user_id=user_id, message=message)


def a_task(task_id: int, chat: str | None = None) -> Task:
    return Task(id=task_id, user_id=1, chat=chat)


async def settle() -> None:
    """Let everything happen that waits for nothing but the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.log.writable.set()
    for policy in (bench.goals, bench.answers):
        policy.cleanup.set()
        policy.preparation.set()
    async with asyncio.timeout(5):
        await bench.executor.close()


async def test_users_take_turns_and_runs_of_one_user_keep_the_order_of_creation(
    bench: Bench,
) -> None:
    for task_id in (1, 2, 5, 4, 3):
        bench.executor.submit(goal(task_id))
    for task_id in (6, 7):
        bench.executor.submit(goal(task_id, user_id=2))
    await settle()
    assert bench.goals.started == [1, 2]
    for task_id in (1, 2, 6, 3, 7, 4, 5):
        bench.goals.finish(task_id)
        await settle()
    assert bench.goals.started == [1, 2, 6, 3, 7, 4, 5]
    assert bench.executor.idle


async def test_goals_and_answers_have_slots_of_their_own(bench: Bench) -> None:
    for task_id in (1, 2, 3):
        bench.executor.submit(goal(task_id))
    bench.executor.submit(answer(4))
    bench.executor.submit(answer(5, user_id=2))
    await settle()
    assert bench.goals.started == [1, 2]
    assert bench.answers.started == [4, 5]


async def test_an_answer_logs_its_message_and_then_waits_for_a_slot(bench: Bench) -> None:
    bench.executor.submit(answer(1))
    await settle()
    bench.executor.submit(answer(2))
    await settle()
    assert bench.answers.started == [1]
    assert bench.log.events == {1: ["hello"], 2: ["hello"]}
    with pytest.raises(QueueFull, match="1 of your messages"):
        bench.executor.submit(answer(3))
    bench.executor.submit(answer(3, user_id=2))
    bench.answers.finish(1, "INPUT_REQUIRED")
    await settle()
    assert bench.answers.started == [1, 3, 2]
    assert bench.log.events[1] == ["hello", "INPUT_REQUIRED None"]
    assert bench.answers.ended == [1]


async def test_many_submissions_at_once_do_not_pass_the_limit_of_waiting_runs(bench: Bench) -> None:
    bench.executor.submit(answer(1))
    with pytest.raises(QueueFull):
        bench.executor.submit(answer(2))


async def test_a_task_has_one_run_at_a_time(bench: Bench) -> None:
    bench.executor.submit(answer(1))
    with pytest.raises(RunActive):
        bench.executor.submit(answer(1))
    await settle()
    bench.answers.finish(1)
    await settle()
    assert not bench.executor.has_run(1)
    bench.executor.submit(answer(1))
    assert bench.executor.has_run(1)


async def test_a_stop_of_a_waiting_run_ends_it_at_once(bench: Bench) -> None:
    for task_id in (1, 2, 3, 4):
        bench.executor.submit(goal(task_id))
    assert await bench.stop(3)
    assert bench.log.events[3] == ["STOPPED user"]
    assert not bench.executor.has_run(3)
    await settle()
    bench.goals.finish(1)
    await settle()
    assert bench.goals.started == [1, 2, 4]


async def test_a_stop_of_a_running_run_does_not_wait_for_its_processes(bench: Bench) -> None:
    bench.executor.submit(goal(1))
    await settle()
    bench.goals.cleanup.clear()
    assert await bench.stop(1)
    assert await bench.stop(1)
    await settle()
    assert bench.executor.has_run(1) and bench.log.events == {}
    bench.goals.cleanup.set()
    assert await bench.ended(1) == ["STOPPED user"]


async def test_a_run_that_is_stopped_before_its_first_step_has_an_end(bench: Bench) -> None:
    bench.executor.submit(goal(1))
    bench.executor.submit(answer(2))
    assert await bench.stop(1)
    assert await bench.stop(2, chat="chat")
    assert await bench.ended(1) == ["STOPPED user"]
    assert await bench.ended(2) == ["hello", "STOPPED user"]
    assert bench.goals.started == bench.answers.started == []


@pytest.mark.parametrize("steps", range(12))
async def test_an_answer_that_is_stopped_at_any_step_has_its_message_and_one_end(
    bench: Bench, steps: int
) -> None:
    bench.executor.submit(answer(1))
    for _ in range(steps):
        await asyncio.sleep(0)
    assert await bench.stop(1, chat="chat")
    assert await bench.ended(1) == ["hello", "STOPPED user"]


async def test_a_stop_during_the_preparation_does_not_start_the_run(bench: Bench) -> None:
    bench.answers.preparation.clear()
    bench.executor.submit(answer(1))
    await settle()
    assert await bench.stop(1, chat="chat")
    assert await bench.ended(1) == ["hello", "STOPPED user"]
    assert bench.answers.started == []


async def test_a_stop_while_the_end_is_written_changes_nothing(bench: Bench) -> None:
    bench.executor.submit(goal(1))
    await settle()
    bench.log.writable.clear()
    bench.goals.finish(1)
    await settle()
    assert await bench.stop(1)
    waiting = asyncio.create_task(bench.executor.wait_ended(1, only_ending=True))
    await settle()
    assert not waiting.done()
    bench.log.writable.set()
    assert await bench.ended(1) == ["COMPLETED None"]
    await waiting


async def test_a_stop_of_a_task_without_a_run_is_the_decision_of_its_policy(bench: Bench) -> None:
    assert await bench.stop(1)
    bench.executor.submit(goal(1))
    await settle()
    bench.goals.finish(1)
    await bench.ended(1)
    assert not await bench.stop(1)


async def test_a_stop_that_takes_too_long_is_an_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "STOP_SECONDS", 0.01)
    bench.executor.submit(goal(1))
    await settle()
    bench.goals.cleanup.clear()
    with pytest.raises(ApiHTTPError, match="Run 1 is still being stopped") as error:
        await bench.executor.stop_and_wait(a_task(1))
    assert error.value.status == 503
    bench.goals.cleanup.set()
    monkeypatch.undo()
    await bench.executor.stop_and_wait(a_task(1))
    assert bench.log.events[1] == ["STOPPED user"]


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("thread"), KeyError("mistake")])
async def test_a_run_that_fails_has_an_end_and_its_slot_is_free(
    bench: Bench, error: Exception
) -> None:
    for task_id in (1, 2, 3):
        bench.executor.submit(goal(task_id))
    await settle()
    bench.goals.finish(1, error)
    assert await bench.ended(1) == ["ERROR", "FAILED error"]
    await settle()
    assert bench.goals.started == [1, 2, 3]


async def test_a_run_whose_task_was_deleted_logs_nothing(bench: Bench) -> None:
    bench.executor.submit(goal(1))
    await settle()
    bench.goals.finish(1, TaskClosed("deleted"))
    await bench.executor.wait_ended(1)
    assert bench.log.events == {} and bench.goals.ended == []
    assert bench.executor.idle


async def test_the_slot_of_a_run_is_free_after_its_end_is_written(bench: Bench) -> None:
    for task_id in (1, 2, 3):
        bench.executor.submit(goal(task_id))
    await settle()
    bench.log.writable.clear()
    bench.goals.finish(1)
    await settle()
    assert bench.goals.started == [1, 2]
    bench.log.writable.set()
    await settle()
    assert bench.goals.started == [1, 2, 3]


async def test_a_run_waits_until_earlier_events_of_its_task_are_written(bench: Bench) -> None:
    bench.log.writable.clear()
    writing = asyncio.create_task(bench.ends.write(1, [TaskStatusChanged(status="QUEUED")]))
    await settle()
    bench.executor.submit(goal(1))
    await settle()
    assert bench.goals.started == []
    bench.log.writable.set()
    await settle()
    assert bench.goals.started == [1]
    assert await writing


async def test_close_stops_runs_and_keeps_waiting_goals_for_the_next_server(bench: Bench) -> None:
    for task_id in (1, 2, 3):
        bench.executor.submit(goal(task_id))
    bench.executor.submit(answer(4))
    await settle()
    bench.executor.submit(answer(5))
    await settle()
    await bench.executor.close()
    stopped = ["STOPPED shutdown"]
    assert bench.log.events == {
        1: stopped, 2: stopped, 4: ["hello", *stopped], 5: ["hello", *stopped]
    }  # fmt: skip
    assert bench.goals.started == [1, 2] and bench.answers.started == [4]
    bench.executor.submit(goal(6))
    with pytest.raises(ExecutorClosed):
        bench.executor.submit(answer(7))
    await settle()
    assert bench.goals.started == [1, 2]
    await bench.executor.close()
    assert 3 not in bench.log.events and 6 not in bench.log.events


async def test_a_run_that_its_user_has_stopped_keeps_that_reason_at_the_close(bench: Bench) -> None:
    bench.executor.submit(goal(1))
    await settle()
    bench.goals.cleanup.clear()
    await bench.stop(1)
    closing = asyncio.create_task(bench.executor.close())
    await settle()
    assert not closing.done()
    bench.goals.cleanup.set()
    await closing
    assert bench.log.events[1] == ["STOPPED user"]


async def test_recovery_submits_all_tasks_before_the_first_one_starts() -> None:
    users = {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 1}
    unfinished = [
        UnfinishedTask(task, user, None, "QUEUED", task == 7, 1) for task, user in users.items()
    ]
    bench = Bench(unfinished)
    await bench.executor.recover()
    await settle()
    assert bench.goals.started == [1, 5]
    for task_id in (1, 5, 2, 6, 3, 4):
        bench.goals.finish(task_id)
        await settle()
    assert bench.goals.started == [1, 5, 2, 6, 3, 4]
    assert bench.executor.idle
