"""Tests of blocks, rows, windows and the event buffer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.log_events import call, event, long_log, output, page, result, text
from tui.events import window as window_module
from tui.events.blocks import Block, BlockBuilder, BlockKind
from tui.events.event_buffer import PAGE, EventBuffer
from tui.events.window import EventWindow, number_events
from tui.log.render.layout import LogRow, layout_block
from tui.log.render.markdown import MarkdownRenderer

MARKDOWN = MarkdownRenderer({})
WIDTH = 60


def made(events: Sequence[dict[str, Any]]) -> list[Block]:
    builder = BlockBuilder()
    for number, one in enumerate(events, 1):
        builder.feed(one, number)
    return builder.blocks


def rows(blocks: Sequence[Block], width: int = WIDTH, unfolded: bool = False) -> list[LogRow]:
    return [row for block in blocks for row in layout_block(block, width, unfolded, MARKDOWN.rows)]


def shown(*events: dict[str, Any], unfolded: bool = False) -> list[str]:
    return [row.text for row in rows(made(events), unfolded=unfolded)]


# Blocks


def test_chunks_of_output_form_the_same_lines_for_any_division() -> None:
    whole = "one\r\ntwo \x1b[31mand\x1b[0m\n\nthree"
    cuts = {
        tuple(shown(output(whole[:at]), output(whole[at:]), event("x")))[:4]
        for at in range(len(whole) + 1)
    }
    assert cuts == {("one", "two and", "", "three")}


PROGRESS = "".join(f"\rfetching {percent:3} %" for percent in range(101)) + "\r\ndone\n"


@given(st.lists(st.integers(0, len(PROGRESS)), max_size=20))
def test_an_overwritten_line_is_one_row_for_any_division(cuts: list[int]) -> None:
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


def test_window_drops_overwritten_lines() -> None:
    window = EventWindow()
    for number in range(1, 20_001):
        window.append([(number, output(f"\rfetching {number}"))])
        if window.too_large:
            window.drop_top()
    assert len(window.events) <= window_module.MAX_EVENTS
    assert window.blocks[-1].text == "fetching 20000"


def test_carriage_return_overwrites_model_text() -> None:
    assert shown(text("10 %"), text("\r100 %\n\nend")) == ["100 %", "", "end"]


def test_a_change_of_source_or_event_type_starts_a_block() -> None:
    blocks = made([text("said"), output("printed"), result("shell", {"exit_code": 2}), text("x")])
    kinds = [block.kind for block in blocks]
    assert kinds == [BlockKind.TEXT, BlockKind.OUTPUT, BlockKind.RESULT, BlockKind.TEXT]
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


def test_a_folded_call_is_one_row_with_its_result() -> None:
    for width in (20, 40, 200):
        events = [call("a_tool_with_a_name", '{"x": "%s"}' % ("y" * 5000)), result("other", 1)]
        events[1] = result("a_tool_with_a_name", {"exit_code": 3})
        (row,) = rows(made(events), width)
        assert len(row.text) <= width
        assert row.text.endswith("exit 3") or width < 40
        assert row.symbol == "▸"


def test_a_result_of_an_ambiguous_call_is_a_separate_block() -> None:
    two = [call("a", "1"), call("a", "2"), result("a", "first"), result("a", "second")]
    assert shown(*two) == ["a 1", "a 2", "a  first", "a  second"]
    between = [call("shell", "{}"), output("x\n"), result("shell", {"exit_code": 1})]
    assert shown(*between) == ["shell {}", "x", "shell  exit 1"]


def test_outputs_of_parallel_calls_are_shown_under_their_calls() -> None:
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
    assert [(row.symbol, row.text) for row in rows(blocks)] == [
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
        (BlockKind.FILE, "out.md"), (BlockKind.FILE, "a/b.c"), (BlockKind.NOTE, ""), (BlockKind.NOTE, ""),
    ]  # fmt: skip
    texts = [row.text for row in rows(blocks)]
    assert texts == ["out.md", "a/b.c", "half", "done", '{"type": "LATER", "note": "kept"}']


def history(kind: str, **fields: Any) -> Any:
    return event("AGENT_EVENT_CUSTOM_UPDATE", source="history", payload={"kind": kind, **fields})


def test_changed_files_are_counted_on_one_line() -> None:
    counts = {"added": 1, "modified": 2, "deleted": 0, "lines_added": 1200, "lines_deleted": 3}
    built = made([history("checkpoint", checkpoint="c4", seq=17, reason="step", **counts)])
    assert [(block.kind, block.text, block.symbol) for block in built] == [
        (BlockKind.CHECKPOINT, "c4 · 3 files changed +1,200 −3", "±")
    ]
    (row,) = layout_block(built[0], 60, False, None)
    assert row.spans == (
        ("c4 · 3 files changed", "event--note"),
        (" +1,200", "event--added"),
        (" −3", "event--deleted"),
    )
    (row,) = layout_block(built[0], 12, False, None)
    assert (row.text, row.spans) == ("c4 · 3 file…", None)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"checkpoint": "c4"}, "c4 · 0 files changed"),
        ({"checkpoint": "c4", "added": 1}, "c4 · 1 file changed"),
        ({"checkpoint": "c4", "added": "1", "deleted": -1, "lines_added": True}, "c4 · 0 files"),
        ({"checkpoint": "\x1b[31m"}, '{"kind": "checkpoint", "checkpoint": "\\u001b[31m"}'),
        ({"checkpoint": 4}, '{"kind": "checkpoint", "checkpoint": 4}'),
        ({}, '{"kind": "checkpoint"}'),
    ],
)
def test_incomplete_updates_of_checkpoints_are_shown(fields: dict[str, Any], text: str) -> None:
    (block,) = made([history("checkpoint", **fields)])
    assert block.text.startswith(text)
    assert (block.checkpoint is None) == (block.kind is BlockKind.NOTE)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"message": "Too large", "paths": ["a", "b"], "count": 2}, "Too large: a, b"),
        ({"message": "M", "paths": list("abcde"), "count": 9}, "M: a, b, c and 6 more"),
        ({"message": "M", "paths": ["a\nb", 1], "count": "x"}, "M: a b"),
        ({"message": "M", "paths": {"a": 1}}, "M"),
        ({"message": 1}, "Content not stored"),
    ],
)
def test_content_that_is_not_stored_is_a_warning(fields: dict[str, Any], text: str) -> None:
    (block,) = made([history("not_stored", **fields)])
    assert (block.text, block.style, block.symbol) == (text, "event--warning", "!")


def test_changed_files_do_not_separate_an_output_from_its_call() -> None:
    call = event("AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="shell", args_chunk="{}", call_id="1")
    other = event("AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="shell", args_chunk="{}", call_id="2")
    output = event("AGENT_EVENT_TEXT_CHUNK", source="tools:shell", text="a\n", call_id="1")
    built = made([call, other, history("checkpoint", checkpoint="c2"), output])
    assert built[-1].caption == "shell {}"


def test_a_deeply_nested_result_is_replaced_by_a_note() -> None:
    deep: Any = "bottom"
    for _ in range(100_000):
        deep = [deep]
    assert shown(result("t", deep)) == ["t  (nested too deeply to show)"]
    assert "(nested too deeply to show)" in shown(result("t", deep), unfolded=True)


def test_long_text_is_divided_into_bounded_pieces() -> None:
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


def test_a_code_block_continues_across_pieces() -> None:
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


def test_character_references_in_markdown_are_sanitized() -> None:
    hostile = "&#x202e;a &#27;[31m &#x9b;2J &#0; <b>html</b> ![im&#x202e;g](s&#27;rc) [l](&#x202e;)\n\n|&#27;|\n|-|\n|&#x85;|"
    texts = "".join(shown(text(hostile)))
    assert "<b>html</b>" in texts
    assert not set(texts) & set("\x1b\x9b\x85\x00\u202e")


@pytest.mark.parametrize("words", ["> " * 30 + "deep", "- " * 30 + "deep", "1. " * 40 + "deep"])
def test_deeply_nested_markdown_is_shown_unrendered(words: str) -> None:
    assert "deep" in "".join(shown(text(words)))


@pytest.mark.parametrize("width", [1, 2, 5, 24])
def test_the_narrowest_view_lays_out_everything(width: int) -> None:
    events = [
        text("# h\n\n> > q\n\n- a\n  - b\n\n|a|b|\n|-|-|\n|日本語|2|\n\n```\ncode\n```\n"),
        output("日本語\tx\n"), call("n" * 90, "{}"), result("n" * 90, {"exit_code": 1}), event("x"),
    ]  # fmt: skip
    assert rows(made(events), width) and rows(made(events), width, unfolded=True)


def test_only_the_retracted_answer_is_removed() -> None:
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
    window = EventWindow(5)
    window.append(list(enumerate(events, 1))[5:])
    assert [block.text for block in window.blocks] == ["The answer is 42."]
    window.prepend(list(enumerate(events, 1))[:5])
    same(window.blocks, made(events))


# Any events, in any groups

RETRACTION = text("It starts again.")


def with_spans(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let each ``RETRACTION`` retract the events since the last result, error or retraction."""
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
        "has_result",
        "remainder",
        "caption",
    )
    for block, other in zip(blocks, others, strict=True):
        for name in fields:
            assert getattr(block, name) == getattr(other, name), name


