"""Errors of ``beray prefab``, reported in terms of the command's options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.cli_support import Command, ScriptedServer
from tests.server.gateway.prefab_folders import write_prefab

MODULE = """
from beray.prefab import Call

def echo(call: Call, **given):
    yield "piece"
    return given

def make(call: Call, *, unit: str = "x"):
    call.output("made", "a.txt").write_text("a")
    call.output("other", "b.txt").write_text("b")
    return {}

def same(call: Call):
    call.output("made", call.file("document").name).write_text("theirs")
    return {}

def fail(call: Call):
    exec("def f(:")
"""
FUNCTIONS = """
[functions.echo]
streaming = true
[functions.echo.parameters]
additionalProperties = true
properties.maybe.anyOf = [{ type = "string" }, { type = "null" }]
properties.name."$ref" = "#/$defs/t"
properties.all.allOf = [{ "$ref" = "#/$defs/t" }]
properties.either.oneOf = [{ type = "number" }, { type = "string" }]
properties.list.anyOf = [{ type = "array" }, { type = "null" }]
"$defs".t.type = "string"
[functions.make]
parameters.properties.unit = { enum = ["x", "y"], default = "x" }
[functions.make.files.inputs.documents]
required = false
many = true
types = [".txt"]
[functions.make.files.outputs.made]
[functions.make.files.outputs.other]
[functions.same.files.inputs.document]
[functions.same.files.outputs.made]
[functions.fail]
"""


# Parameters and files


def test_references_in_schemas_are_resolved(probe: Command) -> None:
    given = {"maybe=5": "5", "name=5": "5", "all=true": "true", "either=5": 5, "either2=x": "x",
             "list=[1]": [1]}  # fmt: skip
    options = [part for text in given for part in ("--param", text)]
    *_, last = probe("prefab", "run", "probe", "echo", "--stream", "--json", *options).json
    expected = {text.partition("=")[0]: value for text, value in given.items()}
    assert last["output"]["output"] == expected
    null = probe("prefab", "run", "probe", "echo", "--json", "--param", "maybe=null").json
    assert null[0]["output"]["output"] == {"maybe": None}
    wrong = probe("prefab", "run", "probe", "echo", "--param", "list=x")
    assert wrong.status == 2 and "expects a JSON list or null" in wrong.err


def test_rejected_inputs_are_reported_by_option(probe: Command) -> None:
    Path("a.txt").write_text("a")
    Path("x.rtf").write_text("x")
    for options in ([], ["--stream"]):
        refused = probe(
            "prefab", "run", "probe", "make", "--param", "unit=word",
            "--file", "documents=a.txt", "--file", "documents=x.rtf", *options,
        )  # fmt: skip
        assert (refused.status, refused.out) == (1, "")
        assert "beray: --param unit: " in refused.err
        assert "calls.0" not in refused.err and "inputs" not in refused.err
        assert "beray: --file documents (x.rtf): " in refused.err


@pytest.mark.parametrize("place", ["http://x/y", "file:///etc/passwd", "S3://a/b"])
def test_other_urls_than_s3_are_rejected(probe: Command, place: str) -> None:
    refused = probe("prefab", "run", "probe", "make", "--file", f"documents={place}")
    assert refused.status == 2
    assert f"{place} is neither a local file nor an s3:// URL" in refused.err


# Output files


@pytest.mark.parametrize("place", ["file", "file/below", "link"])
def test_the_target_must_be_a_directory(
    beray: Command, scripted: ScriptedServer, place: str
) -> None:
    Path("file").write_text("mine")
    Path("link").symlink_to("nowhere")
    for words in (("run", "p", "f", "--force"), ("get", "s3://b/k/a.txt")):
        refused = beray("prefab", *words, "--out", place)
        assert refused.status == 2 and "is not a directory" in refused.err
        assert "--force" not in refused.err
    assert not [call for call in scripted.calls() if "prefabs" in call or "internal" in call]


def test_files_can_be_downloaded_later_by_their_urls(probe: Command) -> None:
    ran = probe("prefab", "run", "probe", "make")
    assert "beray prefab get URL" in ran.err
    urls = [line.partition(": ")[2] for line in ran.err.splitlines() if ": s3://" in line]
    saved = probe("prefab", "get", *urls, "--out", "results/deep")
    assert (saved.status, saved.out) == (0, "results/deep/a.txt\nresults/deep/b.txt\n")
    assert Path("results/deep/a.txt").read_text() == "a"
    again = probe("prefab", "get", *urls, "--out", "results/deep")
    assert again.status == 1 and "--force" in again.err
    (saved_file,) = probe("prefab", "get", urls[0], "--force", "--json").json
    assert saved_file == {"url": urls[0], "saved": "a.txt"}
    twice = probe("prefab", "run", "probe", "make").err
    more = [line.partition(": ")[2] for line in twice.splitlines() if "/a.txt" in line]
    clash = probe("prefab", "get", urls[0], *more, "--out", "both")
    assert clash.status == 2 and "would be saved as" in clash.err and not os.path.exists("both")
    missing = probe("prefab", "get", urls[0].replace("a.txt", "none.txt"))
    assert missing.status == 1 and missing.err.startswith("beray: ")


@pytest.mark.parametrize("url", ["a.txt", "http://b/a", "s3://b", "s3://b/", "s3://b/a/"])
def test_urls_of_other_things_than_files_are_invalid_usage(probe: Command, url: str) -> None:
    refused = probe("prefab", "get", url)
    assert refused.status == 2 and "expected s3://BUCKET/KEY" in refused.err


# Output


def test_a_traceback_keeps_its_indentation(probe: Command) -> None:
    failed = probe("prefab", "run", "probe", "fail")
    lines = failed.err.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.endswith("def f(:")]
    assert lines[at].startswith("|     def f(:")
    assert lines[at + 1].rstrip("^") == "|" + " " * 11


def test_a_result_starts_a_new_line_after_a_stream(probe: Command) -> None:
    result = probe("prefab", "run", "probe", "echo", "--stream", "--param", "a=1")
    assert result.out == 'piece\n{\n  "a": 1\n}\n'


# Names


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "word/0.1.0/spec?x=", "p@1/2", "p@..", "p%2e", "a b"]
)
def test_names_that_change_the_path_are_invalid_usage(
    beray: Command, scripted: ScriptedServer, name: str
) -> None:
    for words in (("run", name, "f"), ("spec", name)):
        refused = beray("prefab", *words)
        assert refused.status == 2 and "is invalid; use letters" in refused.err
    assert beray("prefab", "secret", "list", name).status == 2
    assert beray("prefab", "secret", "remove", "p", name).status == 2
    assert scripted.calls() == []


def test_secrets_of_a_missing_prefab_are_an_error(probe: Command) -> None:
    missing = probe("prefab", "secret", "list", "nothing")
    assert (missing.status, missing.out) == (1, "") and missing.err.startswith("beray: ")
    assert probe("prefab", "secret", "list", "probe").status == 0


def test_secrets_are_listed_as_json(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers["GET /v1/prefabs/p/latest/spec"] = (200, {"id": "p"})
    scripted.answers["GET /v1/prefabs/p/secrets"] = (200, {"secrets": ["A", "B"]})
    assert beray("prefab", "secret", "list", "p", "--json").json == [{"name": "A"}, {"name": "B"}]


def test_the_name_of_a_secret_keeps_its_case(probe: Command) -> None:
    refused = probe("prefab", "secret", "set", "probe", "S1", stdin="")
    assert refused.status == 2 and "the secret S1 is missing" in refused.err


# New prefabs


@pytest.mark.parametrize("prefab_id", ["json", "call", "pytest", "beray", "test-count", "conftest"])
def test_a_new_prefab_hides_nothing_from_its_test(beray: Command, prefab_id: str) -> None:
    made = beray("prefab", "new", prefab_id)
    assert f"{prefab_id}/{prefab_id.replace('-', '_')}_prefab.py" in made.out.splitlines()
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", prefab_id],
        capture_output=True, text=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert "3 passed" in tested.stdout, tested.stdout
    assert beray("prefab", "check", prefab_id).status == 0


@pytest.mark.parametrize("prefab_id", ["con", "nul", "com1", "lpt9"])
def test_new_rejects_reserved_file_names(beray: Command, prefab_id: str) -> None:
    refused = beray("prefab", "new", prefab_id)
    assert refused.status == 2 and "is a reserved file name on Windows" in refused.err
    assert os.listdir() == []


def test_check_reports_a_hidden_module(beray: Command, tmp_path: Path) -> None:
    folder = write_prefab(tmp_path / "probe", "def main(call): ...", "[functions.main]")
    assert "hides" not in beray("prefab", "check", str(folder)).err
    (folder / "probe.py").rename(folder / "calendar.py")
    manifest = folder / "prefab.toml"
    manifest.write_text(manifest.read_text().replace('module = "probe"', 'module = "calendar"'))
    checked = beray("prefab", "check", str(folder))
    assert checked.status == 0 and "calendar.py hides a module of Python's standard" in checked.err


def test_input_files_are_never_replaced(probe: Command) -> None:
    Path("a.txt").write_text("mine")
    run = ("prefab", "run", "probe", "same", "--file", "document=a.txt")
    refused = probe(*run, "--out", ".", "--force")
    assert refused.status == 2 and "another directory" in refused.err
    assert Path("a.txt").read_text() == "mine"
    assert probe(*run, "--out", "elsewhere").status == 0
    assert Path("elsewhere/a.txt").read_text() == "theirs"
