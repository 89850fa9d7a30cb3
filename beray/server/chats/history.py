"""History of a chat for its language model, written to disk while it is produced.

The history is a file of JSON lines, to which records are only appended. Beside it, a second file
has the text of the answer that is being streamed, because that text grows in small pieces and is
superseded by the complete answer. So a process that is killed at any time loses nothing that was
written before: at most the end of the last line, which readers skip.

Kinds of records:

- ``user``: a message of the user, with its ``text`` and its ``seq`` in the log of the chat.
- ``message``: a message of pydantic-ai in ``message``: an answer, or the results of its tools.
- ``result``: a request of pydantic-ai in ``message`` with the result of one tool. The message that
  has all results of an answer replaces it.
- ``text``: the text of an answer that was interrupted.

The server and the process of a run use the file in turn, never at the same time. This module does
without pydantic-ai, which the server does not import.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger("beray.chats")

Record = dict[str, Any]

_USER: Final = b'{"kind":"user",'
_MODE: Final = 0o600
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


class ChatHistory:
    """History of one chat.

    Args:
        path: Its file. The file of the text that is being streamed and the file of earlier
            versions have the same name with other suffixes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text_path = path.with_suffix(".partial")
        self._earlier_path = path.with_suffix(".json")
        self._text_file: int | None = None

    def records(self) -> list[Record]:
        """Return all records, the text of an interrupted answer as the last.

        Raises:
            OSError: The file exists and cannot be read.
        """
        found = list(self._stored()) if self._path.exists() else self._earlier()
        if text := self._interrupted_text():
            found.append({"kind": "text", "text": text})
        return found

    def last_seq(self, *, earlier: int) -> int:
        """Return the ``seq`` of the last message of the user that is in the history.

        Args:
            earlier: Result for a history of an earlier version, which does not contain it.
        """
        found: int | None = None
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    # Other records can be large; they are not decoded.
                    if line.startswith(_USER):
                        with suppress(ValueError):
                            found = json.loads(line)["seq"]
        if found is not None:
            return found
        return earlier if self._path.exists() or self._earlier_path.exists() else 0

    def append(self, *records: Record) -> None:
        """Append records and wait until they are on disk.

        The text of an answer that was streamed until now becomes a record before them, unless the
        first of them is the complete answer.

        Raises:
            OSError: They cannot be saved.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists() and (earlier := self._earlier()):
            records = (*earlier, *records)
        elif not _is_answer(records[0]) and (text := self._interrupted_text()):
            records = ({"kind": "text", "text": text}, *records)
        lines = "".join(f"{json.dumps(record, separators=(',', ':'))}\n" for record in records)
        descriptor = os.open(self._path, _APPEND, _MODE)
        try:
            if not self._ends_with_newline():
                lines = f"\n{lines}"  # after a line that was cut off by a crash
            _write(descriptor, lines.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # From here on its header tells that the streamed text is obsolete.
        self._close_text()

    def begin_answer(self) -> None:
        """Discard the text of the answer before, and take that of another one.

        Raises:
            OSError: The file cannot be written.
        """
        self._close_text()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._text_file = os.open(self._text_path, _APPEND | os.O_TRUNC, _MODE)
        _write(self._text_file, f"{self._size()}\n".encode())

    def add_text(self, text: str) -> None:
        """Keep a piece of the answer that is being streamed.

        It survives the end of the process, but not that of the operating system.

        Raises:
            OSError: The file cannot be written.
        """
        if self._text_file is None:
            raise RuntimeError("begin_answer() first")
        _write(self._text_file, text.encode("utf-8", "replace"))

    def delete(self) -> None:
        """Delete the history."""
        self._close_text()
        for path in (self._path, self._text_path, self._earlier_path):
            path.unlink(missing_ok=True)

    def _stored(self) -> Iterator[Record]:
        with self._path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    if line.strip():  # cut off by a crash, or damaged
                        log.warning("part of a chat's history is unreadable", path=str(self._path))
                    continue
                if isinstance(record, dict):
                    yield record

    def _earlier(self) -> list[Record]:
        """Return what a file of an earlier version has: the messages of all complete answers."""
        try:
            messages = json.loads(self._earlier_path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError:
            log.error("a chat's history is unreadable", path=str(self._earlier_path))
            return []
        return [{"kind": "message", "message": message} for message in messages]

    def _interrupted_text(self) -> str:
        """Return the text that was streamed of an answer that has no record yet."""
        try:
            header, _, text = self._text_path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return ""
        # A record was appended since then: the answer is complete, or the text is in a record.
        if header != str(self._size()).encode():
            return ""
        return text.decode("utf-8", "replace")

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _ends_with_newline(self) -> bool:
        if not self._size():
            return True
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _close_text(self) -> None:
        if self._text_file is not None:
            os.close(self._text_file)
            self._text_file = None


def _is_answer(record: Record) -> bool:
    return bool(record["kind"] == "message" and record["message"]["kind"] == "response")


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
