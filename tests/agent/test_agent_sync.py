"""Tests of ``SyncAgentApi`` in scripts and threads."""

from __future__ import annotations

import _thread
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from beray.agent import AgentBusyException, AgentException, AnyServerMessage, SyncAgentApi
from beray.exceptions import ConfigurationError
from tests.agent.scripted_agent import Peer, ScriptedAgent
from tests.agent.threaded_agent import threaded_agent
from tests.support import PROMPT_SECONDS, until


async def script(peer: Peer) -> None:
    """Answer like ``echo_words``, with special behaviour for some messages.

    "wait" gets two words without an end, "close" closes the connection, and "malformed" gets the
    frame "{".
    """
    await peer.send_status()
    while True:
        text = (await peer.receive())["text"]
        if text == "malformed":
            await peer.socket.send("{")
        if text == "close":
            await peer.socket.close(1011)
            return
        for word in text.split():
            await peer.send_text(word)
        if text.startswith("wait"):
            await peer.send_text("more")
            await peer.wait_closed()
        await peer.send_end()


@pytest.fixture
def agent() -> Iterator[ScriptedAgent]:
    """Run an agent; afterwards, check that no thread of the client is left."""

    def prepare(agent: ScriptedAgent) -> None:
        agent.default_script = script

    before = threading.active_count()
    with threaded_agent(prepare) as agent:
        yield agent
        until(lambda: not agent.peers)
    until(lambda: threading.active_count() == before)


def texts(events: list[AnyServerMessage]) -> list[str]:
    return [getattr(event, "text", event.type) for event in events]


def test_a_conversation(agent: ScriptedAgent) -> None:
    with SyncAgentApi("a", agent.url, chat_id="c") as api:
        assert api.connected
        for _ in range(2):
            assert texts(list(api.send_message("hello there"))) == [
                "hello",
                "there",
                "AGENT_EVENT_END",
            ]
    assert not api.connected
    assert agent.requests[0].path == "/v1/agent_ws/c/"


def test_leaving_an_answer_by_break_and_by_close(agent: ScriptedAgent) -> None:
    called: list[AnyServerMessage] = []
    with SyncAgentApi("a", agent.url, callback=called.append) as api:
        for event in api.send_message("one two three"):
            assert texts([event]) == ["one"]
            break
        assert texts(list(api.send_message("second"))) == ["second", "AGENT_EVENT_END"]
        assert texts(called) == ["two", "three", "AGENT_EVENT_END"]
        answer = api.send_message("one two")
        next(answer)
        answer.close()
        answer.close()
        assert texts(list(api.send_message("second"))) == ["second", "AGENT_EVENT_END"]
        assert texts(called)[3:] == ["two", "AGENT_EVENT_END"]


def test_one_request_at_a_time(agent: ScriptedAgent) -> None:
    with SyncAgentApi("a", agent.url) as api:
        answer = api.send_message("one two")
        next(answer)
        with pytest.raises(AgentBusyException):
            next(api.send_message("second"))
        assert texts(list(answer)) == ["two", "AGENT_EVENT_END"]


def test_errors_are_those_of_the_asynchronous_client(agent: ScriptedAgent) -> None:
    ended: list[int] = []
    api = SyncAgentApi("a", agent.url, None, lambda: ended.append(1))
    with pytest.raises(AgentException) as caught:
        list(api.send_message("hello"))
    assert caught.value.code == "NOT_CONNECTED"
    with api:
        with pytest.raises(AgentException) as caught:
            list(api.send_message("close"))
        assert caught.value.code == "CONNECTION_ERROR"
    assert ended == [1]
    with pytest.raises(ConfigurationError):
        SyncAgentApi("a", "no URL")


def test_a_rejected_connect_leaks_no_thread(agent: ScriptedAgent) -> None:
    agent.add_handshake_response(403)
    api = SyncAgentApi("a", agent.url)
    before = threading.active_count()
    with pytest.raises(AgentBusyException):
        api.connect()
    assert threading.active_count() == before
    api.connect()
    api.close()


