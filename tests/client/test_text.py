"""Sanitization of untrusted text."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beray.sanitize import one_line, overwritten, printable, printable_output, split_unfinished


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 漢字 😀\ttab\nline", "plain äöü 漢字 😀\ttab\nline"),
        ("\x1b[31mred\x1b[0m \x9b1;2mx", "red x"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b[2J\x1b[", "␛[2J␛["),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\x00\x7f\x85\x9b", "␀␡\ufffd\ufffd"),
        ("a\u202eb\u2066c\u200f", "a\ufffdb\ufffdc\ufffd"),
        ("\ud800x", "\ufffdx"),
        ("[/b] [@click=app.quit]", "[/b] [@click=app.quit]"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None), max_size=200))
def test_no_control_character_remains(text: str) -> None:
    for character in printable(text):
        assert character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs")
        assert unicodedata.bidirectional(character) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip
    printable(text).encode()
    line = one_line(text)
    assert "\n" not in line
    assert len(line) <= 500


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb", "a\nb"),
        ("a\r\r\nb", "a\nb"),
        ("1%\r2%\r\r3%", "1%\r2%\r3%"),
        ("1%\r\x1b[K2%\x1b[0K\r\x9b2K3%", "1%\r2%\r3%"),
        ("\x1b[2J\r\x1b[1A\x07", "␛[2J\r␛[1A␇"),
        ("\r\x1b[32mgreen\x1b[0m", "\rgreen"),
    ],
)
def test_printable_output_keeps_carriage_returns(text: str, shown: str) -> None:
    assert printable_output(text) == shown


def test_overwritten_lines_show_their_last_state() -> None:
    assert overwritten("1%\r2%\r3%") == "3%"
    assert overwritten("x\ny 1%\ry 2%\nz") == "x\ny 2%\nz"
    assert overwritten("plain\n") == "plain\n"


@given(st.text(st.characters(codec=None), max_size=200))
def test_printable_output_keeps_no_other_control_character(text: str) -> None:
    shown = printable_output(text)
    assert printable(shown.replace("\r", "")) == shown.replace("\r", "")
    assert "\r\n" not in shown and "\r\r" not in shown


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("plain", ""),
        ("red\x1b[31m", ""),
        ("line\r", "\r"),
        ("line\r\r", "\r\r"),
        ("line\r\n", ""),
        ("x\x1b", "\x1b"),
        ("x\x1b[3", "\x1b[3"),
        ("x\x9b1;2", "\x9b1;2"),
        ("x\x1b]0;title", ""),
        ("x\x1b[" + "1" * 41, ""),
    ],
)
def test_the_unfinished_end_of_a_chunk_is_kept(text: str, held: str) -> None:
    assert split_unfinished(text) == (text.removesuffix(held), held)


@given(st.lists(st.text("ab\r\n\x1b\x9b[0;m", max_size=10), max_size=8))
def test_the_division_into_chunks_does_not_change_what_is_shown(chunks: list[str]) -> None:
    held, shown = "", ""
    for chunk in chunks:
        complete, held = split_unfinished(held + chunk)
        shown += printable_output(complete)
    shown += printable_output(held)
    whole = printable_output("".join(chunks))
    # Without a colour sequence in between, a CR and the next one are shown as two.
    assert re.sub("\r+", "\r", shown) == whole
