"""``wait`` and ``run``, with a real server and with scripted ones."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from beray import (
    BeRayClient,
    BeRayException,
    InvalidArgument,
    NotFoundError,
    StreamInterrupted,
    TaskFailed,
    WaitTimeout,
)
from beray.testing import FaultServer, RunningServer, ScriptedResponse
from tests.support import until

SSE = {"Content-Type": "text/event-stream"}
WAITING = "!while ! [ -e go ]; do sleep 0.05; done"


def task(status: str, **more: Any) -> ScriptedResponse:
    return ScriptedResponse(json.dumps({"id": 1, "goal": "g", "status": status} | more).encode())


def stream(*events: dict[str, Any], ids: bool = True, **options: Any) -> ScriptedResponse:
    blocks = [
        (f"id: {event['seq']}\n" if ids else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    return ScriptedResponse(("retry: 1\n\n" + "".join(blocks)).encode(), headers=SSE, **options)


def status(seq: int, name: str) -> dict[str, Any]:
    return {"seq": seq, "type": "TASK_STATUS", "status": name}


def test_run_returns_the_finished_task(beray_client: BeRayClient) -> None:
    task = beray_client.run("!echo hello", tags=["nightly"])
    assert (task["status"], task["tags"]) == ("COMPLETED", ["nightly"])
    assert any(
        event["type"] == "AGENT_EVENT_TEXT_CHUNK" and "hello" in event["text"]
        for event in task["events"]
    )


def test_run_raises_with_the_reason_of_the_failure(beray_client: BeRayClient) -> None:
    with pytest.raises(TaskFailed, match=r"FAILED \(reason: exit_code\); .*'before'") as caught:
        beray_client.run("!echo before; exit 3")
    assert caught.value.task["status"] == "FAILED"
    assert caught.value.error is None


def test_run_raises_with_the_last_error() -> None:
    first = {"type": "ERROR", "code": "MODEL", "details": "the first"}
    events = [{"no type": 1}, first, first | {"details": "the last"}, {"type": "AGENT_EVENT_END"}]
    failed = task("FAILED", reason="model", events=events)
    with (
        FaultServer([task("QUEUED"), failed]) as server,
        BeRayClient(server.url) as client,
        pytest.raises(TaskFailed, match=r"task 1 ended as FAILED \(reason: model\): the last") as (
            caught
        ),
    ):
        client.run("g")
    assert caught.value.error == "the last"


def test_run_without_check_returns_any_end(beray_client: BeRayClient) -> None:
    assert beray_client.run("!exit 3", check=False)["status"] == "FAILED"


def test_a_stopped_task_is_a_failure(beray_client: BeRayClient) -> None:
    def stop() -> None:
        until(lambda: [each["status"] for each in beray_client.list_tasks()] == ["RUNNING"])
        beray_client.stop_task(beray_client.list_tasks()[0]["id"])

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(TaskFailed, match="STOPPED") as caught:
        beray_client.run("!sleep 600")
    thread.join()
    assert caught.value.error is None


def test_wait_returns_at_once_for_a_finished_task(beray_client: BeRayClient) -> None:
    ended = beray_client.run("!true")
    assert beray_client.wait(ended["id"], timeout=0) == ended


def test_wait_raises_after_the_timeout(beray_client: BeRayClient) -> None:
    task_id = beray_client.create_task(WAITING)["id"]
    for timeout in (0, 0.3):
        with pytest.raises(TimeoutError, match="continues to run") as caught:
            beray_client.wait(task_id, timeout)
        assert isinstance(caught.value, WaitTimeout) and isinstance(caught.value, BeRayException)
        assert caught.value.task_id == task_id
    beray_client.upload_file(task_id, "go", b"")
    assert beray_client.wait(task_id, timeout=60)["status"] == "COMPLETED"


def test_an_unknown_task(beray_client: BeRayClient) -> None:
    with pytest.raises(NotFoundError):
        beray_client.wait(999_999)


def test_wait_continues_after_a_restart_of_the_server(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task_id = client.create_task("!true", start=False)["id"]

        def restart() -> None:
            server.restart()
            client.start_task(task_id)

        thread = threading.Timer(0.5, restart)
        thread.start()
        assert client.wait(task_id, timeout=60)["status"] == "COMPLETED"
        thread.join()


def test_ctrl_c_leaves_the_task_running(beray_client: BeRayClient) -> None:
    def interrupt() -> None:
        until(lambda: [each["status"] for each in beray_client.list_tasks()] == ["RUNNING"])
        os.kill(os.getpid(), signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals are delivered to the main thread, and this is another one")
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        beray_client.run("!sleep 600")
    thread.join()
    [left] = beray_client.list_tasks()
    assert left["status"] == "RUNNING"
    beray_client.stop_task(left["id"])
    assert beray_client.wait(left["id"], timeout=60)["status"] == "STOPPED"


def test_wait_returns_after_the_answer_of_a_chat(beray_client: BeRayClient) -> None:
    chat = beray_client.send_chat_message("notes", "!echo hello")
    waiting = beray_client.wait(chat["id"], timeout=60, until_input=True, after=chat["last_seq"])
    assert waiting["status"] == "INPUT_REQUIRED"
    assert any(event["type"] == "AGENT_EVENT_TEXT_CHUNK" for event in waiting["events"])
    with pytest.raises(WaitTimeout):
        beray_client.wait(chat["id"], timeout=0)


def test_wait_reads_only_later_events() -> None:
    answers = [
        task("RUNNING", last_seq=41),
        stream(status(42, "INPUT_REQUIRED"), framing="chunked", drop_at=60),
        stream(status(42, "INPUT_REQUIRED"), status(43, "RUNNING"), framing="chunked"),
        stream(status(44, "COMPLETED")),
        task("COMPLETED"),
    ]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        assert client.wait(1)["status"] == "COMPLETED"
        resumed = [request.headers.get("last-event-id") for request in server.requests[1:4]]
    assert resumed[0] == "41" and resumed[-1] == "43"


def test_a_question_that_was_answered_in_the_meantime_is_not_reported() -> None:
    answers = [
        task("RUNNING"),
        stream(status(1, "INPUT_REQUIRED"), status(2, "RUNNING"), status(3, "INPUT_REQUIRED")),
        task("RUNNING"),
        task("INPUT_REQUIRED"),
    ]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        assert client.wait(1, until_input=True)["status"] == "INPUT_REQUIRED"
        assert len(server.requests) == 4


def test_a_task_that_is_older_than_its_stream() -> None:
    answers = [task("RUNNING"), stream(status(1, "FAILED"), ids=False), task("RUNNING")]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        assert client.wait(1)["status"] == "FAILED"


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_stream_that_ends_early_is_not_a_timeout(timeout: float | None) -> None:
    first = ScriptedResponse(
        b'data: {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "a"}\n\n', headers=SSE
    )
    # The stream closes as if the task had ended, but the task still runs.
    answers = [task("RUNNING"), first, task("COMPLETED"), task("RUNNING")]
    with (
        FaultServer(answers) as server,
        BeRayClient(server.url) as client,
        pytest.raises(StreamInterrupted, match=r"task 1 ended, but the task is RUNNING.*wait\(1\)"),
    ):
        client.wait(1, timeout)


def test_a_server_that_does_not_answer_in_time() -> None:
    answers = [task("RUNNING"), stream(status(1, "RUNNING"), framing="chunked", stall_at=9)]
    answers.append(task("RUNNING"))
    with (
        FaultServer(answers) as server,
        BeRayClient(server.url) as client,
        pytest.raises(WaitTimeout),
    ):
        client.wait(1, timeout=0.3)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        with pytest.raises(InvalidArgument, match="timeout"):
            client.wait(1, timeout)
        assert server.requests == []


def test_run_rejects_the_option_start() -> None:
    with FaultServer([]) as server, BeRayClient(server.url) as client:
        with pytest.raises(InvalidArgument, match="start"):
            client.run("g", start=False)  # type: ignore[call-arg]
        with pytest.raises(InvalidArgument, match="tags"):
            client.run("g", tags="nightly")  # type: ignore[arg-type]
        assert server.requests == []
