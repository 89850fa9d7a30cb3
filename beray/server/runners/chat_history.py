"""History of a chat or task for its language model, written to disk while it is produced.

The history is an append-only file of JSON lines. A second file has the text of the answer that is
being streamed, because that text grows in small chunks and is replaced by the complete answer. A
process that is killed at any time loses at most the end of the last line, which readers skip.

Kinds of records:

- ``user``: a message of the user or the goal of a task, with its ``text``. Messages of a chat have
  their ``seq`` in its log.
- ``message``: a message of pydantic-ai in ``message``: an answer, or the results of its tools.
- ``result``: a request of pydantic-ai in ``message`` with the result of one tool. It is replaced by
  the message with all results of an answer.
- ``text``: the text of an answer that was interrupted.
- ``step``: a position. The events of all records before it are in the log, up to its ``seq``.

The server and the process of a run never write to the file at the same time: the process waits
while the server appends a position. This module does not import pydantic-ai, because the server
does not.
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
_STEP: Final = b'{"kind":"step",'
_MAX_STEP_BYTES: Final = 64
_MODE: Final = 0o600
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)


class ChatHistory:
    """History of one chat or task.

    Args:
        path: Path of the history file. The files of the streamed text, of an incomplete copy and
            of earlier versions have the same name with other suffixes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text_path = path.with_suffix(".partial")
        self._copy_path = path.with_suffix(".copy")
        self._earlier_path = path.with_suffix(".json")
        self._paths = (path, self._text_path, self._copy_path, self._earlier_path)
        self._text_file: int | None = None

    def records(self, seq: int | None = None) -> list[Record]:
        """Return the records without positions.

        Args:
            seq: ``seq`` of an event: return only the records up to the last position or message
                of the user at or before it. A step whose end is not known to be at or before
                ``seq`` is left out as a whole. None returns all records, with the text of an
                interrupted answer at the end.

        Raises:
            OSError: The file exists and cannot be read.
        """
        if self._path.exists():
            if seq is not None:
                return self._up_to(seq)
            found = [record for record in self._stored() if record.get("kind") != "step"]
        else:
            found = self._earlier() if seq is None else []
        if seq is None and (text := self._interrupted_text()):
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
                            found = json.loads(line).get("seq", found)
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
        lines = b"".join(map(_line, records))
        descriptor = os.open(self._path, _APPEND, _MODE)
        try:
            if not self._tail(1).endswith(b"\n"):
                lines = b"\n" + lines  # after a line that was cut off by a crash
            _write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # The header of the streamed text is outdated now, which marks the text as obsolete.
        self._close_text()

    def append_position(self, seq: int) -> None:
        """Append the position of the log to which the records so far belong.

        Nothing is written if no records were added since the previous position.

        Args:
            seq: ``seq`` of the last event in the log.

        Raises:
            OSError: The position cannot be saved.
        """
        if self._path.exists() and (self._interrupted_text() or not self._ends_with_position()):
            self.append({"kind": "step", "seq": seq})

    def copy_from(self, source: ChatHistory, seq: int | None = None) -> bool:
        """Create this history with the records of another one, completely or not at all.

        Nothing is changed if this history exists.

        Args:
            source: History of the chat or task that a new task continues.
            seq: See ``records``.

        Returns:
            False if the source has no such records, so that this history was not created.

        Raises:
            OSError: The source cannot be read, or the copy cannot be saved.
        """
        if self._path.exists():
            return True
        records = source.records(seq)
        if not records:
            return False
        # They precede the first event of the new task, which has a log of its own.
        unnumbered = [{key: record[key] for key in record if key != "seq"} for record in records]
        lines = b"".join(map(_line, [*unnumbered, {"kind": "step", "seq": 0}]))
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._copy_path, _APPEND | os.O_TRUNC, _MODE)
        try:
            _write(descriptor, lines)
            os.fsync(descriptor)
            self._copy_path.rename(self._path)
        finally:
            os.close(descriptor)
            self._copy_path.unlink(missing_ok=True)
        _fsync_directory(self._path.parent)
        return True

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
        for path in self._paths:
            path.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """Return the paths of the existing files of the history."""
        return [path for path in self._paths if path.exists()]

    def _up_to(self, seq: int) -> list[Record]:
        """Return the result of ``records`` for a ``seq``."""
        found: list[Record] = []
        known = 0
        """Number of records that are known to precede the event after ``seq``."""
        for record in self._stored():
            at = record.get("seq")
            if isinstance(at, int):
                if at == seq + 1 and record["kind"] == "user":
                    return found  # the message was logged after the events of all records
                if at > seq:
                    break
            if record.get("kind") != "step":
                found.append(record)
            if isinstance(at, int):
                known = len(found)
        return found[:known]

    def _stored(self) -> Iterator[Record]:
        """Yield the records in the file, including positions."""
        with self._path.open("rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    if line.strip():  # cut off by a crash, or damaged
                        log.warning("part of a conversation is unreadable", path=str(self._path))
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
            log.error("a conversation is unreadable", path=str(self._earlier_path))
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

    def _ends_with_position(self) -> bool:
        return self._tail(_MAX_STEP_BYTES).rstrip(b"\n").rpartition(b"\n")[2].startswith(_STEP)

    def _tail(self, size: int) -> bytes:
        """Return the last bytes of the file, a newline if it is empty."""
        length = self._size()
        if not length:
            return b"\n"
        with self._path.open("rb") as file:
            file.seek(max(0, length - size))
            return file.read(size)

    def _close_text(self) -> None:
        if self._text_file is not None:
            os.close(self._text_file)
            self._text_file = None


def _line(record: Record) -> bytes:
    return f"{json.dumps(record, separators=(',', ':'))}\n".encode()


def _is_answer(record: Record) -> bool:
    return bool(record["kind"] == "message" and record["message"]["kind"] == "response")


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
