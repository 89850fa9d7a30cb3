"""Parser for the paths that a terminal pastes when files are dropped on it.

Terminals differ: GNOME Terminal and Konsole quote, Terminal.app and iTerm2 escape with
backslashes, Windows Terminal uses double quotes, kitty and file managers paste ``file://`` URLs
(RFC 8089). Several files are separated by spaces or newlines.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from tui.composer.listing import expand_home

_WINDOWS_WORD = re.compile(r'"([^"]*)"|(\S+)')
_DRIVE = re.compile(r"/?[A-Za-z]:[\\/]")


def dropped_paths(
    text: str,
    exists: Callable[[str], bool] = os.path.lexists,
    windows: bool = os.name == "nt",
) -> list[Path]:
    """Return the absolute paths that ``text`` consists of, or [] for other text.

    Args:
        text: Pasted text.
        exists: Returns True if a path exists; decides whether spaces separate paths.
        windows: Whether backslashes separate names instead of escaping characters.
    """
    found: list[Path] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        paths = _in_line(line, exists, windows)
        if not paths:
            return []
        found += map(Path, paths)
    return found


def _in_line(line: str, exists: Callable[[str], bool], windows: bool) -> list[str]:
    whole = _path(line, windows)
    if whole is not None and exists(whole):
        return [whole]
    paths = [_path(word, windows) for word in _words(line, windows)]
    paths_found = [path for path in paths if path is not None]
    if paths_found and len(paths_found) == len(paths):
        return paths_found
    # A path with unescaped spaces, such as one copied in a file manager.
    return [whole] if whole is not None else []


def _words(line: str, windows: bool) -> list[str]:
    if windows:
        return [quoted or bare for quoted, bare in _WINDOWS_WORD.findall(line)]
    try:
        return shlex.split(line)
    except ValueError:
        return [line]


def _path(word: str, windows: bool) -> str | None:
    """Return the absolute path in a word, or ``None`` if the word is not one."""
    if word.lower().startswith("file:"):
        return _from_url(word, windows)
    if word.startswith("~"):
        word = str(expand_home(word))
    is_absolute = _DRIVE.match(word) or word.startswith("\\\\") if windows else word[:1] == "/"
    return word if is_absolute and "\0" not in word else None


def _from_url(url: str, windows: bool) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.netloc.lower() not in ("", "localhost", socket.gethostname().lower()):
        return None
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if windows:
        path = path.removeprefix("/").replace("/", "\\")
    return _path(path, windows) if not path.startswith("~") else None
