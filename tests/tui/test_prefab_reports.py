"""What is kept of a run, and how it and its prefab are told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.tui import gateway_stub
from tests.tui.hostile_text import BIG, HOSTILE, assert_clean
from tui.document import Document
from tui.prefabs import details, outcome, save_outputs, transcript
from tui.prefabs.outcome import RunFile
from tui.prefabs.spec import PrefabSummary, spec, summary
from tui.prefabs.transcript import Transcript

KNOWN = PrefabSummary("p", "1.0.0", description="d", functions=("f",))
ODD: tuple[Any, ...] = (
    None,
    7,
    HOSTILE,
    [HOSTILE],
    {HOSTILE: HOSTILE},
    True,
    1.5,
    [None],
    {"a": 1},
)


def shown(page: Document) -> str:
    return "\n".join(line.text for line in page.lines)


# The transcript


def kept(*pieces: Any) -> list[str]:
    told = Transcript()
    for piece in pieces:
        told.add(piece)
    told.end()
    return list(told.lines)


def test_text_goes_on_and_values_have_lines_of_their_own() -> None:
    assert kept("a", "b\nc", "d") == ["ab", "cd"]
    assert kept("a\n", "\n", "b") == ["a", "", "b"]
    assert kept("a", {"k": 1}, [2], "b", None, "c") == ["a", '{"k": 1}', "[2]", "b", "null", "c"]
    assert kept("a\r", "\nb\r\n", "c") == ["a", "b", "c"]
    assert kept("\x1b[3", "1mred\x1b[0m\tx") == ["red     x"]
    assert kept("", "\n") == [""] and kept("") == []


@given(st.lists(st.text("ab\n\r\t\x1b[m1", max_size=6), max_size=12))
@example(["\r", "\x1b[m", "\r1"])
@example(["\r\x1b[", "m", "\n1"])
def test_however_text_is_cut_it_is_the_same(pieces: list[str]) -> None:
    assert kept(*pieces) == kept("".join(pieces))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Transcript()
    for number in range(transcript.MAX_LINES * 3):
        told.add(f"{number}\n")
    assert len(told.lines) == transcript.MAX_LINES
    assert told.dropped == transcript.MAX_LINES * 2
    assert told.lines[-1] == str(transcript.MAX_LINES * 3 - 1)
    told.add(BIG * 3)
    assert sum(map(len, told.lines)) <= transcript.MAX_CHARACTERS
    assert max(map(len, told.lines)) <= transcript.MAX_LINE_CHARACTERS
    for _ in range(200):
        told.add("x" * 10_000)
    assert sum(map(len, told.lines)) <= transcript.MAX_CHARACTERS
    told.add({"big": [BIG]})
    assert sum(map(len, told.lines)) <= transcript.MAX_CHARACTERS


# How a run ended


def test_the_two_levels_of_an_output_are_taken_apart() -> None:
    ended = outcome.outcome_of_result(gateway_stub.DONE.data)
    assert ended.result == {"rows": 1000, "columns": ["shop", "day"]} and ended.refusal == ""
    (file,) = ended.files
    assert (file.key, file.name) == ("table", "sales.parquet")
    assert RunFile("k", "s3://b/a/a%20b.csv").name == "a b.csv"
    assert RunFile("k", "").name == "" and RunFile("k", "s3://b/").name == "s3://b/"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"success": False, "error": "no table", "error_code": "E1"}, "no table (E1)"),
        ({"success": False, "message": "empty", "error": "x"}, "empty"),
        ({"success": False, "error": {"message": "deep", "code": "E2"}}, "deep (E2)"),
        ({"success": False}, "no reason given"),
        ({"success": 0, "error": "x"}, ""),
        ({"error": "x"}, ""),
        ("text", ""),
        (None, ""),
    ],
)
def test_what_a_function_itself_says_is_wrong(result: Any, said: str) -> None:
    assert outcome.outcome_of_result({"output": {"output": result}}).refusal == said


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_an_end_of_any_shape_is_an_end(odd: Any) -> None:
    shapes = (odd, {"output": odd}, {"output": {"output": odd, "files": odd}},
              {"output": {"files": {"k": odd, HOSTILE: [odd]}}})  # fmt: skip
    for shape in shapes:
        assert outcome.outcome_of_result(shape).problem is None
    for shape in (odd, {"code": odd, "message": odd, "traceback": odd}):
        problem = outcome.outcome_of_error(shape).problem
        assert problem is not None and problem.code and problem.message


def test_files_of_one_name_do_not_take_each_others_place() -> None:
    files = [RunFile("k", f"s3://b/{n}/{name}") for n, name in enumerate(
        ["a.csv", "A.csv", "a.csv", "..", "%2e%2e%2fetc%2fpasswd", "a%0ab", HOSTILE]
    )]  # fmt: skip
    names = save_outputs.names(files)
    assert names[:3] == ["a.csv", "A-2.csv", "a-3.csv"] and len(set(names)) == len(names)
    assert "passwd" in names[4]
    for name in names:
        assert not set(name) & set('/\\:*?"<>|\n') and name.strip(". ")
        assert_clean(name)


# The spec


def test_a_spec_is_told_with_all_that_it_says() -> None:
    table = spec(gateway_stub.TABLE, KNOWN)
    page = shown(details.document(table))
    for words in (
        "table  1.2.0", "2 versions", "convert", "summarise", "streams its output",
        "at most 120 s", "1.0 G of memory", "without network", "format  choice", "csv parquet xlsx",
        "required", "default 1000", ".csv .parquet .xlsx", "What the table becomes", "rows  integer",
    ):  # fmt: skip
        assert words in page
    assert "Says what" not in shown(details.document(table, "convert"))
    assert "cannot be called" in shown(details.document(spec({"status": "disabled"}, KNOWN)))


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_a_spec_of_any_shape_can_be_read(odd: Any) -> None:
    words = ("id", "version", "name", "description", "status", "versions", "functions")
    inner = ("name", "description", "streaming", "parameters", "returns", "files", "secrets",
             "seconds", "memory_bytes", "network")  # fmt: skip
    function = dict.fromkeys(inner, odd) | {"name": HOSTILE}
    files = {"inputs": {"k": odd, HOSTILE: {"types": odd, "description": odd}}, "outputs": odd}
    for told in (
        dict.fromkeys(words, odd),
        {"functions": [odd, function]},
        {"functions": [{**function, "files": odd}, {**function, "files": files}]},
        {"functions": [{**function, "parameters": {"properties": {HOSTILE: odd}}}]},
        {"functions": [{**function, "returns": {"properties": {HOSTILE: odd}}}]},
    ):
        page = shown(details.document(spec(told, KNOWN)))
        assert_clean(page)
    info = gateway_stub.info("p")
    for word in vars(info):
        setattr(info, word, odd)
    found = summary(info)
    assert found is None or found.id == HOSTILE
    assert_clean(shown(details.outline(KNOWN)) + shown(details.problem(KNOWN, HOSTILE)))
