"""Complete tasks in which a model calls the server's prefabs with files of the work_dir."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.gateway import GatewayClient
from beray.server.prefabs import archives
from beray.server.runners.model import prefab_tools
from beray.testing import access_token
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer, model_server
from tests.server.gateway.prefab_folders import write_prefab
from tests.support import sleepers, until

MODULE = """
import os
from beray.prefab import Progress

def join(call, *, sign):
    yield Progress(0.5, "joining")
    texts = [path.read_text() for path in call.files["parts"]]
    call.output("whole", "whole.txt").write_text(sign.join(texts))
    return {"count": len(texts)}

def fail(call):
    raise ValueError("it cannot be")

def keep(call):
    return {}

def sleep(call):
    os.execvp("sleep", ["sleep", "98781"])
"""
FUNCTIONS = """
[functions.join]
description = "Joins texts"
streaming = true
parameters.properties.sign = { type = "string", default = "-" }
[functions.join.files.inputs.parts]
many = true
types = [".txt"]
[functions.join.files.outputs.whole]
[functions.fail]
[functions.keep]
[[functions.keep.secrets]]
name = "API_KEY"
[functions.sleep]
"""
JOIN = "prefab_probe_join"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("prefabs")
    with model_server(folder / "data", BERAY_PREFAB_AUTHORS="*") as found:
        with found.server.sign_up() as author:
            token = access_token(author)
            archive = archives.pack(write_prefab(folder / "probe", MODULE, FUNCTIONS))
            with GatewayClient(base_url=found.server.url, jwt_token=token) as gateway:
                gateway.add_prefab(archive)
        yield found


@pytest.fixture
def client(models: ModelServer) -> Iterator[BeRayClient]:
    with models.server.sign_up() as client:
        yield client


def answers(models: ModelServer) -> list[str]:
    return models.provider.tool_messages()


def tokens(models: ModelServer) -> int:
    database = sqlite3.connect(models.server.data_dir / "beray.sqlite3")
    try:
        (found,) = database.execute("SELECT count(*) FROM internal_tokens").fetchone()
    finally:
        database.close()
    return int(found)


def objects(models: ModelServer) -> list[str]:
    database = sqlite3.connect(models.server.data_dir / "beray.sqlite3")
    try:
        return [
            key
            for (key,) in database.execute("SELECT key FROM objects WHERE key NOT LIKE 'history/%'")
        ]
    finally:
        database.close()


def test_input_files_are_read_from_and_output_files_saved_in_the_work_dir(
    models: ModelServer, client: BeRayClient, tmp_path: Path
) -> None:
    write = [Call("write_file", {"path": f"in/{name}.txt", "content": name}) for name in "ab"]
    use = [Call(JOIN, {"parts": ["in/a.txt", "in/b.txt"], "sign": "+"})]
    events = models.done(
        client, "join them", Reply(calls=write), Reply(calls=use), Reply(calls=use), Reply(["ok"])
    )
    assert events[-1]["status"] == "COMPLETED"
    *_, first, second = map(json.loads, answers(models)[-2:])
    assert first == {"result": {"count": 2}, "files": {"whole": ["outputs/whole.txt"]}}
    assert second["files"] == {"whole": ["outputs/whole-2.txt"]}
    task_id = events[0]["task_id"]
    saved = client.download_file(task_id, "outputs/whole.txt", tmp_path / "whole.txt")
    assert Path(saved).read_text() == "a+b"
    progress = [
        event["payload"] for event in events if event["type"] == "AGENT_EVENT_CUSTOM_UPDATE"
    ]
    assert {"kind": "progress", "message": "joining"} in progress
    assert tokens(models) == 0
    assert objects(models) == []


def test_parallel_calls_do_not_overwrite_files(
    models: ModelServer, client: BeRayClient, tmp_path: Path
) -> None:
    names = "abcdefgh"
    write = [Call("write_file", {"path": f"in/{name}.txt", "content": name}) for name in names]
    block = Call("write_file", {"path": "outputs/whole.txt/x", "content": "in the way"})
    use = [Call(JOIN, {"parts": [f"in/{name}.txt"]}) for name in names]
    events = models.done(
        client, "all at once", Reply(calls=[*write, block]), Reply(calls=use), Reply(["ok"])
    )
    results = [json.loads(answer) for answer in answers(models)[-len(names) :]]
    paths = [result["files"]["whole"][0] for result in results]
    assert sorted(paths) == [f"outputs/whole-{number}.txt" for number in range(2, 10)]
    texts = [
        Path(client.download_file(events[0]["task_id"], path, tmp_path / f"{number}")).read_text()
        for number, path in enumerate(paths)
    ]
    assert texts == list(names)


def test_a_result_is_returned_if_its_files_cannot_be_saved(
    models: ModelServer, client: BeRayClient
) -> None:
    write = [Call("write_file", {"path": path, "content": "x"}) for path in ("a.txt", "outputs")]
    use = Call(JOIN, {"parts": ["a.txt"]})
    models.done(client, "no place", Reply(calls=write), Reply(calls=[use]), Reply(["ok"]))
    result = json.loads(answers(models)[-1])
    assert (result["result"], result["files"]) == ({"count": 1}, {})
    assert "outputs" in result["problem"]


def test_names_of_files_and_parameters_do_not_collide() -> None:
    named = prefab_tools.input_parameters(
        {"doc": {}, "doc_file": {}, "null": {}}, {"doc": {}, "x": {}}
    )
    assert {name: key for name, (key, _) in named.items()} == {
        "doc_file_2": "doc", "doc_file": "doc_file", "null": "null",
    }  # fmt: skip


def test_the_schema_of_a_tool_contains_its_files(models: ModelServer, client: BeRayClient) -> None:
    models.done(client, "list the tools", Reply(["nothing"]))
    tools = {
        tool["function"]["name"]: tool["function"] for tool in models.provider.requests[-1]["tools"]
    }
    schema = tools[JOIN]["parameters"]
    assert schema["properties"]["parts"]["type"] == "array"
    assert "parts" in schema["required"] and "sign" in schema["properties"]
    assert "outputs/" in tools[JOIN]["description"]
    assert "run_command" in tools


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("prefab_probe_fail", {}, "FUNCTION_ERROR: ValueError: it cannot be"),
        ("prefab_probe_keep", {}, "API_KEY"),
        (JOIN, {"parts": ["none.txt"]}, "does not exist"),
        (JOIN, {"parts": ["../secret.txt"]}, "'..'"),
        (JOIN, {"parts": [3]}, "parts"),
        (JOIN, {"parts": ["a.bin"]}, "inputs.files.parts"),
    ],
)
def test_failures_are_returned_to_the_model(
    models: ModelServer, client: BeRayClient, name: str, arguments: Any, expected: str
) -> None:
    goal = f"fail by {name} {arguments}"
    write = Call("write_file", {"path": "a.bin", "content": "x"})
    use = Call(name, arguments)
    events = models.done(client, goal, Reply(calls=[write]), Reply(calls=[use]), Reply(["ok"]))
    assert events[-1]["status"] == "COMPLETED"
    assert expected in answers(models)[-1]


def test_stopping_a_task_ends_its_call_and_revokes_its_token(
    models: ModelServer, client: BeRayClient
) -> None:
    goal = models.script("sleep", Reply(calls=[Call("prefab_probe_sleep", {})]))
    task = client.create_task(goal)
    until(lambda: sleepers("98781"))
    assert tokens(models) == 1
    client.stop_task(task["id"])
    *_, last = client.stream_task_updates(task["id"])
    assert last["status"] == "STOPPED"
    until(lambda: not sleepers("98781"))
    assert tokens(models) == 0


def test_the_operator_selects_the_prefabs_that_are_tools(tmp_path: Path) -> None:
    with model_server(tmp_path / "data", BERAY_PREFAB_TOOLS="im*, none") as models:
        client = models.server.sign_up()
        assert (
            models.done(client, "list the tools?", Reply(text=["-"]))[-1]["status"] == "COMPLETED"
        )
        names = [tool["function"]["name"] for tool in models.provider.requests[-1]["tools"]]
        assert {name for name in names if name.startswith("prefab_")} == {
            "prefab_image_convert", "prefab_image_resize", "prefab_image_contact_sheet",
            "prefab_image_info",
        }  # fmt: skip
