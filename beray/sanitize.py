"""Text from outside, made safe to show. The one gate of the command and the dashboard.

A goal, an event, a file name, an error of the server: any of them may hold bytes
that a terminal obeys. ``printable`` leaves letters as they are and turns whatever
could act on a terminal, or reorder what a reader sees, into a visible stand-in.
It knows nothing of markup: callers hand its result to widgets as plain text.
"""

from __future__ import annotations

import re
import unicodedata

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_SEPARATORS = "\u2028\u2029"

# SGR sequences only choose colours; compilers and ls emit them by the thousand.
_COLOUR = re.compile(r"(?:\x1b\[|\x9b)[0-9;:]*m")
_CR = re.compile(r"\r\n?")
_NEWLINE = re.compile(r"\r+\n")
_ERASE = re.compile(r"(?:\x1b\[|\x9b)[012]?K")
_REDRAW = re.compile(r"\r+")
UNFINISHED_OUTPUT = re.compile("(?:\r+|\x1b(?:\\[[0-9;:]{0,40})?|\x9b[0-9;:]{0,40})\\Z")
"""End of a piece of output whose meaning depends on the next piece."""


def normalized_password(password: str) -> str:
    """Return a password in the form in which it is sent, hashed and compared (NFKC).

    Keyboards and operating systems encode the same characters differently, such as "é" as one
    or two code points. Source: NIST SP 800-63B, 3.1.1.2.
    """
    return unicodedata.normalize("NFKC", password)


def _stand_ins() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
    table[0x7F] = "\u2421"
    table.update(dict.fromkeys(range(0x80, 0xA0), "\ufffd"))
    table.update(dict.fromkeys(map(ord, _BIDI), "\ufffd"))
    table.update(dict.fromkeys(map(ord, _SEPARATORS), "\n"))
    # A lone surrogate cannot be encoded, so it would end the program that prints it.
    table.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))
    return table


_STAND_INS = _stand_ins()
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f" + _BIDI + _SEPARATORS + "\ud800-\udfff]")


def printable(text: str) -> str:
    """Return ``text`` with nothing in it that a terminal would obey.

    Tab and newline stay, CR and CRLF become newline, colour sequences vanish; every
    other C0 and C1 control, DEL, bidi control and lone surrogate gets a stand-in.
    """
    if _UNSAFE.search(text) is None:
        return text
    return _CR.sub("\n", _COLOUR.sub("", text)).translate(_STAND_INS)


def printable_output(text: str) -> str:
    """Return output of a program with nothing but carriage returns that a terminal would obey.

    A single CR stays where the program writes over its line, as progress displays do; CRLF becomes
    newline. Sequences that erase a line vanish, because whoever shows a CR clears the line.
    """
    if _UNSAFE.search(text) is None:
        return text
    plain = _ERASE.sub("", _COLOUR.sub("", _NEWLINE.sub("\n", text)))
    return "\r".join(part.translate(_STAND_INS) for part in _REDRAW.split(plain))


def overwritten(text: str) -> str:
    """Return ``text`` with each line as the last carriage return in it left it."""
    if "\r" not in text:
        return text
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))


def is_encodable(text: str) -> bool:
    """Whether ``text`` can be written in UTF-8: it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str, limit: int = 500) -> str:
    """Return ``text`` printable and on a single line of at most ``limit`` characters."""
    line = " ".join(printable(text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "\u2026"
