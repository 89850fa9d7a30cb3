"""Tests of opening chats and sending messages, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.client import BeRayClient
from beray.exceptions import AuthenticationError, ConnectionFailed
from beray.schema import Task
from beray.testing import RunningServer
from tests.support import until
from tests.tui import dashboard_stub as stub
from tests.tui.controller_fakes import Surroundings
from tui import messages
from tui.composer.chat_messages import (
    ChatMessageFailed,
    ChatMessageSent,
    ChatOpened,
    ChatOpenFailed,
)
from tui.controllers.chat import ChatController
from tui.state.chat_names import chat_name_problem, unused_chat_name
from tui.state.task_draft import TaskDraft

GO_ON = "!echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over"


class FakeBox:
    """Message box that records what it shows."""

    def __init__(self) -> None:
        self.display = False
        self.state: tuple[int, bool, bool] | None = None
        self.problems: list[str] = []
        self.sent: list[tuple[int, TaskDraft]] = []
        self.discarded: list[int] = []
        self.focused = False

    def show(self, task: Task, *, answering: bool, sending: bool) -> None:
        self.state = (task["id"], answering, sending)

    def message_sent(self, task_id: int, draft: TaskDraft) -> None:
        self.sent.append((task_id, draft))

    def discard_draft(self, task_id: int) -> None:
        self.discarded.append(task_id)

    def show_problem(self, text: str) -> None:
        self.problems.append(text)

    def focus_text(self) -> None:
        self.focused = True


class Chats:
    """Controller of chats around a client."""

    def __init__(self, client: Any, folder: Path) -> None:
        self.around = around = Surroundings(client, folder)
        self.box = FakeBox()
        self.boxes = 0
        self.log_shown = True
        self.followed = 0
        self.controller = ChatController(
            tasks=around.tasks,
            server=around.server,
            target=around.target,
            dialogs=around.dialogs,
            notify=around.notify,
            failures=around.failures,
            add_box=self._add_box,
            is_log_shown=lambda: self.log_shown,
            show_log=self._show_log,
            follow_log=self._follow,
        )

    async def _add_box(self) -> FakeBox:
        self.boxes += 1
        return self.box

    def _show_log(self) -> None:
        self.log_shown = True

    def _follow(self) -> None:
        self.followed += 1

    async def select(self, task: Any) -> int:
        self.around.know(task)
        self.around.select(task["id"])
        await self.controller.add_box()
        self.controller.show_box()
        number: int = task["id"]
        return number

    def failure(self) -> Exception:
        """Process the failure of the message that is being sent."""
        failed = self.around.target.next(ChatMessageFailed)
        self.controller.message_failed(failed)
        return failed.error


@pytest.fixture
def chats(tmp_path: Path) -> Iterator[Chats]:
    made = Chats(stub.chat_client(), tmp_path)
    yield made
    made.around.user_state.close()


@pytest.fixture
def real_chats(beray_client: BeRayClient, tmp_path: Path) -> Iterator[Chats]:
    made = Chats(beray_client, tmp_path)
    yield made
    made.around.user_state.close()


# Names


@pytest.mark.parametrize("name", ["a/b", "..", ".", "", "x" * 101, "a\nb"])
def test_invalid_chat_names_are_rejected(name: str) -> None:
    assert chat_name_problem(name)


def test_a_new_chat_gets_a_name_that_is_not_in_use() -> None:
    assert chat_name_problem("ärger ☕") is None
    chats: list[Any] = [{**stub.CHAT, "chat": f"chat {number}"} for number in (1, 3)]
    assert unused_chat_name(chats) == "chat 2"


def test_a_chat_is_opened_under_the_given_name(real_chats: Chats) -> None:
    real_chats.around.dialogs.name = "ärger ☕"
    real_chats.controller.open()
    opened = real_chats.around.target.next(ChatOpened)
    assert opened.task.get("chat") == "ärger ☕"
    assert real_chats.around.dialogs.opened == [("name", "chat 1", "")]


def test_a_name_that_the_server_rejects_is_asked_for_again(real_chats: Chats) -> None:
    real_chats.around.dialogs.name = "a/b"  # as if the dialog had accepted it
    real_chats.controller.open()
    failed = real_chats.around.target.next(ChatOpenFailed)
    real_chats.controller.open_failed(failed.name, failed.error)
    _, name, problem = real_chats.around.dialogs.opened[1]
    assert name == "a/b" and problem
    real_chats.controller.open_failed("a", AuthenticationError("no", status_code=401))
    real_chats.around.target.next(messages.SessionEnded)
    assert len(real_chats.around.dialogs.opened) == 2


# The message box


async def test_the_box_belongs_to_the_selected_chat_and_its_log(chats: Chats) -> None:
    await chats.select(stub.TASKS[3])
    assert chats.boxes == 0 and not chats.controller.lacks_box
    await chats.select(stub.CHAT)
    await chats.controller.add_box()
    assert chats.boxes == 1 and chats.box.display and chats.box.state == (13, False, False)
    chats.log_shown = False
    chats.controller.show_box()
    assert not chats.box.display
    await chats.controller.write()
    assert chats.log_shown and chats.box.focused
    await chats.select(stub.TASKS[3])
    assert not chats.box.display
    chats.controller.deleted(13)
    assert chats.box.discarded == [13]


async def test_a_running_answer_is_shown(chats: Chats) -> None:
    await chats.select({**stub.CHAT, "status": "RUNNING"})
    assert chats.box.state == (13, True, False)


def test_earlier_messages_are_those_of_the_user(chats: Chats) -> None:
    assert chats.controller.earlier_messages() == []
    chats.around.know(stub.CHAT)
    chats.around.select(13)
    selected = chats.around.tasks.selected
    assert selected is not None
    selected.record.append(stub.SAID)  # type: ignore[arg-type]
    assert chats.controller.earlier_messages() == [
        event["text"] for event in stub.SAID if event["type"] == "USER_MESSAGE"
    ]


# Sending


async def test_an_answer_is_expected_until_its_events_arrive(real_chats: Chats) -> None:
    client = real_chats.around.server.client
    number = await real_chats.select(client.open_chat("chat 1"))
    draft = TaskDraft(" !echo one ")
    real_chats.controller.send(number, draft)
    assert real_chats.box.state == (number, False, True)
    sent = real_chats.around.target.next(ChatMessageSent)
    real_chats.controller.message_sent(sent)
    assert real_chats.box.sent == [(number, draft)] and real_chats.followed == 1
    # The list still has the chat as it was before the message.
    assert real_chats.box.state == (number, True, False)
    # The chat waits for its user before the message, too.
    before = sent.sent.task["last_seq"]
    until(
        lambda: any(
            event["seq"] > before and event.get("status") == "INPUT_REQUIRED"
            for event in client.get_task(number)["events"]
        )
    )
    await real_chats.select(client.get_chat("chat 1"))
    assert real_chats.box.state == (number, False, False)
    (said,) = [e for e in client.get_task(number)["events"] if e["type"] == "USER_MESSAGE"]
    assert said["text"] == "!echo one"


async def test_an_error_of_the_server_is_shown_and_the_text_kept(real_chats: Chats) -> None:
    client = real_chats.around.server.client
    number = await real_chats.select(client.open_chat("chat 1"))
    real_chats.controller.send(number, TaskDraft("   "))
    real_chats.failure()
    assert "The message is empty." in real_chats.box.problems[-1]
    real_chats.controller.send(number, TaskDraft(GO_ON))
    real_chats.around.target.next(ChatMessageSent)
    real_chats.controller.send(number, TaskDraft("!echo two"))
    real_chats.controller.show_box()
    assert real_chats.box.state == (number, False, True)  # the first one is not processed yet
    real_chats.controller.message_failed(ChatMessageFailed(number, ConnectionFailed("x")))
    real_chats.controller.send(number, TaskDraft("!echo two"))
    real_chats.failure()
    assert "An answer is still running; send the message" in real_chats.box.problems[-1]
    assert real_chats.box.sent == []
    client.upload_file(number, "go", b"")
    until(lambda: client.get_task(number)["status"] == "INPUT_REQUIRED")


async def test_a_message_is_sent_once(chats: Chats) -> None:
    await chats.select(stub.CHAT)
    texts: list[str] = []
    client: Any = chats.around.server.client
    client.send_chat_message = lambda name, text, *_: texts.append(text) or stub.CHAT
    chats.controller.send(13, TaskDraft("one"))
    chats.controller.send(13, TaskDraft("two"))
    chats.controller.message_sent(chats.around.target.next(ChatMessageSent))
    assert texts == ["one"]
    chats.controller.send(99, TaskDraft("to a chat that was deleted"))
    assert texts == ["one"]


async def test_the_text_is_kept_while_the_server_is_unreachable(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "server") as server, server.sign_up() as client:
        chats = Chats(client, tmp_path)
        number = await chats.select(client.open_chat("chat 1"))
        server.kill()
        chats.controller.send(number, TaskDraft("!echo later"))
        error = chats.failure()
        assert isinstance(error, ConnectionFailed) and len(chats.box.problems) == 1
        assert chats.box.sent == [] and chats.box.state == (number, False, False)
        server.restart()
        chats.controller.send(number, TaskDraft("!echo later"))
        chats.controller.message_sent(chats.around.target.next(ChatMessageSent))
        assert [draft.goal for _, draft in chats.box.sent] == ["!echo later"]
        chats.around.user_state.close()


async def test_a_failure_of_another_chat_is_a_notification(chats: Chats) -> None:
    await chats.select(stub.CHAT)
    chats.around.know(stub.CHAT, stub.TASKS[3])
    chats.around.select(9)
    chats.controller.message_failed(ChatMessageFailed(13, ConnectionFailed("it is dead")))
    assert chats.around.notices == [("Could not send the message to #13: it is dead", "error")]
    assert chats.box.problems == []


async def test_a_missing_attachment_is_rejected_before_sending(
    chats: Chats, tmp_path: Path
) -> None:
    await chats.select(stub.CHAT)
    chats.controller.send(13, TaskDraft("look at it", attachments=(tmp_path / "gone.md",)))
    chats.failure()
    assert "no such file or folder" in chats.box.problems[-1]
    assert chats.around.dialogs.opened == [("send", "look at it")]
