"""A prefab whose functions do what tests need, and callers who call them."""

from __future__ import annotations

import json
from typing import Any

import requests

from beray import BeRayClient
from beray.testing import authorization
from tests.gateway_support import Agent

COUNT = """
import os, time
from beray.prefab import Call, InputError, Progress

def count(call: Call, *, unit: str, note: str = "") -> dict:
    texts = [path.read_text() for path in call.files.get("document", ())]
    for key, paths in call.files.items():
        for path in paths:
            call.output("copy", path.name).write_text(path.read_text())
    total = sum(len(text.split()) if unit == "words" else len(text) for text in texts)
    return {"count": total, "note": note}

def tell(call: Call, *, times: int):
    for number in range(times):
        yield f"piece {number}"
        yield Progress((number + 1) / times, "on the way")
    call.output("copy", "end.txt").write_text("the end")
    return {"told": times}

def sleep(call: Call, *, mark: str):
    yield "asleep"
    os.execvp("sleep", ["sleep", mark])

def whisper(call: Call) -> dict:
    if os.environ.get("NEVER"):
        return {}
    error = KeyError if call.secrets["API_KEY"].startswith("\\\\") else ValueError
    raise error("my key is " + call.secrets["API_KEY"])

def fail(call: Call, *, how: str) -> dict:
    if how == "import":
        from json import zork
    if how == "input":
        raise InputError("unit: 'x' is not a unit; use words or characters")
    if how == "surrogate":
        raise RuntimeError("half \\udc80")
    call.output("copy", call.secrets["API_KEY"] + ".txt").write_text("a")
    return {}

def umlauts(call: Call) -> dict:
    return {"text": "\u00fc" * 3_000_000}

def wrong(call: Call) -> dict:
    return {"count": "three"}

def outputs(call: Call, *, how: str) -> dict:
    place = call.output("copy", "a.txt")
    place.write_text("a")
    if how == "two":
        call.output("one", "a.txt").write_text("a")
        call.output("one", "b.txt").write_text("b")
    elif how == "key":
        call.output("other", "a.txt").write_text("a")
    elif how == "link":
        os.symlink("/etc/passwd", place.with_name("passwd"))
    elif how == "folder":
        place.with_name("folder").mkdir()
    elif how == "fifo":
        os.mkfifo(place.with_name("fifo"))
    elif how == "moved":
        os.rename(call.outputs, call.outputs.with_name("gone"))
        os.symlink("/etc", call.outputs)
    elif how == "name":
        place.with_name("a\\x1b[31m.txt").write_text("red")
    elif how == "bytes":
        place.with_name(os.fsdecode(b"caf\\xe9.txt")).write_text("bytes")
        place.with_name("caf\u2426E8.txt").write_text("as it came in")
    elif how == "twice":
        place.with_name(os.fsdecode(b"caf\\xe9.txt")).write_text("bytes")
        place.with_name("caf\u2426E9.txt").write_text("as it came in")
    elif how == "large":
        with place.open("wb") as file:
            file.truncate(100 * 1024 * 1024)
    elif how == "disk":
        with place.open("wb") as file:
            for _ in range(1024):
                file.write(os.urandom(1024 * 1024))
    return {}
"""
MANIFEST = """
[functions.count]
description = "Counts"
[functions.count.parameters]
required = ["unit"]
properties.unit.enum = ["words", "characters"]
properties.note = { type = "string", default = "none" }
[functions.count.returns]
properties.count.type = "integer"
[functions.count.files.inputs.document]
many = true
types = [".txt", ".md"]
[functions.count.files.inputs.second]
required = false
[functions.count.files.outputs.copy]
many = true
[functions.tell]
streaming = true
parameters.properties.times = { type = "integer", default = 2 }
[functions.tell.files.outputs.copy]
[functions.sleep]
streaming = true
seconds = 60
parameters.properties.mark = { type = "string", default = "98770" }
[functions.whisper]
[[functions.whisper.secrets]]
name = "API_KEY"
instructions = "Get one at example.com"
[functions.fail]
parameters.properties.how = { type = "string", default = "" }
[functions.fail.files.outputs.copy]
[[functions.fail.secrets]]
name = "API_KEY"
[functions.umlauts]
[functions.wrong]
returns.properties.count.type = "integer"
[functions.outputs]
parameters.properties.how = { type = "string", default = "" }
[functions.outputs.files.outputs.copy]
many = true
[functions.outputs.files.outputs.one]
"""


def call(function: str, files: dict[str, list[str]] | None = None, **parameters: Any) -> Any:
    return {
        "prefab_id": "probe",
        "version": "latest",
        "function_name": function,
        "inputs": {"parameters": parameters, "files": files or {}},
    }


def add(author: BeRayClient, archive: bytes) -> requests.Response:
    headers = {**authorization(author), "Content-Type": "application/zip"}
    return requests.post(f"{author.base_url}/v1/prefabs", data=archive, headers=headers, timeout=60)


class Caller(Agent):
    def run(self, *calls: Any, accept: str = "application/json") -> requests.Response:
        return self.call(
            "POST", "/v1/internal/run", json={"calls": calls}, headers={"Accept": accept},
            stream="event-stream" in accept or accept == "*/*",
        )  # fmt: skip

    def result(self, one: Any) -> Any:
        answer = self.run(one)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        return result

    def failure(self, one: Any) -> Any:
        result = self.result(one)
        assert result["status"] == "FAILED" and result["output"] is None
        return result["error"]

    def events(self, one: Any, accept: str = "text/event-stream") -> list[Any]:
        with self.run(one, accept=accept) as answer:
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line.startswith(b"data: ")]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def put(caller: Caller, name: str, text: str) -> str:
    """Upload a file; its URL."""
    answer = caller.files("POST", "upload", files={"file": (name, text.encode())})
    assert answer.ok, answer.text
    return str(answer.json()["s3_url"])