def test_close_from_another_thread_ends_a_wait(agent: ScriptedAgent) -> None:
    api = SyncAgentApi("a", agent.url)
    api.connect()
    answer = api.send_message("wait")
    assert texts([next(answer), next(answer)]) == ["wait", "more"]
    closing = threading.Timer(0.1, api.close)
    closing.start()
    began_at = time.monotonic()
    with pytest.raises(AgentException) as caught:
        next(answer)
    assert caught.value.code == "NOT_CONNECTED" and texts(caught.value.events) == ["wait", "more"]
    assert time.monotonic() - began_at < PROMPT_SECONDS
    closing.join()
    api.close()


def test_connects_and_closes_from_many_threads(agent: ScriptedAgent) -> None:
    api = SyncAgentApi("a", agent.url)

    def use() -> None:
        for _ in range(5):
            try:
                api.connect()
                list(api.send_message("hello"))
            except AgentException:
                pass  # another thread has closed it, or is reading an answer
            api.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    api.close()


def test_close_from_a_callback_ends_the_thread(agent: ScriptedAgent) -> None:
    ended = threading.Event()

    def callback(message: AnyServerMessage) -> None:
        api.close()

    api = SyncAgentApi("a", agent.url, callback, ended.set)
    api.connect()
    for _ in api.send_message("one two"):
        break
    assert ended.wait(5)
    until(lambda: not api.connected)


def test_a_callback_that_would_wait_for_itself_raises(agent: ScriptedAgent) -> None:
    problems: list[Exception] = []

    def callback(message: AnyServerMessage) -> None:
        try:
            next(api.send_message("hello"))
        except RuntimeError as error:
            problems.append(error)

    with SyncAgentApi("a", agent.url, callback) as api:
        for _ in api.send_message("one"):
            break
        until(lambda: problems)


def test_an_interrupt_ends_the_wait_and_releases_the_answer(agent: ScriptedAgent) -> None:
    with SyncAgentApi("a", agent.url, lambda _: None) as api:
        interrupt = threading.Timer(0.3, _thread.interrupt_main)
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            list(api.send_message("wait"))
        interrupt.join()
        assert api.connected


SCRIPT = """
import sys, threading
from beray.agent import SyncAgentApi
api = SyncAgentApi("a", sys.argv[1])
api.connect()
answer = api.send_message("wait")
print(next(answer).text, flush=True)
if sys.argv[2] == "wait":
    list(answer)
"""


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_a_script_without_close_exits(agent: ScriptedAgent, waits: bool) -> None:
    arguments = [sys.executable, "-c", SCRIPT, agent.url, "wait" if waits else "go"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == "wait\n"
        if waits:
            time.sleep(0.3)
            script.send_signal(signal.SIGINT)
        _, errors = script.communicate(timeout=10)
    assert ("KeyboardInterrupt" in errors) is waits
    assert waits or errors == ""


def test_on_disconnect_receives_the_object(agent: ScriptedAgent) -> None:
    ended: list[object] = []
    with SyncAgentApi("one", agent.url, on_disconnect=lambda api: ended.append(api)) as api:
        list(api.send_message("hello"))
    with SyncAgentApi("two", agent.url, on_disconnect=lambda: ended.append(2)):
        pass
    assert ended == [api, 2]
    assert api.id == "one" and api.url.endswith("/v1/agent_ws/0/")


def test_a_malformed_frame_leaves_the_connection_open(agent: ScriptedAgent) -> None:
    with SyncAgentApi("a", agent.url) as api:
        with pytest.raises(AgentException, match="PARSE_ERROR"):
            list(api.send_message("malformed"))
        assert [event.type for event in api.send_message("a")] == [
            "AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_END"
        ]  # fmt: skip
    assert len(agent.requests) == 1
