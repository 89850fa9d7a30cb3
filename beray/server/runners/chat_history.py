"""History of a chat for its language model, written to disk while it is produced.

The history is an append-only file of JSON lines. A second file has the text of the answer that is
being streamed, because that text grows in small chunks and is replaced by the complete answer. A
process that is killed at any time loses at most the end of the last line, which readers skip.

Kinds of records:

- ``user``: a message of the user, with its ``text`` and its ``seq`` in the log of the chat.
- ``message``: a message of pydantic-ai in ``message``: an answer, or the results of its tools.
- ``result``: a request of pydantic-ai in ``message`` with the result of one tool. It is replaced by
  the message with all results of an answer.
- ``text``: the text of an answer that was interrupted.

The server and the process of a run never use the file at the same time. This module does not
import pydantic-ai, because the server does not.
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
        path: Path of the history file. The files of the streamed text and of earlier versions
            have the same name with other suffixes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text_path = path.with_suffix(".partial")
        self._earlier_path = path.with_suffix(".json")
        self._text_file: int | None = None

    def records(self) -> list[Record]:
        """Return all records, with the text of an interrupted answer at the end.

        Raises:
            OSError: The file exists and cannot be read.
        """
        found = list(self._stored()) if self._path.exists() else self._earlier()
        if text := self._interrupted_text():
            found.append({"kind": "text", "text": text})
        return found

    def last_seq(self, *, earlier: int) -> int:
        """Return the ``seq`` of the user's last message in the history.

        Args:
            earlier: Result for a history of an earlier version, which has no ``seq``.
        """
        found: int | None = None
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    # Other records are not decoded, because they can be large.
                    if line.startswith(_USER):
                        with suppress(ValueError):
                            found = json.loads(line)["seq"]
        if found is not None:
            return found
        return earlier if self._path.exists() or self._earlier_path.exists() else 0

    def append(self, *records: Record) -> None:
        """Append records and wait until they are on disk.

        The streamed text of an answer is saved as a record before them, unless the first record
        is the complete answer.

        Raises:
            OSError: The records cannot be saved.
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
        # The header of the streamed text is outdated now, which marks the text as obsolete.
        self._close_text()

    def begin_answer(self) -> None:
        """Start the text of a new answer and discard that of the previous one.

        Raises:
            OSError: The file cannot be written.
        """
        self._close_text()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._text_file = os.open(self._text_path, _APPEND | os.O_TRUNC, _MODE)
        _write(self._text_file, f"{self._size()}\n".encode())

    def add_text(self, text: str) -> None:
        """Append text to the answer that is being streamed.

        The text survives a crash of the process, but not of the operating system.

        Raises:
            OSError: The file cannot be written.
            RuntimeError: ``begin_answer`` was not called.
        """
        if self._text_file is None:
            raise RuntimeError("call begin_answer() first")
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
        """Return the records in the file of an earlier version: all complete answers."""
        try:
            messages = json.loads(self._earlier_path.read_bytes())
        except FileNotFoundError:
            return []
        except ValueError:
            log.error("a chat's history is unreadable", path=str(self._earlier_path))
            return []
        return [{"kind": "message", "message": message} for message in messages]

    def _interrupted_text(self) -> str:
        """Return the streamed text of an answer that has no record yet."""
        try:
            header, _, text = self._text_path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return ""
        # A record was appended later, so the answer is complete or its text is in a record.
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
