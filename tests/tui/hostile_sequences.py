"""Terminal sequences from outside, and the patterns that find them in the dashboard's output."""

from __future__ import annotations

import re

EVIL = "\x1b]0;EVIL\x07\x1b[2JEVIL\x9b31mEVIL\x1bPEVIL\x1b\\EVIL\x9dEVIL\x07EVIL\x08\x0e\x7f\u202e"
"""The word stands behind everything that a terminal obeys, so it shows whose a sequence is."""

# What Textual itself writes never has that word behind it, nor a C1 or a bell anywhere.
FOREIGN = re.compile(
    rb"\x1b\]|\x1bP|\x1b\[2J ?EVIL|[\x07\x08\x0e\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae|\x9b31m"
)


OWN = re.compile(
    rb"\x1b\]22;[a-z]*(?:\x1b\\|\x07)"  # Textual's: the shape of the mouse pointer
    rb"|\x1b\]0;(?:BeRay[^\x00-\x1f\x7fE]*)?\x1b\\|\x1b\]9;4;\d;\d+\x1b\\"
)


def own(raw: bytes) -> bytes:
    """Without the strings that the dashboard sends a terminal in its own name."""
    return OWN.sub(b"", raw)
