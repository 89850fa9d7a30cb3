"""Events as blocks, blocks as rows, and a window that moves over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.log_events import call, event, long_log, output, page, result, text
from tui.log.model import window as window_module
from tui.log.model.blocks import Block, Builder, Kind
from tui.log.model.event_buffer import PAGE, Record
from tui.log.model.window import Window, numbered
from tui.log.render.layout import Row, rows_of
from tui.log.render.markdown import Renderer

MARKDOWN = Renderer({})
WIDTH = 60


def made(events: Sequence[dict[str, Any]]) -> list[Block]:
    builder = Builder()
    for number, one in enumerate(events, 1):
        builder.feed(one, number)
    return builder.blocks


def rows(blocks: Sequence[Block], width: int = WIDTH, unfolded: bool = False) -> list[Row]:
    return [row for block in blocks for row in rows_of(block, width, unfolded, MARKDOWN.rows)]


def shown(*events: dict[str, Any], unfolded: bool = False) -> list[str]:
    return [row.text for row in rows(made(events), unfolded=unfolded)]


# What a block is


def test_pieces_of_output_flow_into_lines_however_they_were_cut() -> None:
    whole = "one\r\ntwo \x1b[31mand\x1b[0m\n\nthree"
    cuts = {
        tuple(shown(output(whole[:at]), output(whole[at:]), event("x")))[:4]
        for at in range(len(whole) + 1)
    }
    assert cuts == {("one", "two and", "", "three")}


PROGRESS = "".join(f"\rfetching {percent:3} %" for percent in range(101)) + "\r\ndone\n"


@given(st.lists(st.integers(0, len(PROGRESS)), max_size=20))
def test_a_line_that_is_written_over_is_one_row_however_it_was_cut(cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(PROGRESS)})
    pieces = [output(PROGRESS[start:end]) for start, end in pairwise(places)]
    assert shown(output("begin\n"), *pieces) == ["begin", "fetching 100 %", "done"]


def test_progress_of_many_events_is_one_row_per_thousand_and_bounded() -> None:
    events = [output(f"\rfetching {number}") for number in range(20_000)]
    blocks = made(events)
    texts = [row.text for row in rows(blocks)]
    assert texts[-1] == "fetching 19999"
    assert len(texts) <= 21
    assert max(len(block.offsets) for block in blocks) <= 1025
    assert blocks[-1].number_at(0) <= 20_000 == blocks[-1].last


def test_a_window_lets_go_of_progress() -> None:
    window = Window()
    for number in range(1, 20_001):
        window.append([(number, output(f"\rfetching {number}"))])
        if window.too_large:
            window.drop_top()
    assert len(window.events) <= window_module.MOST_EVENTS
    assert window.blocks[-1].text == "fetching 20000"


def test_model_text_is_written_over_as_well() -> None:
    assert shown(text("10 %"), text("\r100 %\n\nend")) == ["100 %", "", "end"]


def test_another_source_or_another_event_begins_anew() -> None:
    blocks = made([text("said"), output("printed"), result("shell", {"exit_code": 2}), text("x")])
    kinds = [block.kind for block in blocks]
    assert kinds == [Kind.TEXT, Kind.OUTPUT, Kind.RESULT, Kind.TEXT]
    assert blocks[2].failed and not blocks[1].failed
    assert shown(text("a", "reviewer"), text("b", "reviewer"), text("c")) == ["reviewer", "ab", "c"]


def test_a_tool_call_its_arguments_and_its_result_are_one_row() -> None:
    events = [call("shell", '{"command"'), call(None, ': "ls"}'), result("shell", {"exit_code": 0})]
    assert shown(*events) == ['shell {"command": "ls"}  ✓ exit 0']
    (block,) = made(events)
    assert (block.first, block.last) == (1, 3)
    assert shown(*events, unfolded=True) == [
        "shell", "{", '  "command": "ls"', "}", "exit 0",
    ]  # fmt: skip


def test_a_folded_call_keeps_to_one_row_and_shows_how_it_ended() -> None:
    for width in (20, 40, 200):
        events = [call("a_tool_with_a_name", '{"x": "%s"}' % ("y" * 5000)), result("other", 1)]
        events[1] = result("a_tool_with_a_name", {"exit_code": 3})
        (row,) = rows(made(events), width)
        assert len(row.text) <= width
        assert row.text.endswith("exit 3") or width < 40
        assert row.mark == "▸"


def test_a_result_stands_alone_where_it_is_not_sure_what_it_answers() -> None:
    two = [call("a", "1"), call("a", "2"), result("a", "first"), result("a", "second")]
    assert shown(*two) == ["a 1", "a 2", "a  first", "a  second"]
    between = [call("shell", "{}"), output("x\n"), result("shell", {"exit_code": 1})]
    assert shown(*between) == ["shell {}", "x", "shell  exit 1"]


def test_outputs_of_parallel_calls_stand_apart_under_their_calls() -> None:
    def output(words: str, call_id: str) -> Any:
        return text(words, "tools:run_command", call_id)

    blocks = made(
        [
            call("run_command", "make", "1"),
            call("run_command", "test", "2"),
            output("a\n", "1"),
            output("x\n", "2"),
            output("b\n", "1"),
            event("AGENT_EVENT_CUSTOM_UPDATE", payload={"message": "half"}),
            output("c\n", "1"),
            result("run_command", {"exit_code": 0}, "1"),
            output("y\n", "2"),
            result("run_command", {"exit_code": 1}, "2"),
            call("run_command", "ls", "3"),
            output("alone\n", "3"),
            result("run_command", {"exit_code": 0}, "3"),
        ]
    )
    assert [(row.mark, row.text) for row in rows(blocks)] == [
        ("▸", "run_command make"),
        ("▸", "run_command test"),
        ("▹", "run_command make"),
        ("", "a"),
        ("▹", "run_command test"),
        ("", "x"),
        ("▹", "run_command make"),
        ("", "b"),
        ("·", "half"),
        ("", "c"),
        ("✓", "run_command  exit 0"),
        ("▹", "run_command test"),
        ("", "y"),
        ("✗", "run_command  exit 1"),
        ("▸", "run_command ls"),
        ("", "alone"),
        ("✓", "run_command  exit 0"),
    ]


def test_a_result_that_follows_the_output_of_another_call_names_its_call() -> None:
    blocks = made(
        [
            call("run_command", "make", "1"),
            call("run_command", "test", "2"),
            text("x\n", "tools:run_command", "2"),
            result("run_command", {"exit_code": 0}, "1"),
        ]
    )
    assert rows(blocks)[-1].text == "run_command make  exit 0"


def test_files_are_links_and_other_updates_are_notes() -> None:
    changed = event("AGENT_EVENT_CUSTOM_UPDATE", payload={"kind": "file_changed", "path": "a/b.c"})
    blocks = made([
        event("AGENT_EVENT_SEND_FILE", path="out.md"), changed,
        event("AGENT_EVENT_CUSTOM_UPDATE", payload={"message": "half\ndone"}),
        event("LATER", note="kept"),
    ])  # fmt: skip
    assert [(block.kind, block.path) for block in blocks] == [
        (Kind.FILE, "out.md"), (Kind.FILE, "a/b.c"), (Kind.NOTE, ""), (Kind.NOTE, ""),
    ]  # fmt: skip
    texts = [row.text for row in rows(blocks)]
    assert texts == ["out.md", "a/b.c", "half", "done", '{"type": "LATER", "note": "kept"}']


def test_a_deeply_nested_result_is_no_end_of_the_log() -> None:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    assert shown(result("t", deep)) == ["t  (nested too deeply to show)"]
    assert "(nested too deeply to show)" in shown(result("t", deep), unfolded=True)


def test_an_endless_flow_is_many_bounded_pieces() -> None:
    for events in (
        [output("x" * 1_000_000)],
        [output("line\n") for _ in range(5000)],
        [text("word " * 1000) for _ in range(50)],
        [text("```\n"), *(text("code\n") for _ in range(3000))],
        [text("a paragraph\n\n") for _ in range(500)],
    ):
        blocks = made(events)
        assert len(blocks) > 10
        assert max(len(block.text) for block in blocks) <= 18_000
        assert "".join(block.text for block in blocks) == "".join(one["text"] for one in events)


def test_code_stays_code_across_its_pieces() -> None:
    events = [
        text("```py\n"),
        *(text(f"x = {n}  # *not bold*\n") for n in range(500)),
        text("```\n"),
    ]
    texts = shown(*events)
    assert texts == [f"▏ x = {number}  # *not bold*" for number in range(500)]


def test_markdown_is_rendered_and_output_never_is() -> None:
    words = "# Title\n\nSome **bold** [words](http://x.test)\n\n- one\n- two\n"
    assert shown(text(words)) == [
        "Title", "", "Some bold words (http://x.test)", "", " • one", " • two",
    ]  # fmt: skip
    assert shown(output(words)) == words.rstrip("\n").split("\n")


def test_what_markdown_decodes_goes_through_the_gate_again() -> None:
    hostile = "&#x202e;a &#27;[31m &#x9b;2J &#0; <b>html</b> ![im&#x202e;g](s&#27;rc) [l](&#x202e;)\n\n|&#27;|\n|-|\n|&#x85;|"
    texts = "".join(shown(text(hostile)))
    assert "<b>html</b>" in texts
    assert not set(texts) & set("\x1b\x9b\x85\x00\u202e")


@pytest.mark.parametrize("words", ["> " * 30 + "deep", "- " * 30 + "deep", "1. " * 40 + "deep"])
def test_what_is_nested_too_deeply_is_shown_as_it_is(words: str) -> None:
    assert "deep" in "".join(shown(text(words)))


@pytest.mark.parametrize("width", [1, 2, 5, 24])
def test_the_narrowest_view_lays_out_everything(width: int) -> None:
    events = [
        text("# h\n\n> > q\n\n- a\n  - b\n\n|a|b|\n|-|-|\n|日本語|2|\n\n```\ncode\n```\n"),
        output("日本語\tx\n"), call("n" * 90, "{}"), result("n" * 90, {"exit_code": 1}), event("x"),
    ]  # fmt: skip
    assert rows(made(events), width) and rows(made(events), width, unfolded=True)


def test_a_broken_answer_is_removed_and_what_is_beside_it_stays() -> None:
    events = [
        text("before"),
        result("a", 1),
        text("hm", "thinking"),
        text("The ans"),
        event("AGENT_EVENT_SEND_FILE", path="out.txt"),
        text("wer is 4"),
        call("wrong", "{}"),
        text("It starts again.") | {"retracts": [3, 7]},
        text("The answer is 42."),
    ]
    assert shown(*events) == ["before", "a  1", "out.txt", "The answer is 42."]
    window = Window(5)
    window.append(list(enumerate(events, 1))[5:])
    assert [block.text for block in window.blocks] == ["The answer is 42."]
    window.prepend(list(enumerate(events, 1))[:5])
    same(window.blocks, made(events))


# Any events, in any groups

RETRACTION = text("It starts again.")


def with_spans(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Have each ``RETRACTION`` retract what was said since the last result, error or retraction."""
    found: list[dict[str, Any]] = []
    first = 1
    for number, one in enumerate(events, 1):
        if one is RETRACTION:
            one = one | ({"retracts": [first, number - 1]} if first < number else {})
        if "retracts" in one or one["type"] in ("AGENT_EVENT_TOOL_RESULT", "ERROR"):
            first = number + 1
        found.append(one)
    return found


