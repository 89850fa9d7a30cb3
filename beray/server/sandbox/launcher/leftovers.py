"""Processes that a command leaves running when it ends.

Without a sandbox, the launcher finds them among its descendants. In bubblewrap they end together
with the first process of the PID namespace, before the launcher could search. There, ``INIT`` is
the first process instead of bubblewrap's own: it runs the command, and then reports the other
processes on a pipe. The launcher passes the pipe as standard input, which the command itself does
not inherit.
"""

import contextlib
import os
import re

MAX_NAMES = 20
"""Maximum number of names that are reported."""
NAME_CHARACTERS = 40
"""Maximum length of a reported name."""
_PIPE_BYTES = 64 * 1024
_STAT = re.compile(r"\d+ \((.*)\) (\S)")
"""``/proc/PID/stat``: pid, name in parentheses, state. Source: proc(5)."""
_ENDED = "ZXx"
"""States of processes that have ended."""

INIT = [
    "/bin/sh",
    "-c",
    "exec 9>&0 </dev/null 8>&2 2>/dev/null; "
    '(exec "$@" 2>&8 8>&- 9>&-); status=$?; '
    "for stat in /proc/[0-9]*/stat; do "
    '[ "$stat" = /proc/$$/stat ] || { read -r line <"$stat" && printf "%s\\n" "$line"; }; '
    "done >&9; "
    "exit $status",
    "sh",
]
"""Arguments before those of the command. The kernel does not deliver signals from inside a PID
namespace to its first process, so that a command such as ``pkill -f`` with a word of its own
arguments does not end it."""


class Pipe:
    """Pipe on which ``INIT`` reports. It is not inherited unless ``become_stdin`` is called."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        # A full pipe must not block the writer, nor an empty one the reader.
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def become_stdin(self) -> None:
        """Make the pipe the standard input of this process, the child that becomes the command."""
        os.dup2(self._write, 0)

    def names(self) -> list[str]:
        """Return the names of the reported processes, and close the pipe."""
        os.close(self._write)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self._read, _PIPE_BYTES):
                data += block
                if len(data) >= _PIPE_BYTES:
                    break
        os.close(self._read)
        return _names(data.decode("utf-8", "replace").splitlines())


def names_of(pids: list[int]) -> list[str]:
    """Return the names of the processes that have not ended."""
    lines = []
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                lines.append(file.read(512).decode("utf-8", "replace"))
        except OSError:
            continue
    return _names(lines)


def _names(lines: list[str]) -> list[str]:
    found = [match for line in lines if (match := _STAT.match(line)) is not None]
    names = [match[1][:NAME_CHARACTERS] for match in found if match[2] not in _ENDED]
    return sorted(names)[:MAX_NAMES]
