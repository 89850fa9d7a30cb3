"""Positions in the files of conversations, and the copies that new tasks get."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from beray.events import MsgEventCustomUpdate, MsgEventTextChunk
from beray.server.runners import keeps_conversation
from beray.server.runners.base import Usage
from beray.server.runners.chat_history import ChatHistory
from beray.server.runners.model.memory import MessageHistory
from beray.server.settings import Settings
from beray.server.storage.tasks import TaskSpec
from beray.server.tasks.conversations import Conversations
from beray.server.tasks.event_sink import TaskSink
from beray.server.tasks.redaction import StreamRedactor
from beray.server.tasks.usage_limits import Budget
from tests.repositories import opened
from tests.small_disk import fill, mounted

Record = dict[str, Any]

SOURCE, TARGET = 1, 2
GOAL: Record = {"kind": "user", "text": "goal"}


def answer(number: int) -> Record:
    part = {"part_kind": "text", "content": f"answer {number}"}
    return {"kind": "message", "message": {"kind": "response", "parts": [part]}}


def results(number: int, kind: str = "message") -> Record:
    part = {"part_kind": "tool-return", "tool_name": "t", "content": f"result {number}"}
    part["tool_call_id"] = f"call_{number}"
    return {"kind": kind, "message": {"kind": "request", "parts": [part]}}


def message(seq: int) -> Record:
    return {"kind": "user", "seq": seq, "text": f"message {seq}"}


@pytest.fixture
def conversations(tmp_path: Path) -> Conversations:
    return Conversations(tmp_path / "conversations")


@pytest.fixture
def history(conversations: Conversations) -> ChatHistory:
    return conversations.history(SOURCE)


def files(conversations: Conversations) -> list[str]:
    return sorted(path.name for path in conversations.path(SOURCE).parent.iterdir())


def test_records_of_a_task_end_at_its_last_complete_step(
    conversations: Conversations, history: ChatHistory
) -> None:
    history.append(GOAL)
    conversations.record_position(SOURCE, 2)
    history.append(answer(1))
    history.append(results(1, "result"))
    history.append(results(1))
    conversations.record_position(SOURCE, 9)
    history.append(answer(2))
    assert history.records(1) == []
    for seq in range(2, 9):
        assert history.records(seq) == [GOAL]
    step = [answer(1), results(1, "result"), results(1)]
    for seq in (9, 10, 1000):
        assert history.records(seq) == [GOAL, *step]
    assert history.records() == [GOAL, *step, answer(2)]


def test_records_of_a_chat_end_at_messages_as_well(history: ChatHistory) -> None:
    history.append(message(2))
    history.append(answer(1))
    history.append(message(8))  # as in a chat of an earlier version, without positions
    history.append_position(9)
    history.append(answer(2))
    history.append_position(12)
    history.append(message(15))
    assert history.records(1) == []
    assert history.records(6) == [message(2)]
    assert history.records(7) == [message(2), answer(1)]
    assert history.records(8) == history.records(11) == [message(2), answer(1), message(8)]
    for seq in (12, 13, 14):
        assert history.records(seq) == [message(2), answer(1), message(8), answer(2)]
    assert history.records(15) == history.records()
    assert history.last_seq(earlier=0) == 15


def test_the_text_of_an_interrupted_answer_precedes_the_position_after_it(
    history: ChatHistory,
) -> None:
    history.append(GOAL)
    history.append_position(2)
    history.begin_answer()
    history.add_text("half")
    half = {"kind": "text", "text": "half"}
    assert history.records(1000) == [GOAL]
    assert history.records() == [GOAL, half]
    history.append_position(7)
    assert history.records(7) == history.records() == [GOAL, half]


def test_a_position_is_recorded_once(conversations: Conversations, history: ChatHistory) -> None:
    conversations.record_position(SOURCE, 2)
    assert not conversations.path(SOURCE).exists()  # the run failed before it recorded its goal
    history.append(GOAL)
    history.append_position(2)
    size = conversations.path(SOURCE).stat().st_size
    history.append_position(2)
    history.append_position(3)
    assert conversations.path(SOURCE).stat().st_size == size
    assert history.records(2) == [GOAL]


def test_a_file_that_is_cut_off_anywhere_has_correct_records(
    conversations: Conversations, history: ChatHistory
) -> None:
    history.append(message(2))
    for step in range(3):
        history.append_position(10 * step + 3)
        history.append(answer(step))
        history.append(results(step, "result"), results(step))
    history.append_position(33)
    history.append(message(40))
    complete = {seq: history.records(seq) for seq in (1, 2, 3, 12, 13, 22, 23, 33, 39, 40)}
    path = conversations.path(SOURCE)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        for seq, expected in complete.items():
            found = history.records(seq)
            assert found == expected[: len(found)]
        # The next server adds records after the cut.
        history.append(message(50))
        history.append_position(60)
        for seq, expected in complete.items():
            found = history.records(seq)
            assert found == expected[: len(found)]
        assert history.records(60)[-1] == message(50)


def test_positions_do_not_rewrite_the_file(
    conversations: Conversations, history: ChatHistory
) -> None:
    history.append(GOAL)
    path, before = conversations.path(SOURCE), b""
    inode = path.stat().st_ino
    for step in range(200):
        history.append(answer(step))
        history.append_position(step)
        content = path.read_bytes()
        assert content.startswith(before)
        assert len(content) - len(before) < 300
        before = content
    assert path.stat().st_ino == inode
    assert files(conversations) == ["1.jsonl"]


def test_a_copy_has_the_records_up_to_a_seq_and_no_positions_of_the_source(
    conversations: Conversations, history: ChatHistory
) -> None:
    history.append(message(2), answer(1))
    history.append_position(5)
    history.append(message(8), answer(2))
    history.append_position(11)
    assert conversations.has_messages(SOURCE, 5)
    assert conversations.fork(SOURCE, 5, TARGET)
    first = {"kind": "user", "text": "message 2"}
    copy = conversations.history(TARGET)
    for seq in (None, 0, 1, 100):
        assert copy.records(seq) == [first, answer(1)]
    assert copy.last_seq(earlier=7) == 7  # as for messages without a known seq
    assert stat.S_IMODE(conversations.path(TARGET).stat().st_mode) == 0o600
    copy.append(GOAL)
    copy.append_position(2)
    copy.append(answer(3))
    assert copy.records(1) == [first, answer(1)]
    assert copy.records(2) == [first, answer(1), GOAL]
    assert history.records(5) == [message(2), answer(1)]


def test_a_repeated_copy_changes_nothing(
    conversations: Conversations, history: ChatHistory
) -> None:
    history.append(GOAL, answer(1))
    history.append_position(5)
    assert conversations.fork(SOURCE, 5, TARGET)
    content = conversations.path(TARGET).read_bytes()
    history.append(answer(2))
    history.append_position(9)
    assert conversations.fork(SOURCE, None, TARGET)
    assert conversations.path(TARGET).read_bytes() == content


def test_a_copy_without_records_is_not_created(
    conversations: Conversations, history: ChatHistory
) -> None:
    assert not conversations.has_messages(SOURCE, None)
    assert not conversations.fork(SOURCE, None, TARGET)
    history.append(GOAL)
    history.append_position(2)
    assert not conversations.has_messages(SOURCE, 1)
    assert not conversations.fork(SOURCE, 1, TARGET)
    assert files(conversations) == ["1.jsonl"]


def test_an_interrupted_copy_is_completed_or_deleted(
    conversations: Conversations, history: ChatHistory
) -> None:
    history.append(GOAL)
    incomplete = conversations.path(TARGET).with_suffix(".copy")
    incomplete.write_bytes(b'{"kind":"user","te')
    assert conversations.history(TARGET).records() == []
    assert conversations.fork(SOURCE, None, TARGET)
    assert conversations.history(TARGET).records() == [GOAL]
    assert files(conversations) == ["1.jsonl", "2.jsonl"]
    incomplete.write_bytes(b'{"kind":"user","te')
    conversations.delete(TARGET)
    assert files(conversations) == ["1.jsonl"]


def test_a_copy_that_fails_leaves_nothing(history: ChatHistory, tmp_path: Path) -> None:
    history.append(GOAL)
    with mounted(tmp_path / "disk") as disk:
        target = disk / "conversations" / "2.jsonl"
        target.parent.mkdir()
        filler = fill(disk)
        with pytest.raises(OSError, match="No space left"):
            ChatHistory(target).copy_from(history)
        assert list(target.parent.iterdir()) == []
        filler.unlink()
        assert ChatHistory(target).copy_from(history)


def test_a_copy_of_an_earlier_version_has_all_its_messages(
    conversations: Conversations, history: ChatHistory
) -> None:
    path = conversations.path(SOURCE).with_suffix(".json")
    path.parent.mkdir()
    path.write_text('[{"kind":"response","parts":[]}]')
    record = {"kind": "message", "message": {"kind": "response", "parts": []}}
    assert history.records(5) == []  # their seqs are unknown
    history.append_position(5)
    assert conversations.fork(SOURCE, None, TARGET)
    assert conversations.history(TARGET).records() == [record]
    history.append(message(7))
    assert history.records(6) == [record]


def test_a_run_does_not_repeat_a_prompt_at_the_end_of_its_history(
    conversations: Conversations, history: ChatHistory
) -> None:
    path = conversations.path(SOURCE)
    assert MessageHistory(path, "goal").messages == []
    history.append_position(2)
    assert MessageHistory(path, "goal").messages == []  # the run could not start before
    assert len(MessageHistory(path, "more").messages) == 1
    assert [record["text"] for record in history.records()] == ["goal", "more"]


async def test_a_sink_records_the_position_of_the_last_event_of_the_runner(tmp_path: Path) -> None:
    recorded: list[int] = []

    async def record(seq: int) -> None:
        recorded.append(seq)

    with opened(tmp_path / "db.sqlite3") as repositories:
        task = repositories.tasks.create(repositories.user_id(), TaskSpec("goal"), held=False)
        log = repositories.new_event_log()
        log.start()
        sink = TaskSink(
            event_log=log,
            task_id=task.id,
            output_bytes=100_000,
            secrets=StreamRedactor(["secret"]),
            budget=Budget(
                repository=repositories.usage, settings=Settings(data_dir=tmp_path), task=task
            ),
            last_seq=await log.append(task.id, MsgEventCustomUpdate(payload={})),
            record_position=record,
        )
        await sink.charge(Usage())
        await sink.emit(MsgEventTextChunk(text="se"))  # delayed until the charge
        await sink.charge(Usage())
        await sink.emit(MsgEventTextChunk(text="one\n"))
        await sink.emit_between_lines(MsgEventCustomUpdate(payload={}, source="files"))
        await sink.charge(Usage())
        await sink.emit(MsgEventTextChunk.model_validate({"text": "again", "retracts": 1}))
        await sink.record_position()
        await log.close()
    assert recorded == [1, 2, 3, 5]


def test_only_the_model_runner_keeps_conversations() -> None:
    kept = {runner: keeps_conversation(runner) for runner in ("model", "shell", "acp", None)}
    assert kept == {"model": True, "shell": False, "acp": False, None: False}
