"""The gate for text from outside."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beray.text import one_line, printable


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
def test_nothing_gets_through(text: str) -> None:
    for character in printable(text):
        assert character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs")
        assert unicodedata.bidirectional(character) not in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        )  # fmt: skip
    printable(text).encode()
    line = one_line(text)
    assert "\n" not in line
    assert len(line) <= 500
