"""Files in the results of MCP tools, and notifications during calls, as events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import BinaryContent, ModelRequest, ToolReturnPart

from beray.server.runners.base import Outcome
from tests.server.agents import mcp_server
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.mcp_server import HttpServer
from tests.server.agents.model_bench import Bench, Step, other_tasks
from tests.server.agents.model_server import ModelServer

pytestmark = pytest.mark.filterwarnings(
    "ignore::mcp.shared.exceptions.MCPDeprecationWarning"  # the server's log messages
)
MEDIA: Step = [("web_media", {})]


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with HttpServer(sessions=True) as server:
        yield server


def shown(bench: Bench) -> list[Any]:
    """Return the parts of the last result for the model."""
    assert bench.model is not None
    parts = [
        part
        for message in bench.model.requests[-1]
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    content = parts[-1].content
    return list(content) if isinstance(content, list | tuple) else [content]


async def test_binary_content_becomes_files_with_safe_and_unique_names(
    tmp_path: Path, http: HttpServer
) -> None:
    bench = await Bench.make(tmp_path, MEDIA, MEDIA, "done")
    assert await bench.run(tools=[{"web": {"url": http.url}}]) == Outcome("COMPLETED")
    first, second = bench.sink.results("web_media")
    assert first[0] == "two images"
    assert [part["path"] for part in first[1:]] == [
        "outputs/web_media.png",
        "outputs/web_media-2.png",
        "outputs/web_media.bmp",
        "outputs/web_media.wav",
        "outputs/sales_rm.PDF",
    ]
    paths = [part["path"] for part in (*first[1:], *second[1:])]
    assert len(set(paths)) == 10
    found = {str(path.relative_to(bench.work_dir)) for path in bench.work_dir.rglob("*.*")}
    assert found == set(paths)
    assert (bench.work_dir / paths[0]).read_bytes() == mcp_server.PIXEL
    assert (bench.work_dir / paths[9]).read_bytes() == b"%PDF"


async def test_the_model_sees_images_and_has_the_paths_of_all_files(
    tmp_path: Path, http: HttpServer
) -> None:
    bench = await Bench.make(tmp_path, MEDIA, "done")
    await bench.run(tools=[{"web": {"url": http.url}}])
    parts = shown(bench)
    images = [part for part in parts if isinstance(part, BinaryContent)]
    # Only image types that providers accept, detected by their content.
    assert [image.data for image in images] == [mcp_server.PIXEL] * 2
    text = "\n".join(part for part in parts if isinstance(part, str))
    for name in ("web_media.png", "web_media-2.png", "web_media.bmp", "web_media.wav"):
        assert f"saved as outputs/{name}]" in text


async def test_a_model_without_images_has_paths_only(tmp_path: Path, http: HttpServer) -> None:
    bench = await Bench.make(tmp_path, MEDIA, "done", model_images=False)
    await bench.run(tools=[{"web": {"url": http.url}}])
    [answer] = shown(bench)
    assert "image/png, 70 bytes, saved as outputs/web_media.png]" in answer


async def test_content_that_cannot_be_saved_is_reported(tmp_path: Path, http: HttpServer) -> None:
    calls: Step = [("web_media", {"big": 5_000_000})]
    bench = await Bench.make(tmp_path, calls, "done", work_dir_bytes=2_000_000)
    assert await bench.run(tools=[{"web": {"url": http.url}}]) == Outcome("COMPLETED")
    [result] = bench.sink.results("web_media")
    assert "path" in result[1]
    assert "path" not in result[5]
    assert "not saved" in result[5]["problem"]
    assert "could not be saved" in "".join(part for part in shown(bench) if isinstance(part, str))
    assert not list(bench.work_dir.rglob("sales*"))


async def test_no_files_are_written_into_a_linked_directory(
    tmp_path: Path, http: HttpServer
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    bench = await Bench.make(tmp_path, MEDIA, "done")
    (bench.work_dir / "outputs").symlink_to(outside)
    assert await bench.run(tools=[{"web": {"url": http.url}}]) == Outcome("COMPLETED")
    assert list(outside.iterdir()) == []
    assert "problem" in bench.sink.results("web_media")[0][1]


@pytest.mark.parametrize("kind", ["sessions", "stateless", "sse"])
async def test_progress_and_log_messages_are_batched_and_limited(tmp_path: Path, kind: str) -> None:
    report: Step = [("web_report", {"count": 300})]
    bench = await Bench.make(tmp_path, report, "done")
    with HttpServer(sessions=kind == "sessions", sse=kind == "sse") as http:
        server = {"url": http.url} | ({"type": "sse"} if kind == "sse" else {})
        assert await bench.run(tools=[{"web": server}]) == Outcome("COMPLETED")
    progress = bench.sink.payloads("progress")
    assert 1 <= len(progress) < 300
    assert progress[-1] == {
        "kind": "progress",
        "message": "web report: step 300 (300 of 300)",
        "server": "web",
        "tool": "report",
        "call_id": "call_1_0",
        "progress": 300.0,
        "total": 300.0,
    }
    messages = bench.sink.payloads("log")
    assert messages[0]["message"] == 'web (warning): {"number": 1}'
    assert {message["level"] for message in messages if "level" in message} == {"warning"}
    # Omitted messages are counted.
    counted = sum(message.get("left_out", 1) for message in messages)
    assert counted == 300
    assert len(messages) < 300
    # The notifications of a call precede its result.
    types: list[str] = [event.type for event in bench.sink.events]
    last = max(n for n, event in enumerate(bench.sink.events) if "left_out" in str(event))
    assert last < types.index("AGENT_EVENT_TOOL_RESULT")
    assert not other_tasks()


async def test_notifications_contain_no_credentials(tmp_path: Path) -> None:
    report: Step = [("web_report", {"count": 1})]
    bench = await Bench.make(tmp_path, report, "done")
    with HttpServer(sessions=True) as http:
        headers = {"X-Key": "step 1"}
        await bench.run(tools=[{"web": {"url": http.url, "headers": headers}}])
    [progress] = bench.sink.payloads("progress")
    assert progress["message"] == "web report: … (1 of 1)"


def test_a_task_of_a_server_has_the_files_and_the_notifications(models: ModelServer) -> None:
    with (
        HttpServer(sessions=True) as http,
        models.server.sign_up() as client,
    ):
        events = models.done(
            client,
            "draw",
            Reply(calls=[Call("web_media", "{}"), Call("web_report", '{"count": 3}')]),
            Reply(text=["done"]),
            tools=[{"web": {"url": http.url}}],
        )
        task_id = events[0]["task_id"]
        results = [event for event in events if event["type"] == "AGENT_EVENT_TOOL_RESULT"]
        [media] = [event["result"] for event in results if event["tool_name"] == "web_media"]
        content = client.get_file_content(task_id, media[1]["path"]).content
        # The second request to the model contains the images.
        last_request = str(models.provider.requests[-1])
    assert content == mcp_server.PIXEL
    assert events[-1]["status"] == "COMPLETED"
    updates = [event["payload"] for event in events if "payload" in event]
    kinds = [payload["kind"] for payload in updates]
    assert {"progress", "log", "file_changed"} <= set(kinds)
    assert "outputs/web_media.png" in last_request
    assert "data:image/png;base64" in last_request