WORDS = st.text(st.sampled_from("ab \n`*#->1.\t\r\x1b[|é日"), max_size=30)
CALL_IDS = st.sampled_from(["", "1", "2"])
EVENTS = st.lists(
    st.one_of(
        st.builds(text, WORDS, st.sampled_from(["main", "main", "tools:sh", "other"]), CALL_IDS),
        st.builds(call, st.sampled_from(["a", "b", None]), WORDS, CALL_IDS),
        st.builds(result, st.sampled_from(["a", "b"]), WORDS, CALL_IDS),
        st.builds(lambda path: event("AGENT_EVENT_SEND_FILE", path=path), WORDS),
        st.builds(lambda words: event("ERROR", code="C", details=words), WORDS),
        st.just(RETRACTION),
    ),
    max_size=40,
).map(with_spans)


def same(blocks: Sequence[Block], others: Sequence[Block]) -> None:
    fields = (
        "kind",
        "first",
        "last",
        "context",
        "text",
        "arguments",
        "answered",
        "left",
        "caption",
    )
    for block, other in zip(blocks, others, strict=True):
        for name in fields:
            assert getattr(block, name) == getattr(other, name), name


@given(EVENTS, st.data())
@settings(max_examples=100, deadline=None)
def test_the_same_events_in_any_groups_give_the_same_rows(events: Any, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=6)))
    window = Window()
    last = 0
    for start, end in pairwise([0, *cuts, len(events)]):
        window.append(numbered(events[start:end], last))
        rows(window.blocks)  # laid out in between: that changes nothing
        last = window.last
    same(window.blocks, made(events))
    assert rows(window.blocks) == rows(made(events))