@given(EVENTS, st.data())
@settings(max_examples=100, deadline=None)
def test_rows_are_independent_of_the_batches_of_events(events: Any, data: Any) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=6)))
    window = EventWindow()
    last = 0
    for start, end in pairwise([0, *cuts, len(events)]):
        window.append(number_events(events[start:end], last))
        rows(window.blocks)  # laid out in between: that changes nothing
        last = window.last
    same(window.blocks, made(events))
    assert rows(window.blocks) == rows(made(events))


@given(EVENTS, st.data())
@settings(max_examples=100, deadline=None)
def test_prepending_events_gives_the_same_blocks_as_reading_from_there(
    events: Any, data: Any
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), min_size=1, max_size=4)))
    pairs = number_events(events, 0)
    window = EventWindow(cuts[-1])
    window.append(pairs[cuts[-1] :])
    for start, end in reversed(list(pairwise([0, *cuts]))):
        window.prepend(pairs[start:end])
    same(window.blocks, made(events))
    more = number_events([text("more\n\nmore"), call(None, "{}"), event("x")], window.last)
    window.append(more)
    same(window.blocks, made([*events, *(one for _, one in more)]))  # type: ignore[list-item]


@given(EVENTS, st.data())
@settings(max_examples=100, deadline=None)
def test_dropped_events_can_be_added_again(events: Any, data: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_module, "MAX_EVENTS", data.draw(st.integers(1, 12)))
        patch.setattr(window_module, "MAX_WEIGHT", data.draw(st.integers(4, 40)))
        pairs = number_events(events, 0)
        window = EventWindow()
        window.append(pairs)
        window.drop_top()
        assert not pairs or window.last == len(events)
        window.prepend([pair for pair in pairs if pair[0] < window.first])
        same(window.blocks, made(events))
        window.drop_bottom()
        assert window.first == 1
        window.append(pairs)
        same(window.blocks, made(events))


