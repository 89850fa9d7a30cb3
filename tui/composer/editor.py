"""Editing of text in the user's editor, through a private temporary file."""

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
    """The editor could not be used; the message contains the reason."""


def editor_command(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the editor's command line: ``VISUAL``, ``EDITOR``, or the system's default editor.

    Raises:
        EditorFailed: The variable is not a valid command line.
    """
    windows = os.name == "nt"
    for name in ("VISUAL", "EDITOR"):
        try:
            # On Windows backslashes belong to paths; shlex then leaves quotes around words.
            command = shlex.split(environ.get(name, ""), posix=not windows)
        except ValueError as error:
            raise EditorFailed(f"${name} is not a valid command: {error}") from None
        command = [word.strip('"') for word in command] if windows else command
        if command:
            return command
    return ["notepad" if windows else "vi"]


def edit_text(text: str, command: list[str]) -> str:
    """Return ``text`` as edited in the user's editor. Blocks until the editor exits.

    Args:
        text: The text to edit.
        command: Command line of the editor, which uses this terminal.

    Raises:
        EditorFailed: The editor could not be started, exited with an error, or did not leave
            a UTF-8 file.
    """
    # In a separate directory, because editors create backups and swap files next to a file.
    directory = tempfile.mkdtemp(prefix="beray-")
    try:
        file = Path(directory, "goal.md")
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        status = _run([*command, str(file)])
        if status:
            raise EditorFailed(
                f"{command[0]} exited with status {status}; the goal was not changed."
            )
        return file.read_text("utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise EditorFailed("The saved file is not UTF-8; the goal was not changed.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EditorFailed(f"Could not edit the goal with {command[0]}: {reason}") from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run(argv: list[str]) -> int:
    try:
        with _ignore_interrupts():
            return subprocess.run(argv, check=False).returncode
    except FileNotFoundError:
        raise EditorFailed(f"{argv[0]} was not found; set $EDITOR to an editor.") from None


@contextmanager
def _ignore_interrupts() -> Iterator[None]:
    """Ignore SIGINT: Ctrl-C on the terminal also reaches this process.

    The handler does nothing. SIG_IGN cannot be used because the editor would inherit it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives SIGINT
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