@given(EVENTS, st.data())
@settings(max_examples=100, deadline=None)
def test_a_window_that_grew_at_its_top_is_the_one_that_was_read_from_there(
    events: Any, data: Any
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), min_size=1, max_size=4)))
    pairs = numbered(events, 0)
    window = Window(cuts[-1])
    window.append(pairs[cuts[-1] :])
    for start, end in reversed(list(pairwise([0, *cuts]))):
        window.prepend(pairs[start:end])
    same(window.blocks, made(events))
    more = numbered([text("more\n\nmore"), call(None, "{}"), event("x")], window.last)
    window.append(more)
    same(window.blocks, made([*events, *(one for _, one in more)]))  # type: ignore[list-item]


@given(EVENTS, st.data())
@settings(max_examples=100, deadline=None)
def test_what_a_window_let_go_comes_back_as_it_was(events: Any, data: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_module, "MOST_EVENTS", data.draw(st.integers(1, 12)))
        patch.setattr(window_module, "MOST_WEIGHT", data.draw(st.integers(4, 40)))
        pairs = numbered(events, 0)
        window = Window()
        window.append(pairs)
        window.drop_top()
        assert not pairs or window.last == len(events)
        window.prepend([pair for pair in pairs if pair[0] < window.first])
        same(window.blocks, made(events))
        window.drop_bottom()
        assert window.first == 1
        window.append(pairs)
        same(window.blocks, made(events))


