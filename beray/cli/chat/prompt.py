"""Prompt of a chat, with line editing, input history, and a key that downloads files."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

from beray import config
from beray.cli import output
from beray.exceptions import ConfigurationError

MAX_HISTORY_LINES: Final = 1000
_FILE: Final = "chat_history"
_GET_PREFIX: Final = "/get; "
"""Prefix that the key inserts before the current line; the next prompt restores the line."""


class ChatPrompt:
    """Reader of the user's lines.

    The input history is stored in a private file (mode 0600), one JSON string per line.

    Attributes:
        get_key: Key that enters ``/get``; "" if there is none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or _history_path()
        self._editing = _readline()
        self._warned = False
        self._draft = ""
        self.get_key = ""
        if self._editing is not None:
            self._editing.clear_history()
            for text in self._load_history():
                self._editing.add_history(text)
            if "libedit" not in (self._editing.__doc__ or ""):
                self._editing.parse_and_bind(rf'"\C-t": "\C-a{_GET_PREFIX}\C-m"')
                self.get_key = "ctrl+t"

    def read(self, label: str = "you>") -> str:
        """Return the next line.

        Raises:
            EOFError: stdin has ended.
            UnicodeError: The line is not valid UTF-8.
        """
        if self._editing is not None:
            text = self._read_edited(self._editing, label)
        else:
            output.prompt(label)
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            text = line.rstrip("\r\n")
        text.encode()
        if text.strip() and text != "/get":
            self._append_history(text)
        return text

    def _read_edited(self, editing: ModuleType, label: str) -> str:
        draft, self._draft = self._draft, ""
        editing.set_startup_hook((lambda: editing.insert_text(draft)) if draft else None)
        text = input(f"{label} ")
        if self.get_key and text.startswith(_GET_PREFIX):
            self._draft = text.removeprefix(_GET_PREFIX)
            editing.remove_history_item(editing.get_current_history_length() - 1)
            return "/get"
        return text

    def _load_history(self) -> list[str]:
        found: list[str] = []
        if self._path is None:
            return found
        with (
            contextlib.suppress(OSError, UnicodeError, ConfigurationError),
            config.file_lock(self._path),
        ):
            lines = self._path.read_text("utf-8").splitlines()
            for line in lines:
                with contextlib.suppress(ValueError):
                    text = json.loads(line)
                    found += [text] if isinstance(text, str) and "\0" not in text else []
            if len(lines) > 2 * MAX_HISTORY_LINES:
                kept = "".join(json.dumps(text) + "\n" for text in found[-MAX_HISTORY_LINES:])
                config.write_private_file(self._path, kept)
        return found[-MAX_HISTORY_LINES:]

    def _append_history(self, text: str) -> None:
        if self._path is None:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with (
                config.file_lock(self._path),
                os.fdopen(os.open(self._path, flags, 0o600), "ab") as file,
            ):
                file.write(json.dumps(text).encode() + b"\n")
        except (OSError, ConfigurationError) as error:
            if not self._warned:
                reason = getattr(error, "strerror", None) or error
                output.note(f"-- the input history cannot be saved: {reason}")
                self._warned = True


def _history_path() -> Path | None:
    """Return the file of the input history; None if the user has no home directory."""
    try:
        return config.home() / _FILE
    except ConfigurationError:
        return None


def _readline() -> ModuleType | None:
    """Return the ``readline`` module if it is available and the input is a terminal."""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)):
        return None
    try:
        import readline
    except ImportError:
        return None
    return readline
