"""The prompt of a conversation: lines that are edited, and remembered; and a key of its own."""

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

MOST_REMEMBERED: Final = 1000
_FILE: Final = "chat_history"
_TAKE: Final = "/get; "
"""What the key puts before the line that it finds, which is there again at the next prompt."""


class Prompt:
    """Reads what a person types.

    What was typed is kept in a file that only its owner may read, a JSON string a line.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or _history_path()
        self._editing = _readline()
        self._told = False
        self._begun = ""
        self.take_key = ""
        """The key that enters ``/get``; "" where there is none."""
        if self._editing is not None:
            self._editing.clear_history()
            for text in self._remembered():
                self._editing.add_history(text)
            if "libedit" not in (self._editing.__doc__ or ""):
                self._editing.parse_and_bind(rf'"\C-t": "\C-a{_TAKE}\C-m"')
                self.take_key = "ctrl+t"

    def read(self, words: str = "you>") -> str:
        """The next line.

        Raises:
            EOFError: there is none.
            UnicodeError: it is no text.
        """
        if self._editing is not None:
            text = self._edited(self._editing, words)
        else:
            output.prompt(words)
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            text = line.rstrip("\r\n")
        text.encode()
        if text.strip() and text != "/get":
            self._keep(text)
        return text

    def _edited(self, editing: ModuleType, words: str) -> str:
        begun, self._begun = self._begun, ""
        editing.set_startup_hook((lambda: editing.insert_text(begun)) if begun else None)
        text = input(f"{words} ")
        if self.take_key and text.startswith(_TAKE):
            self._begun = text.removeprefix(_TAKE)
            editing.remove_history_item(editing.get_current_history_length() - 1)
            return "/get"
        return text

    def _remembered(self) -> list[str]:
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
            if len(lines) > 2 * MOST_REMEMBERED:
                kept = "".join(json.dumps(text) + "\n" for text in found[-MOST_REMEMBERED:])
                config.write_private_file(self._path, kept)
        return found[-MOST_REMEMBERED:]

    def _keep(self, text: str) -> None:
        if self._path is None:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with (
                config.file_lock(self._path),
                open(os.open(self._path, flags, 0o600), "ab") as file,
            ):
                file.write(json.dumps(text).encode() + b"\n")
        except (OSError, ConfigurationError) as error:
            if not self._told:
                reason = getattr(error, "strerror", None) or error
                output.note(f"-- the input history cannot be saved: {reason}")
                self._told = True


def _history_path() -> Path | None:
    """Return the file of the input history; ``None`` if the user has no home directory."""
    try:
        return config.home() / _FILE
    except ConfigurationError:
        return None


def _readline() -> ModuleType | None:
    """The line editor, where there is one that would be used."""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)):
        return None
    try:
        import readline
    except ImportError:
        return None
    return readline