def texts_of(record: Record) -> list[str]:
    return [row.text for row in rows(record.window.blocks)]


def test_a_record_pages_over_a_log_of_any_length_and_shows_every_line_once() -> None:
    log = long_log(30_000)
    record = Record(len(log))
    assert record.begin == len(log) - PAGE
    record.take(log[record.begin :])
    assert texts_of(record)[-1] == "line 30000" and record.attached
    seen = len(record.window.events)
    while (wanted := record.wanted(before=True)) is not None:
        top = texts_of(record)[0]
        record.arrived(wanted, page(log, wanted.after, wanted.limit))
        texts = texts_of(record)
        first = record.window.first
        assert texts == [f"line {first + n}" for n in range(len(texts))]
        assert top in texts
        seen = max(seen, len(record.window.events))
    assert record.window.first == 1 and not record.attached
    assert seen <= window_module.MOST_EVENTS + PAGE
    while (wanted := record.wanted(before=False)) is not None:
        record.arrived(wanted, page(log, wanted.after, wanted.limit))
    assert record.attached and texts_of(record)[-1] == "line 30000"
    assert len(record.window.events) <= window_module.MOST_EVENTS


def test_the_end_is_there_at_once_wherever_the_window_is() -> None:
    log = long_log(12_000)
    record = Record(10_000)
    record.take(log[record.begin : 10_000])
    record.show(0, page(log, 0, 500))
    for start in range(10_000, 12_000, 100):
        record.take(log[start : start + 100], held=True)
    assert not record.attached and texts_of(record)[0] == "line 1"
    assert len(record.window.events) == 500
    record.show_end()
    assert record.attached and texts_of(record)[-1] == "line 12000"
    assert record.total == 12_000


def test_a_server_that_gives_events_only_once_is_read_from_the_start() -> None:
    record = Record(None)
    assert record.begin == 0
    for start in range(0, 20_000, 1000):
        events = [output(f"line {number}\n") for number in range(start + 1, start + 1001)]
        record.take(events, held=True)
        assert len(record.window.events) <= window_module.MOST_EVENTS
    assert record.attached and texts_of(record)[-1] == "line 20000"
    assert record.has_earlier and record.wanted(before=True) is None


def test_pages_of_long_events_are_taken_in_part_and_nothing_is_skipped() -> None:
    log = [
        {**output("".join(f"line {50 * n + i}\n" for i in range(50))), "seq": n + 1}
        for n in range(1000)
    ]
    record = Record(len(log))
    record.take(log[record.begin :])
    while (wanted := record.wanted(before=True)) is not None:
        top = texts_of(record)[0]
        record.arrived(wanted, page(log, wanted.after, wanted.limit))
        assert top in texts_of(record), "the reader's place was let go"
    assert texts_of(record)[0] == "line 0"
    while (wanted := record.wanted(before=False)) is not None:
        bottom = texts_of(record)[-1]
        record.arrived(wanted, page(log, wanted.after, wanted.limit))
        texts = texts_of(record)
        assert bottom in texts and len(texts) < 12_000
        first = int(texts[0].split()[1])
        assert texts == [f"line {number}" for number in range(first, first + len(texts))]
    assert record.attached
    record.show(300, page(log, 300, 500), 550)
    assert record.window.first <= 550 <= record.window.last
    assert record.window.weight < 8000


# What the user of a chat says


def test_what_a_user_says_keeps_its_lines_and_leads_to_its_files() -> None:
    said = event("USER_MESSAGE", text="one\n  two\n\nthree\n", attachments=["/workspace/a", "b/c"])
    (block,) = made([said])
    laid_out = rows([block])
    assert [row.text for row in laid_out] == ["one", "  two", "", "three", "a", "b/c"]
    assert [row.mark for row in laid_out] == ["›", "", "", "", "⇧", "⇧"]
    assert [row.path for row in laid_out[-2:]] == ["a", "b/c"] and block.files == ("a", "b/c")
    assert shown(event("USER_MESSAGE", text="x" * 200_001))[-1] == "… 1 more characters"
    assert made([event("USER_MESSAGE", text=7, attachments="x")])[0].paths == ()
