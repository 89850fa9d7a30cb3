"""``beray prefab`` from an empty directory to a result, on a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beray.client import BeRayClient
from tests.cli.cli_support import Command, ScriptedServer
from tests.server.gateway.prefab_folders import write_prefab

MODULE = """
from beray.prefab import Call, Progress

def echo(call: Call, **given):
    return given

def tell(call: Call):
    yield "one "
    yield Progress(0.5, "half\\x1b[31m")
    yield "two\\x1b[2J\\n"
    yield {"three": 3}
    call.output("made", "a.txt").write_text("a")
    call.output("other", "a.txt").write_text("b")
    return {"said": "\\x1b]0;title\\x07"}

def fail(call: Call):
    raise RuntimeError("no \\x1b[31m luck")

def keep(call: Call):
    return {"length": len(call.secrets["API_KEY"])}
"""
FUNCTIONS = """
[functions.echo]
[functions.echo.parameters]
additionalProperties = true
properties.text.type = "string"
properties.count.type = "integer"
properties.ratio.type = "number"
properties.flag.type = "boolean"
properties.items.type = "array"
properties.maybe.type = ["string", "null"]
properties.choice.enum = ["1", "2"]
[functions.tell]
streaming = true
[functions.tell.files.outputs.made]
[functions.tell.files.outputs.other]
[functions.fail]
[functions.keep]
[[functions.keep.secrets]]
name = "API_KEY"
instructions = "Get one at example.com"
"""


def test_from_new_to_a_result(beray: Command, author: BeRayClient) -> None:
    made = beray("prefab", "new", "line-count")
    assert made.out.splitlines() == [
        f"line-count/{name}" for name in ("prefab.toml", "line_count.py", "test_line_count.py")
    ]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "line-count"],
        capture_output=True, text=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert "3 passed" in tested.stdout, tested.stdout
    sound = beray("prefab", "check", "line-count")
    assert (sound.status, sound.out) == (0, "line-count 0.1.0 is valid: count\n")
    assert beray("prefab", "add", "line-count").err == "added line-count 0.1.0 to the server\n"
    assert beray("prefab", "add", "line-count").status == 0
    Path("poem.txt").write_text("one two\nthree\n")
    run = ("prefab", "run", "line-count", "count", "--file", "document=poem.txt")
    counted = beray(*run, "--param", "unit=lines", "--out", "results")
    assert counted.status == 0, counted.err
    assert json.loads(counted.out) == {"count": 2}
    assert Path("results/report.txt").read_text() == "poem.txt has 2 lines.\n"
    again = beray(*run, "--out", "results")
    assert again.status == 1 and "--force" in again.err
    listed = beray(*run)
    assert "report: s3://beray/agent-outputs/" in listed.err
    with open("line-count/line_count.py", "a") as file:
        file.write("# changed\n")
    changed = beray("prefab", "add", "line-count")
    assert changed.status == 1 and "other content" in changed.err


def test_list_and_spec(probe: Command) -> None:
    (row,) = [line for line in probe("prefab", "list").out.splitlines() if "probe" in line]
    assert row.split("\t") == ["probe", "1.0.0", "deployed", "echo, tell, fail, keep", "A probe"]
    (info,) = [
        item for item in probe("prefab", "list", "--json").json if item["prefab_id"] == "probe"
    ]
    assert info["requires_secrets"] is True
    (spec,) = probe("prefab", "spec", "probe@1.0.0").json
    assert spec["id"] == "probe"
    for name in ("probe@9.9.9", "none"):
        missing = probe("prefab", "spec", name)
        assert missing.status == 1 and missing.err.startswith("beray: ")


def test_values_are_interpreted_by_their_schema(probe: Command) -> None:
    Path("long.txt").write_text("from a file\n")
    given = {
        "text=3": "3", "count=3": 3, "ratio=0.5": 0.5, "flag=true": True, "items=[1, \"a\"]": [1, "a"],
        "maybe=null": None, "choice=1": "1", "other=x": "x", "more=[1]": [1],
        "file=@long.txt": "from a file\n", "at=@@me": "@me",
    }  # fmt: skip
    options = [part for text in given for part in ("--param", text)]
    result = probe("prefab", "run", "probe", "echo", *options)
    assert result.status == 0, result.err
    assert json.loads(result.out) == {
        text.partition("=")[0]: value for text, value in given.items()
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["echo", "--param", "count=x"], "expects an integer, got 'x'"),
        (["echo", "--param", "ratio=NaN"], "expects a number, got 'NaN'"),
        (["echo", "--param", "text"], "expected KEY=VALUE"),
        (["echo", "--param", "text=a", "--param", "text=b"], "twice"),
        (["tell", "--param", "text=a"], "unknown parameter"),
        (["tell", "--file", "document=a.txt"], "unknown input file"),
        (["tell", "--file", "document"], "expected KEY=LOCAL"),
        (["nothing"], "no function 'nothing'"),
    ],
)
def test_invalid_inputs_are_invalid_usage(
    probe: Command, arguments: list[str], expected: str
) -> None:
    result = probe("prefab", "run", "probe", *arguments)
    assert (result.status, result.out) == (2, "")
    assert expected in result.err


def test_the_message_of_the_server_is_shown(probe: Command) -> None:
    refused = probe("prefab", "run", "probe", "echo", "--param", "choice=3")
    assert refused.status == 1 and refused.err.startswith("beray: --param choice: ")


def test_a_stream_is_shown_without_control_characters(probe: Command) -> None:
    result = probe("prefab", "run", "probe", "tell", "--stream", "--out", "results")
    assert result.status == 0
    assert "\x1b" not in result.out + result.err and "\x07" not in result.out
    assert result.out.startswith("one two") and '"three": 3' in result.out
    assert "-- 50% half" in result.err
    # Two files with the same name are saved in directories named by their keys.
    assert Path("results/made/a.txt").read_text() == "a"
    assert Path("results/other/a.txt").read_text() == "b"


def test_the_result_is_shown_if_saving_files_fails(probe: Command) -> None:
    Path("results/made").mkdir(parents=True)
    Path("results/made/a.txt").write_text("mine")
    for options in ([], ["--json"], ["--stream"]):
        result = probe("prefab", "run", "probe", "tell", "--out", "results", *options)
        assert result.status == 1 and '"said"' in result.out
        assert "overwrites" in result.err
    assert Path("results/made/a.txt").read_text() == "mine"


def test_control_characters_are_escaped_in_json(probe: Command) -> None:
    text = "a\u009b31mb\u202ec\u0085d\te\x1b[2J"
    Path("text").write_text(text)
    result = probe("prefab", "run", "probe", "echo", "--param", "text=@text")
    assert json.loads(result.out)["text"] == text
    assert result.out.isascii() and "\x1b" not in result.out


def test_values_of_a_streaming_function_are_shown_without_stream(probe: Command) -> None:
    result = probe("prefab", "run", "probe", "tell")
    assert result.out.startswith("[") and "one " in result.out


def test_json_is_one_object_per_line(probe: Command) -> None:
    *events, last = probe("prefab", "run", "probe", "tell", "--stream", "--json").json
    kinds = [event["type"] for event in events]
    assert kinds == ["start", "content", "progress", "content", "content", "done"]
    assert (last["status"], set(last["output"]["files"])) == ("SUCCESS", {"made", "other"})
    failed = probe("prefab", "run", "probe", "fail", "--json")
    assert failed.status == 1
    assert failed.json[0]["error"]["code"] == "FUNCTION_ERROR"


def test_a_failure_has_its_traceback(probe: Command) -> None:
    for options in ([], ["--stream"]):
        failed = probe("prefab", "run", "probe", "fail", *options)
        assert (failed.status, failed.out) == (1, "")
        assert "probe.py" in failed.err and "\x1b" not in failed.err
        assert failed.err.splitlines()[-1].startswith("beray: FUNCTION_ERROR: RuntimeError: no")


def test_a_secret_is_read_from_stdin_and_never_shown(probe: Command) -> None:
    missing = probe("prefab", "run", "probe", "keep")
    assert missing.status == 1 and "beray prefab secret set probe API_KEY" in missing.err
    assert "Get one at example.com" in missing.err
    given = probe("prefab", "secret", "set", "probe", "API_KEY", stdin="0123456789\n")
    assert given.status == 0 and "0123456789" not in given.err + given.out
    assert probe("prefab", "secret", "list", "probe").out == "API_KEY\n"
    assert json.loads(probe("prefab", "run", "probe", "keep").out) == {"length": 10}
    assert probe("prefab", "secret", "remove", "probe", "API_KEY").status == 0
    assert probe("prefab", "secret", "remove", "probe", "API_KEY").status == 1
    assert probe("prefab", "secret", "set", "probe", "OTHER", stdin="x\n").status == 1
    assert probe("prefab", "secret", "set", "probe", "API_KEY").status == 2


@pytest.mark.parametrize("prefab_id", ["", "Upper", "1st", "a" * 65, "../up", "a_b", "a/b"])
def test_new_rejects_invalid_ids(beray: Command, prefab_id: str) -> None:
    assert beray("prefab", "new", prefab_id).status == 2
    assert os.listdir() == []


def test_new_overwrites_nothing(beray: Command) -> None:
    assert beray("prefab", "new", "class").status == 0
    assert beray("prefab", "check", "class").status == 0
    refused = beray("prefab", "new", "class")
    assert refused.status == 1 and "already exists" in refused.err


@pytest.mark.parametrize(
    ("module", "functions", "expected"),
    [
        ("def main(call): ...", "[functions.other]", "functions.other: probe.py has no such"),
        ("def main(): ...", "[functions.main]", "functions.main: the function must take a Call"),
        ("async def main(call): ...", "[functions.main]", "functions.main: the function is async"),
        ("def main(call): yield 1", "[functions.main]", "functions.main.streaming: must be true"),
        ("def main(call, *, x): ...", "[functions.main]", "parameters.x: is a parameter of"),
        (
            "def main(call): ...",
            "[functions.main]\nparameters.properties.x = {}",
            "x: is not a parameter",
        ),
        ("def main(call, x): ...", "[functions.main]\nparameters.properties.x = {}", "x: must be"),
        ("import none_of_this_name", "[functions.main]", "No module named"),
        ("def (", "[functions.main]", "SyntaxError"),
        ("import os; os._exit(3)", "[functions.main]", "with status 3"),
        ("def main(call): ...", "[functions.main]\nx = 1", "functions.main.x: is not a known key"),
    ],
)
def test_check_reports_problems(
    beray: Command, tmp_path: Path, module: str, functions: str, expected: str
) -> None:
    folder = write_prefab(tmp_path / "probe", module, functions)
    result = beray("prefab", "check", str(folder))
    assert result.status == 1
    assert expected in result.out
    assert beray("prefab", "check", str(folder), "--json").json[0]["msg"]
    assert beray("prefab", "add", str(folder)).status == 1


def test_check_reports_missing_requirements(beray: Command, tmp_path: Path) -> None:
    folder = write_prefab(tmp_path / "a", "def main(call): ...", "[functions.main]", more='requires = ["pydantic", "none-of-this-name"]')  # fmt: skip
    result = beray("prefab", "check", str(folder))
    assert result.out == "prefab.requires: not installed: none-of-this-name\n"
    assert beray("prefab", "check", str(tmp_path / "none")).status == 1
    os.symlink("/etc/passwd", folder / "passwd")
    assert "passwd: is a link" in beray("prefab", "check", str(folder)).out


def test_a_user_without_permission_cannot_add(
    beray: Command, account: BeRayClient, tmp_path: Path
) -> None:
    folder = write_prefab(tmp_path / "a", "def main(call): ...", "[functions.main]")
    refused = beray("prefab", "add", str(folder))
    assert refused.status == 1 and "BERAY_PREFAB_AUTHORS" in refused.err


@pytest.mark.parametrize(
    "spec",
    [{}, {"functions": 3}, {"version": "1", "functions": [{"name": "f"}]}, {"functions": [None]}],
)
def test_an_invalid_response_is_reported(
    beray: Command, scripted: ScriptedServer, spec: Any
) -> None:
    scripted.answers["GET /v1/prefabs/p/latest/spec"] = (200, spec)
    result = beray("prefab", "run", "p", "f")
    assert result.status == 1 and "unexpected shape" in result.err
