"""Chats: the agent's WebSocket, and the tasks that chats are."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from beray import BeRayClient
from beray.exceptions import ConflictError, NotFoundError, UnprocessableEntityError
from beray.testing import RunningServer, authorization, raw_request
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer
from tests.support import WAIT_SECONDS, sleepers, text, until


@pytest.fixture
def client(beray_server: RunningServer) -> Iterator[BeRayClient]:
    with beray_server.sign_up() as client:
        yield client


@asynccontextmanager
async def chat(client: BeRayClient, name: str = "0") -> AsyncIterator[ClientConnection]:
    """Open a connection and read its STATUS."""
    url = client.base_url.replace("http", "ws", 1) + f"/v1/agent_ws/{quote(name)}/"
    headers = {} if client.access_token is None else authorization(client)
    async with connect(
        url, additional_headers=headers, proxy=None, open_timeout=WAIT_SECONDS
    ) as connection:
        assert await hear(connection) == {"type": "STATUS"}
        yield connection


async def hear(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_SECONDS):
        message: dict[str, Any] = json.loads(await connection.recv())
    return message


async def say(connection: ClientConnection, words: str, *attachments: str) -> None:
    message = {"type": "USER_MESSAGE", "text": words, "attachments": list(attachments)}
    await connection.send(json.dumps(message))


async def answer(connection: ClientConnection) -> list[dict[str, Any]]:
    """Return the messages up to the end of the answer, or an error."""
    come = [await hear(connection)]
    while come[-1]["type"] not in ("AGENT_EVENT_END", "ERROR"):
        come.append(await hear(connection))
    return come


def opened(client: BeRayClient, name: str = "0") -> dict[str, Any]:
    """The task that a chat is."""
    response = raw_request(client, "GET", f"/api/v1/chats/{name}")
    response.raise_for_status()
    task: dict[str, Any] = response.json()
    return task


async def test_a_conversation_is_remembered(models: ModelServer) -> None:
    client = models.server.sign_up()
    models.script(
        "my name is Ada",
        Reply(text=["Hello ", "Ada."]),
        Reply(text=["I look."], calls=[Call("read_file", {"path": "notes.txt"})]),
        Reply(text=["You are Ada."]),
        Reply(text=["Still Ada."]),
    )
    async with chat(client, "one") as connection:
        await say(connection, "my name is Ada")
        come = await answer(connection)
        assert text(come) == "Hello Ada."
        assert come[-1] == {"type": "AGENT_EVENT_END", "tokens_used": 120}
        assert not any({"seq", "task_id", "created_at"} & set(event) for event in come)
        client.upload_file(opened(client, "one")["id"], "notes.txt", b"it is Ada")
        await say(connection, "who am I?", "/workspace/notes.txt")
        come = await answer(connection)
        assert text(come) == "I look.You are Ada."
        asked = models.provider.requests[-1]["messages"]
        roles = [message["role"] for message in asked if message["role"] != "system"]
        assert roles == ["user", "assistant", "user", "assistant", "tool"]
        assert "notes.txt" in str(asked[-3]["content"]) and "it is Ada" in str(asked[-1])
    models.server.restart()
    async with chat(client, "one") as connection:
        await say(connection, "and now?")
        assert text(await answer(connection)) == "Still Ada."
    task = client.get_task(opened(client, "one")["id"])
    said = [event for event in task["events"] if event["type"] == "USER_MESSAGE"]
    assert [event["text"] for event in said] == ["my name is Ada", "who am I?", "and now?"]
    assert task["status"] == "INPUT_REQUIRED" and task["chat"] == "one"
    assert task["usage"] is not None and task["usage"]["requests"] == 4


async def test_chats_are_apart(client: BeRayClient, beray_server: RunningServer) -> None:
    async with chat(client, "a") as one, chat(client, "b c") as two:
        await say(one, "!echo of a > file; ls")
        await say(two, "!ls; pwd")
        assert text(await answer(one)) == "file\n"
        assert "file" not in text(await answer(two))
    with beray_server.sign_up() as other:
        with pytest.raises(NotFoundError):
            other.get_task(opened(client, "a")["id"])
        async with chat(other, "a") as connection:
            await say(connection, "!ls")
            assert "file" not in text(await answer(connection))
    assert {task["chat"] for task in client.list_tasks()} == {"a", "b c"}


async def test_a_chat_has_one_client(client: BeRayClient) -> None:
    async with chat(client) as connection:
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                async with chat(client):
                    pass
            assert refused.value.response.status_code == 403
        await say(connection, "!echo untouched")
        assert text(await answer(connection)) == "untouched\n"
    async with chat(client) as connection:
        await say(connection, "!echo free again")
        assert text(await answer(connection)) == "free again\n"


async def test_of_two_clients_that_come_at_once_one_gets_in(client: BeRayClient) -> None:
    async def come(number: int, leave: asyncio.Event) -> bool:
        try:
            async with chat(client, f"race {number}"):
                await leave.wait()
                return True
        except InvalidStatus as error:
            assert error.response.status_code == 403
            leave.set()
            return False

    for number in range(100):
        leave = asyncio.Event()
        assert sorted(await asyncio.gather(come(number, leave), come(number, leave))) == [
            False, True,
        ]  # fmt: skip


async def test_unauthenticated_clients_get_an_error(beray_server: RunningServer) -> None:
    for token in (None, "wrong"):
        with pytest.raises(InvalidStatus) as refused:
            async with chat(beray_server.client(token)):
                pass
        assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"bytes", "UNEXPECTED_MSG_TYPE"),
        ("no json", "INVALID_MESSAGE"),
        ("[]", "INVALID_MESSAGE"),
        ('{"type": "OTHER", "text": "x"}', "INVALID_MESSAGE"),
        ('{"type": "USER_MESSAGE"}', "INVALID_MESSAGE"),
        ('{"type": "USER_MESSAGE", "text": "  "}', "INVALID_MESSAGE"),
        ('{"type": "USER_MESSAGE", "text": "\\ud800"}', "INVALID_MESSAGE"),
        ('{"type": "USER_MESSAGE", "text": "a\\u0000b"}', "INVALID_MESSAGE"),
        ('{"type": "USER_MESSAGE", "text": "x", "attachments": ["gone"]}', "ATTACHMENT"),
        ('{"type": "USER_MESSAGE", "text": "x", "attachments": ["../../x"]}', "ATTACHMENT"),
        ('{"type": "USER_MESSAGE", "text": "x", "attachments": ["/etc/passwd"]}', "ATTACHMENT"),
    ],
)
async def test_invalid_messages_are_errors_and_the_connection_stays_open(
    client: BeRayClient, frame: str | bytes, code: str
) -> None:
    async with chat(client) as connection:
        await connection.send(frame)
        error = await hear(connection)
        assert (error["type"], error["code"]) == ("ERROR", code)
        assert error["details"]
        await say(connection, "!echo fine")
        assert text(await answer(connection)) == "fine\n"


async def test_a_second_request_is_rejected_and_the_first_continues(client: BeRayClient) -> None:
    async with chat(client) as connection:
        await say(connection, "!echo one; while [ ! -e go ]; do sleep 0.02; done; echo two")
        assert (await hear(connection))["text"] == "one\n"
        await say(connection, "!echo no")
        assert (await hear(connection))["code"] == "BUSY"
        client.upload_file(opened(client)["id"], "go", b"")
        assert text(await answer(connection)) == "two\n"


async def test_a_stop_ends_the_answer_and_not_the_chat(client: BeRayClient) -> None:
    mark = f"67{os.getpid()}"
    async with chat(client) as connection:
        await say(connection, f"!sleep {mark}")
        await asyncio.to_thread(until, lambda: sleepers(mark))
        task_id = opened(client)["id"]
        assert "is being stopped" in client.stop_task(task_id)["message"]
        assert (await answer(connection))[-1]["code"] == "STOPPED"
        assert sleepers(mark) == []
        assert "is not writing an answer" in client.stop_task(task_id)["message"]
        await say(connection, "!echo next")
        assert text(await answer(connection)) == "next\n"


@pytest.mark.parametrize("stops", [1, 3])
def test_an_answer_that_is_stopped_at_once_has_its_message_and_its_end_in_the_log(
    stops: int, client: BeRayClient
) -> None:
    for number in range(10):
        task_id = client.send_chat_message(f"quick-{number}", "!sleep 30")["id"]
        stopping = [Thread(target=client.stop_task, args=(task_id,)) for _ in range(stops)]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(30)
        kinds: list[str] = []
        for event in client.stream_task_updates(task_id):
            kinds.append(event["type"])
            if event["type"] == "TASK_STATUS" and event.get("reason") == "user":
                break
        assert kinds[:2] == ["TASK_STATUS", "USER_MESSAGE"]
        assert kinds[-2:] == ["ERROR", "TASK_STATUS"] and kinds.count("ERROR") == 1


async def test_an_answer_goes_on_without_its_client(client: BeRayClient) -> None:
    async with chat(client) as connection:
        await say(connection, "!while [ ! -e go ]; do sleep 0.02; done; echo said to nobody")
        task_id = opened(client)["id"]
    client.upload_file(task_id, "go", b"")
    async with chat(client) as connection:
        # Clients that connect or send the next message meanwhile do not wait for long.
        await asyncio.to_thread(
            until, lambda: client.get_task(task_id)["status"] == "INPUT_REQUIRED"
        )
        await say(connection, "!echo next")
        while (come := await answer(connection)) and "next" not in text(come):
            continue
    events: list[Any] = list(client.get_task(task_id)["events"])
    said = [event for event in events if event["type"] == "AGENT_EVENT_TEXT_CHUNK"]
    assert text(said) == "said to nobody\nnext\n"


async def test_an_agent_that_is_not_there_is_an_error(client: BeRayClient) -> None:
    async with chat(client) as connection:
        await say(connection, "plain words")
        come = await answer(connection)
        assert come[-1]["code"] == "NO_MODEL"
        await say(connection, "!exit 3")
        assert (await answer(connection))[-1]["type"] == "AGENT_EVENT_END"


async def test_an_agent_without_memory_gets_the_transcript(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_COMMAND="tail -c 200") as server:
        client = server.sign_up()
        async with chat(client) as connection:
            await say(connection, "first")
            assert text(await answer(connection)) == "first"
            await say(connection, "second")
            assert text(await answer(connection)) == (
                "The conversation so far:\n\nUser: first\n\nYou: first\n\n"
                "The user says now:\n\nsecond"
            )


async def test_the_name_of_a_deleted_chat_can_be_reused(client: BeRayClient) -> None:
    async with chat(client, "gone") as connection:
        await say(connection, "!echo here > file")
        await answer(connection)
        client.delete_task(opened(client, "gone")["id"])
        with pytest.raises(ConnectionClosed):
            await hear(connection)
    async with chat(client, "gone") as connection:
        await say(connection, "!ls")
        assert text(await answer(connection)) == ""


async def test_the_end_of_the_server_is_reported(tmp_path: Path) -> None:
    mark = f"66{os.getpid()}"
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        async with chat(client) as connection, chat(client, "idle") as idle:
            await say(connection, f"!sleep {mark}")
            await asyncio.to_thread(until, lambda: sleepers(mark))
            os.kill(server.pid, signal.SIGTERM)
            assert (await hear(idle))["type"] == "GRACEFUL_DISCONNECT"
            assert (await hear(connection))["type"] == "GRACEFUL_DISCONNECT"
            assert (await answer(connection))[-1]["code"] == "STOPPED"
            for one in (connection, idle):
                with pytest.raises(ConnectionClosed) as ended:
                    await hear(one)
                assert ended.value.rcvd is not None and ended.value.rcvd.code in (1001, 1012)
        await asyncio.to_thread(server.stop)
        assert sleepers(mark) == []


def test_a_message_that_waited_for_a_slot_has_an_end_after_a_crash(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_CHAT_SLOTS="1") as server:
        client = server.sign_up()
        client.send_chat_message("first", f"!sleep 68{os.getpid()}")
        until(lambda: sleepers(f"68{os.getpid()}"))
        task_id = client.send_chat_message("second", "!echo never")["id"]
        client.open_chat("idle")
        until(lambda: client.get_task(task_id)["last_seq"] == 2)
        server.kill()
        server.restart()
        kinds = [event["type"] for event in client.get_task(task_id)["events"]]
        assert kinds == ["TASK_STATUS", "USER_MESSAGE", "ERROR", "TASK_STATUS"]
        assert client.get_task(task_id)["reason"] == "lost_worker"
        assert client.open_chat("idle")["last_seq"] == 1


async def test_in_maintenance_answers_end_and_nothing_begins(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        async with chat(client) as connection, chat(client, "idle") as idle:
            await say(connection, "!echo begun; while [ ! -e go ]; do sleep 0.02; done; echo end")
            assert (await hear(connection))["text"] == "begun\n"
            os.kill(server.pid, signal.SIGUSR1)
            for one in (idle, connection):
                assert (await hear(one))["type"] == "GRACEFUL_DISCONNECT"
            with pytest.raises(ConnectionClosed):
                await hear(idle)
            client.upload_file(opened(client)["id"], "go", b"")
            assert text(await answer(connection)) == "end\n"
            with pytest.raises(ConnectionClosed) as ended:
                await hear(connection)
            assert ended.value.rcvd is not None and ended.value.rcvd.code == 1001
        with pytest.raises(InvalidStatus) as refused:
            async with chat(client):
                pass
        assert refused.value.response.status_code == 503
        response = raw_request(client, "POST", "/api/v1/tasks/", json={"goal": "!true"})
        assert (response.status_code, response.headers["Retry-After"]) == (503, "30")
        assert client.list_tasks()
        os.kill(server.pid, signal.SIGUSR1)
        assert client.create_task("!true")["status"]  # asked again, as the server has said


async def test_an_answer_of_a_killed_server_is_reported_as_lost(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        client = server.sign_up()
        async with chat(client) as connection:
            await say(connection, "!echo begun; sleep 60")
            assert (await hear(connection))["text"] == "begun\n"
            await asyncio.to_thread(server.kill)
            with pytest.raises(ConnectionClosed):
                await hear(connection)
        await asyncio.to_thread(server.restart)
        task = client.get_task(opened(client)["id"])
        assert (task["status"], task["reason"]) == ("INPUT_REQUIRED", "lost_worker")
        assert task["events"][-2]["code"] == "LOST_WORKER"
        async with chat(client) as connection:
            await say(connection, "!echo again")
            assert text(await answer(connection)) == "again\n"


def test_a_script_talks_without_a_websocket(client: BeRayClient) -> None:
    def said(words: str, attachments: list[str] | None = None) -> str:
        task = client.send_chat_message("script", words, attachments)
        come: list[Any] = []
        for event in client.stream_task_updates(task["id"], last_event_id=str(task["last_seq"])):
            come.append(event)
            if event.get("status") == "INPUT_REQUIRED":
                break
        return text([one for one in come if one["type"] == "AGENT_EVENT_TEXT_CHUNK"])

    chat_task = client.open_chat("script")
    assert (chat_task["chat"], chat_task["status"]) == ("script", "INPUT_REQUIRED")
    client.upload_file(chat_task["id"], "given.txt", b"given")
    assert said("!cat given.txt", ["given.txt"]) == "given"
    assert said("!echo next") == "next\n"
    assert client.open_chat("script")["id"] == chat_task["id"]
    with pytest.raises(UnprocessableEntityError, match="does not exist"):
        client.send_chat_message("script", "look", ["gone.txt"])
    with pytest.raises(UnprocessableEntityError, match="empty"):
        client.send_chat_message("script", " ")
    client.send_chat_message("script", "!sleep 60")
    with pytest.raises(ConflictError, match="still running"):
        client.send_chat_message("script", "!echo no")
    client.stop_task(chat_task["id"])


async def test_a_busy_chat_rejects_other_messages(client: BeRayClient) -> None:
    async with chat(client, "held"):
        with pytest.raises(ConflictError, match="Another client"):
            await asyncio.to_thread(client.send_chat_message, "held", "!echo no")