def texts_of(buffer: EventBuffer) -> list[str]:
    return [row.text for row in rows(buffer.window.blocks)]


def test_paging_through_a_long_log_shows_every_line_once() -> None:
    log = long_log(30_000)
    buffer = EventBuffer(len(log))
    assert buffer.start_after == len(log) - PAGE
    buffer.append(log[buffer.start_after :])
    assert texts_of(buffer)[-1] == "line 30000" and buffer.at_end
    seen = len(buffer.window.events)
    while (request := buffer.next_page(before=True)) is not None:
        top = texts_of(buffer)[0]
        buffer.add_page(request, page(log, request.after, request.limit))
        texts = texts_of(buffer)
        first = buffer.window.first
        assert texts == [f"line {first + n}" for n in range(len(texts))]
        assert top in texts
        seen = max(seen, len(buffer.window.events))
    assert buffer.window.first == 1 and not buffer.at_end
    assert seen <= window_module.MAX_EVENTS + PAGE
    while (request := buffer.next_page(before=False)) is not None:
        buffer.add_page(request, page(log, request.after, request.limit))
    assert buffer.at_end and texts_of(buffer)[-1] == "line 30000"
    assert len(buffer.window.events) <= window_module.MAX_EVENTS


def test_the_end_is_available_from_any_position() -> None:
    log = long_log(12_000)
    buffer = EventBuffer(10_000)
    buffer.append(log[buffer.start_after : 10_000])
    buffer.move_to(0, page(log, 0, 500))
    for start in range(10_000, 12_000, 100):
        buffer.append(log[start : start + 100], keep_window=True)
    assert not buffer.at_end and texts_of(buffer)[0] == "line 1"
    assert len(buffer.window.events) == 500
    buffer.move_to_end()
    assert buffer.at_end and texts_of(buffer)[-1] == "line 12000"
    assert buffer.total == 12_000


