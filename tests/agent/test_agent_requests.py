"""Tests of requests, abandoned answers and callbacks."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from beray.agent import (
    AgentApi,
    AgentBusyException,
    AgentException,
    AnyServerMessage,
    MsgEventEnd,
    MsgEventTextChunk,
    MsgUnknown,
)
from beray.exceptions import InvalidArgument
from tests.agent.scripted_agent import Peer, ScriptedAgent, until
from tests.support import PROMPT_SECONDS, WAIT_SECONDS


def texts(events: Sequence[AnyServerMessage]) -> list[str]:
    return [event.text if isinstance(event, MsgEventTextChunk) else event.type for event in events]


class SlowScript:
    """Script that sends one, two, three, waits for ``go_on``, and sends four and the end.

    It answers later messages immediately.

    Attributes:
        go_on: Event that continues the first answer.
        heard: Texts of the received messages, in order.
    """

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.heard: list[str] = []

    async def __call__(self, peer: Peer) -> None:
        await peer.send_status()
        self.heard.append((await peer.receive())["text"])
        for word in ("one", "two", "three"):
            await peer.send_text(word)
        await self.go_on.wait()
        await peer.send_text("four")
        await peer.send_end()
        while True:
            self.heard.append((await peer.receive())["text"])
            await peer.send_text("next")
            await peer.send_end()


@pytest.fixture
def slow(agent: ScriptedAgent) -> SlowScript:
    slow = SlowScript()
    agent.scripts.append(slow)
    return slow


async def test_an_answer_ends_after_its_end_event(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url) as api:
        for _ in range(3):
            events = [event async for event in api.send_message("hello there")]
            assert texts(events) == ["hello", "there", "AGENT_EVENT_END"]
            assert events[-1] == MsgEventEnd(tokens_used=7)
            assert not api.busy


async def test_text_and_attachments_are_sent_as_documented(agent: ScriptedAgent) -> None:
    heard: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        await peer.send_status()
        heard.append(await peer.receive())
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    async with AgentApi("a", agent.url) as api:
        [event async for event in api.send_message("Grüße 世界", ["a.txt", "b/c.png"])]
    assert heard == [
        {"type": "USER_MESSAGE", "text": "Grüße 世界", "attachments": ["a.txt", "b/c.png"]}
    ]


async def test_messages_of_unknown_types_go_to_the_callback(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.send_text("la")
        await peer.send("AGENT_EVENT_HUM", tune="a", source=None)
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    others: list[AnyServerMessage] = []
    async with AgentApi("a", agent.url, others.append) as api:
        events = [event async for event in api.send_message("sing")]
        assert texts(events) == ["la", "AGENT_EVENT_END"]
    assert isinstance(others[0], MsgUnknown)
    assert others[0].model_dump() == {"type": "AGENT_EVENT_HUM", "tune": "a", "source": None}
    assert len(others) == 1


async def test_a_second_message_is_rejected_and_the_first_continues(
    agent: ScriptedAgent, slow: SlowScript
) -> None:
    async with AgentApi("a", agent.url) as api:
        answer = api.send_message("first")
        events = [await anext(answer)]
        for _ in range(2):
            with pytest.raises(AgentBusyException):
                await anext(api.send_message("second"))
        slow.go_on.set()
        events += [event async for event in answer]
        assert texts(events) == ["one", "two", "three", "four", "AGENT_EVENT_END"]
        assert slow.heard == ["first"]


async def test_one_of_many_concurrent_requests_succeeds(
    agent: ScriptedAgent, slow: SlowScript
) -> None:
    async def ask(api: AgentApi, number: int) -> list[str]:
        return texts([event async for event in api.send_message(str(number))])

    async with AgentApi("a", agent.url) as api:
        requests = [asyncio.create_task(ask(api, number)) for number in range(20)]
        await asyncio.wait(requests[1:])
        slow.go_on.set()
        done = await asyncio.gather(*requests, return_exceptions=True)
    assert done[0] == ["one", "two", "three", "four", "AGENT_EVENT_END"]
    assert all(isinstance(result, AgentBusyException) for result in done[1:])


async def by_break(api: AgentApi) -> None:
    async for _ in api.send_message("first"):
        break


async def by_exception(api: AgentApi) -> None:
    with pytest.raises(ZeroDivisionError):
        async for _ in api.send_message("first"):
            _ = 1 / 0


async def by_aclose(api: AgentApi) -> None:
    answer = api.send_message("first")
    await anext(answer)
    await answer.aclose()
    await answer.aclose()
    with pytest.raises(AgentException):
        await anext(answer)


async def by_async_with(api: AgentApi) -> None:
    async with api.send_message("first") as answer:
        await anext(answer)


async def by_forgetting(api: AgentApi) -> None:
    answer = api.send_message("first")
    await anext(answer)


def expire(limit: asyncio.Timeout) -> None:
    """Let a time limit end shortly."""
    limit.reschedule(asyncio.get_running_loop().time() + 0.1)


async def by_timeout(api: AgentApi) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            async for _ in api.send_message("first"):
                expire(limit)
                await asyncio.Event().wait()


async def by_cancellation(api: AgentApi) -> None:
    received = asyncio.Event()

    async def patient() -> None:
        async for _ in api.send_message("first"):
            received.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(patient())
    await received.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task


@pytest.mark.parametrize(
    "leave",
    [by_break, by_exception, by_aclose, by_async_with, by_forgetting, by_timeout, by_cancellation],
)
async def test_leaving_releases_the_answer_and_the_rest_goes_to_the_callback(
    agent: ScriptedAgent, slow: SlowScript, leave: Callable[[AgentApi], Awaitable[None]]
) -> None:
    called: list[AnyServerMessage] = []
    gc.disable()
    try:
        async with AgentApi("a", agent.url, callback=called.append) as api:
            await leave(api)
            following = asyncio.create_task(_all(api, "second"))
            await until(lambda: len(called) == 2)
            assert slow.heard == ["first"], "the next message waits for the end of the answer"
            slow.go_on.set()
            assert texts(await following) == ["next", "AGENT_EVENT_END"]
            assert not api.busy
    finally:
        gc.enable()
    assert texts(called) == ["two", "three", "four", "AGENT_EVENT_END"]
    assert slow.heard == ["first", "second"]


async def _all(api: AgentApi, text: str) -> list[AnyServerMessage]:
    return [event async for event in api.send_message(text)]


async def test_cancelling_a_wait_for_the_next_message(
    agent: ScriptedAgent, slow: SlowScript
) -> None:
    called: list[AnyServerMessage] = []
    async with AgentApi("a", agent.url, callback=called.append) as api:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                async for event in api.send_message("first"):
                    if texts([event]) == ["three"]:  # the last before a pause
                        expire(limit)
        slow.go_on.set()
        assert texts(await _all(api, "second")) == ["next", "AGENT_EVENT_END"]
    assert texts(called) == ["four", "AGENT_EVENT_END"]


async def test_a_message_that_waits_for_an_abandoned_answer_can_be_cancelled(
    agent: ScriptedAgent, slow: SlowScript
) -> None:
    async with AgentApi("a", agent.url, callback=lambda _: None) as api:
        await by_break(api)
        waiting = asyncio.create_task(_all(api, "second"))
        await asyncio.sleep(0.05)
        with pytest.raises(AgentBusyException):
            await _all(api, "third")
        waiting.cancel()
        await asyncio.wait([waiting])
        slow.go_on.set()
        assert texts(await _all(api, "fourth")) == ["next", "AGENT_EVENT_END"]
        assert slow.heard == ["first", "fourth"]


async def test_a_message_that_waits_for_an_abandoned_answer_fails_with_the_connection(
    agent: ScriptedAgent, slow: SlowScript
) -> None:
    api = AgentApi("a", agent.url, callback=lambda _: None)
    await api.connect()
    await by_break(api)
    waiting = asyncio.create_task(_all(api, "second"))
    await asyncio.sleep(0.05)
    for peer in agent.peers:
        peer.reset()
    with pytest.raises(AgentException) as caught:
        async with asyncio.timeout(PROMPT_SECONDS):
            await waiting
    assert caught.value.code == "NOT_CONNECTED"
    await api.close()


async def test_messages_without_a_request_go_to_the_callback(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.send_text("by the way")
        await peer.send("ERROR", code="ODD", details="no request")
        await peer.send("AGENT_EVENT_CUSTOM_UPDATE", payload={"n": 1})
        await peer.send("HUM")
        await peer.wait_closed()

    agent.scripts.append(script)
    called: list[AnyServerMessage] = []

    async def callback(message: AnyServerMessage) -> None:
        await asyncio.sleep(0)
        called.append(message)

    async with AgentApi("a", agent.url, callback=callback):
        await until(lambda: len(called) == 4)
    assert texts(called) == ["by the way", "ERROR", "AGENT_EVENT_CUSTOM_UPDATE", "HUM"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_raising_callback_is_logged_and_ends_nothing(
    agent: ScriptedAgent, slow: SlowScript, caplog: pytest.LogCaptureFixture, asynchronous: bool
) -> None:
    def callback(message: AnyServerMessage) -> None:
        raise ValueError("callback failed")

    async def coroutine_function(message: AnyServerMessage) -> None:
        raise (
            asyncio.CancelledError if texts([message]) == ["two"] else ValueError("callback failed")
        )

    function = coroutine_function if asynchronous else callback
    slow.go_on.set()
    async with AgentApi("a", agent.url, callback=function, on_disconnect=_failing) as api:
        await by_break(api)
        assert texts(await _all(api, "second")) == ["next", "AGENT_EVENT_END"]
    failures = [record for record in caplog.records if record.name == "beray.agent"]
    assert len(failures) == 5


def _failing() -> None:
    raise ValueError("callback failed, too")


async def test_without_a_callback_messages_are_logged(
    agent: ScriptedAgent, slow: SlowScript, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "beray.agent")
    slow.go_on.set()
    async with AgentApi("a", agent.url) as api:
        await by_break(api)
        await _all(api, "second")
    levels = [record.levelname for record in caplog.records if "no callback" in record.getMessage()]
    assert levels == ["WARNING", "INFO", "INFO", "INFO"]


async def test_a_callback_may_send_a_message(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.send("AGENT_EVENT_CUSTOM_UPDATE", payload={})
        await peer.receive()
        await peer.send_text("yes")
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    answers: list[str] = []

    async def callback(message: AnyServerMessage) -> None:
        answers.extend(texts(await _all(api, "are you there?")))

    api = AgentApi("a", agent.url, callback=callback)
    async with api:
        await until(lambda: len(answers) == 2)
    assert answers == ["yes", "AGENT_EVENT_END"]


async def test_a_slow_callback_does_not_delay_answers(
    agent: ScriptedAgent, slow: SlowScript
) -> None:
    done = asyncio.Event()

    async def callback(message: AnyServerMessage) -> None:
        await done.wait()

    slow.go_on.set()
    async with AgentApi("a", agent.url, callback=callback, heartbeat_seconds=1.0) as api:
        await by_break(api)
        async with asyncio.timeout(WAIT_SECONDS):
            assert texts(await _all(api, "second")) == ["next", "AGENT_EVENT_END"]
        done.set()


async def test_invalid_messages(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url) as api:
        with pytest.raises(InvalidArgument):
            api.send_message("\ud800")
        with pytest.raises(InvalidArgument):
            api.send_message("look", "a.txt")
        with pytest.raises(InvalidArgument):
            api.send_message(5)  # type: ignore[arg-type]
        assert texts(await _all(api, "fine")) == ["fine", "AGENT_EVENT_END"]


async def test_a_message_that_is_never_iterated_is_never_sent(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url) as api:
        unused = api.send_message("unused")
        assert not api.busy
        await unused.aclose()
        assert texts(await _all(api, "used")) == ["used", "AGENT_EVENT_END"]
