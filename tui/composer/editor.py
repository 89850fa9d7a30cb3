"""The user's own editor, on a private file that is there only meanwhile."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class EditorFailed(Exception):
    """The text was not edited; the message says why."""


def command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The editor and its arguments: ``VISUAL``, ``EDITOR``, or what every system has.

    Raises:
        EditorFailed: the variable cannot be read as a command.
    """
    windows = os.name == "nt"
    for name in ("VISUAL", "EDITOR"):
        try:
            # On Windows a backslash is a part of a path, and quotes stay around words.
            words = shlex.split(environ.get(name, ""), posix=not windows)
        except ValueError as error:
            raise EditorFailed(f"${name} cannot be read as a command: {error}") from None
        words = [word.strip('"') for word in words] if windows else words
        if words:
            return words
    return ["notepad" if windows else "vi"]


def edited(text: str, words: list[str]) -> str:
    """Have ``text`` edited by ``words`` on this terminal; blocks until the editor ends.

    Raises:
        EditorFailed: it could not be started, ended with an error, or left no text.
    """
    # A folder of its own: editors put backups and swap files beside what they edit.
    folder = tempfile.mkdtemp(prefix="beray-")
    try:
        file = Path(folder, "goal.md")
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
        status = _run([*words, str(file)])
        if status:
            raise EditorFailed(f"{words[0]} ended with status {status}; the goal is as it was.")
        return file.read_text("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise EditorFailed("What was saved is not UTF-8; the goal is as it was.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EditorFailed(f"{words[0]} could not be used: {reason}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(argv: list[str]) -> int:
    try:
        with _keys_are_the_editors():
            return subprocess.run(argv, check=False).returncode
    except FileNotFoundError:
        raise EditorFailed(f"{argv[0]} was not found; set $EDITOR to an editor.") from None


@contextmanager
def _keys_are_the_editors() -> Iterator[None]:
    """Ctrl-C on the terminal reaches both of us, and is meant for the editor.

    A handler that does nothing, and not SIG_IGN: that the editor would inherit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no thread but the main one is interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
