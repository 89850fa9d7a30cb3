"""The output module without a command."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from beray.cli import output, progress, render
from tests.cli.cli_support import Command, ScriptedServer


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Stdout and stderr on one terminal."""
    screen = Screen()
    # pytest replaces the streams in sys after the fixtures have run.
    monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=screen, stderr=screen))
    return screen


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Stdout in a pipe, stderr on a terminal."""
    pipe = io.StringIO()
    monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=pipe, stderr=Screen()))
    return pipe


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_split_colour_sequence_or_crlf_is_joined(screen: Screen, cut: int) -> None:
    text = "a\x1b[31mb\r\nc\x9b0md\n"
    flow = output.TextWriter()
    flow.write(text[:cut])
    flow.write(text[cut:])
    flow.finish()
    assert screen.getvalue() == "ab\ncd\n"


def test_incomplete_sequences_are_written_at_the_end(screen: Screen) -> None:
    flow = output.TextWriter()
    flow.write("a\x1b[3")
    flow.finish()
    assert screen.getvalue() == "a\u241b[3\n"


def test_a_note_starts_a_new_line(screen: Screen) -> None:
    flow = output.TextWriter()
    flow.write("half a line")
    flow.note("a note")
    flow.write("whole\n")
    flow.note("another")
    flow.finish()
    assert screen.getvalue() == "half a line\na note\nwhole\nanother\n"


def test_a_pipe_receives_only_the_text(pipe: io.StringIO) -> None:
    flow = output.TextWriter()
    flow.write("half a line")
    flow.note("a note")
    flow.finish()
    assert pipe.getvalue() == "half a line"


def test_a_table_is_aligned_by_cells_and_cut_to_the_width(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    output.table([["1", "中文", "x" * 40], ["10", "abcd", "[/b]"], ["2", "é", "a\nb\tc"]])
    assert screen.getvalue().splitlines() == [
        "1   中文  xxxxxxxxx…",
        "10  abcd  [/b]",
        "2   é     a␊b␉c",
    ]


def test_tabs_and_newlines_in_cells_are_replaced(pipe: io.StringIO) -> None:
    output.row(["a\tb", "c\nd\x1b"])
    assert pipe.getvalue() == "a␉b\tc␊d␛\n"


def test_a_narrow_encoding_does_not_end_the_program(
    beray: Command, scripted: ScriptedServer
) -> None:
    task = {"id": 1, "goal": "中文 ␛", "status": "RUNNING"}
    scripted.answers |= {
        "GET /tasks/": (200, [task]),
        "GET /tasks/2": (404, {"detail": "没有"}),
    }
    outcome = beray("tasks", encoding="ascii")
    assert outcome.status == 0
    assert outcome.out == "1\tRUNNING\t\t\\u4e2d\\u6587 \\u241b\n"
    assert beray("show", "2", encoding="ascii").err == "beray: \\u6ca1\\u6709 (404)\n"


def test_json_is_ascii_and_complete(beray: Command, scripted: ScriptedServer) -> None:
    task = {"id": 1, "goal": "中\x1b]0;x\x07\x9b2J\u202e\ud800", "status": "RUNNING", "new": [1]}
    scripted.answers["GET /tasks/"] = 200, [task]
    outcome = beray("tasks", "--json")
    assert outcome.json == [task]
    assert outcome.raw_out.isascii()
    assert all(byte >= 0x20 or byte == 0x0A for byte in outcome.raw_out)


def test_a_progress_bar_sanitizes_the_file_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress_bars() as begin:
        begin("evil \x1b]0;x\x07 [red]name[/b]").advance(1, 2)
    assert "evil ␛]0;x␇ [red]name[/b]" in screen.getvalue()
    assert "\x1b]0;" not in screen.getvalue()


def test_a_pipe_gets_no_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress.progress_bars() as begin:
        begin("name").advance(1, 2)
    assert pipe.getvalue() == ""


def test_an_overwritten_line_is_one_line(
    screen: Screen, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    for stream in (screen, pipe):
        monkeypatch.setattr(output, "sys", SimpleNamespace(stdout=stream, stderr=Screen()))
        flow = output.TextWriter()
        for piece in ("begin\n1", "0 %\r", "55 %", "\r100 %\r", "\n", "end\r"):
            flow.write(piece)
        flow.finish()
        written.append(stream.getvalue())
    assert written[0] == "begin\n10 %\r\x1b[K55 %\r\x1b[K100 %\nend\n"
    assert written[1] == "begin\n10 %\r55 %\r100 %\nend\r"


def test_null_in_an_event_is_not_printed_as_text() -> None:
    for event in (
        {"type": "AGENT_EVENT_TEXT_CHUNK", "text": None, "source": None},
        {"type": "AGENT_EVENT_END", "tokens_used": None},
    ):
        assert render.summarize(event) == ""
    called = {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": "t", "args_chunk": None}
    assert render.summarize(called) == "t"