def test_log_of_a_server_without_paging_is_read_from_the_start() -> None:
    buffer = EventBuffer(None)
    assert buffer.start_after == 0
    for start in range(0, 20_000, 1000):
        events = [output(f"line {number}\n") for number in range(start + 1, start + 1001)]
        buffer.append(events, keep_window=True)
        assert len(buffer.window.events) <= window_module.MAX_EVENTS
    assert buffer.at_end and texts_of(buffer)[-1] == "line 20000"
    assert buffer.has_earlier and buffer.next_page(before=True) is None


def test_pages_of_long_events_are_added_in_parts_without_gaps() -> None:
    log = [
        {**output("".join(f"line {50 * n + i}\n" for i in range(50))), "seq": n + 1}
        for n in range(1000)
    ]
    buffer = EventBuffer(len(log))
    buffer.append(log[buffer.start_after :])
    while (request := buffer.next_page(before=True)) is not None:
        top = texts_of(buffer)[0]
        buffer.add_page(request, page(log, request.after, request.limit))
        assert top in texts_of(buffer), "the reader's place was let go"
    assert texts_of(buffer)[0] == "line 0"
    while (request := buffer.next_page(before=False)) is not None:
        bottom = texts_of(buffer)[-1]
        buffer.add_page(request, page(log, request.after, request.limit))
        texts = texts_of(buffer)
        assert bottom in texts and len(texts) < 12_000
        first = int(texts[0].split()[1])
        assert texts == [f"line {number}" for number in range(first, first + len(texts))]
    assert buffer.at_end
    buffer.move_to(300, page(log, 300, 500), 550)
    assert buffer.window.first <= 550 <= buffer.window.last
    assert buffer.window.weight < 8000


# Messages of the user


def test_a_user_message_keeps_its_lines_and_links_to_its_files() -> None:
    said = event("USER_MESSAGE", text="one\n  two\n\nthree\n", attachments=["/workspace/a", "b/c"])
    (block,) = made([said])
    laid_out = rows([block])
    assert [row.text for row in laid_out] == ["one", "  two", "", "three", "a", "b/c"]
    assert [row.symbol for row in laid_out] == ["›", "", "", "", "⇧", "⇧"]
    assert [row.path for row in laid_out[-2:]] == ["a", "b/c"] and block.files == ("a", "b/c")
    assert shown(event("USER_MESSAGE", text="x" * 200_001))[-1] == "… 1 more characters"
    assert made([event("USER_MESSAGE", text=7, attachments="x")])[0].paths == ()
