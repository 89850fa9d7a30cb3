"""Sanitization of untrusted text before it is displayed, for the command and the dashboard.

Goals, events, file names and error messages may contain control characters that a terminal would
interpret. ``printable`` replaces characters that could control a terminal, or reorder the displayed
text, with visible substitutes. It does not handle markup: its result must be displayed as plain
text.
"""

from __future__ import annotations

import re
import unicodedata

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_SEPARATORS = "\u2028\u2029"

# SGR sequences, which only select colours, are common in the output of compilers and ls.
_COLOUR = re.compile(r"(?:\x1b\[|\x9b)[0-9;:]*m")
_CR = re.compile(r"\r\n?")
_NEWLINE = re.compile(r"\r+\n")
_ERASE = re.compile(r"(?:\x1b\[|\x9b)[012]?K")
_REDRAW = re.compile(r"\r+")
_SEQUENCE = r"(?:\x1b\[|\x9b)[0-9;:]{0,40}[mK]"
_START = r"\x1b(?:\[[0-9;:]{0,40})?|\x9b[0-9;:]{0,40}"
# Sequences after a CR are removed, so that a line feed or another CR may follow it directly.
_UNFINISHED = re.compile(rf"(?:\r(?:\r|{_SEQUENCE})*(?:{_START})?|{_START})\Z")
_MAX_UNFINISHED_CHARS = 1024
"""Length of the end of a chunk in which an incomplete sequence is searched."""


def normalized_password(password: str) -> str:
    """Return a password in NFKC form, in which it is sent, hashed and compared.

    Operating systems encode the same characters differently, such as "é" as one or two code
    points.

    Source: NIST SP 800-63B, 3.1.1.2.
    """
    return unicodedata.normalize("NFKC", password)


def _substitutes() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
    table[0x7F] = "\u2421"
    table.update(dict.fromkeys(range(0x80, 0xA0), "\ufffd"))
    table.update(dict.fromkeys(map(ord, _BIDI), "\ufffd"))
    table.update(dict.fromkeys(map(ord, _SEPARATORS), "\n"))
    # Printing a lone surrogate raises UnicodeEncodeError.
    table.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))
    return table


_SUBSTITUTES = _substitutes()
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f" + _BIDI + _SEPARATORS + "\ud800-\udfff]")


def printable(text: str) -> str:
    """Return ``text`` without characters that a terminal would interpret.

    Tabs and newlines are kept, CR and CRLF become newlines, and colour sequences are removed. All
    other C0 and C1 controls, DEL, bidi controls and lone surrogates are replaced by substitutes.
    """
    if _UNSAFE.search(text) is None:
        return text
    return _CR.sub("\n", _COLOUR.sub("", text)).translate(_SUBSTITUTES)


def printable_output(text: str) -> str:
    """Return the output of a program like ``printable``, but keep carriage returns.

    A single CR, with which programs overwrite a line for progress displays, is kept; CRLF becomes a
    newline. Sequences that erase a line are removed: the line must be cleared at each CR.
    """
    if _UNSAFE.search(text) is None:
        return text
    plain = _ERASE.sub("", _COLOUR.sub("", _NEWLINE.sub("\n", text)))
    return "\r".join(part.translate(_SUBSTITUTES) for part in _REDRAW.split(plain))


def split_unfinished(text: str) -> tuple[str, str]:
    """Divide a chunk of output into a part to sanitize now, and a part to keep.

    The second part is the start of CRLF or of a colour sequence whose rest may be in the next
    chunk. It precedes that chunk, or is sanitized by itself at the end of the output.
    """
    unfinished = _UNFINISHED.search(text, max(0, len(text) - _MAX_UNFINISHED_CHARS))
    end = len(text) if unfinished is None else unfinished.start()
    return text[:end], text[end:]


def overwritten(text: str) -> str:
    """Return ``text`` with only the part of each line after its last carriage return."""
    if "\r" not in text:
        return text
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))


def is_encodable(text: str) -> bool:
    """Return True if ``text`` can be encoded as UTF-8, because it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str, limit: int = 500) -> str:
    """Return ``text`` as a printable single line of at most ``limit`` characters."""
    line = " ".join(printable(text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "\u2026"
