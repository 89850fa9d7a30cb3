"""Interface for authors of prefabs. It uses only the standard library.

A prefab is a directory with a manifest, ``prefab.toml``, and a Python module with the functions
that the manifest declares. A function receives a ``Call``, and its parameters as keyword
arguments. It returns a result that conforms to the schema in the manifest. A streaming function
is a generator: it yields pieces of content or ``Progress``, and returns the result::

    def count(call: Call, *, unit: str = "words") -> dict[str, int]:
        text = call.file("document").read_text()
        call.output("copy", "copy.txt").write_text(text)
        return {"count": len(text.split())}

Raise ``InputError`` for input that the caller can correct. The call then fails with the
code ``INVALID_INPUT`` and without a traceback. Every other exception is a defect of the
function: its traceback is in the result and in the server's log.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MAX_CAUSE_CHARACTERS = 200
_MAX_PROBLEMS = 5
_DIRECTORIES = re.compile(r"""(?<![\w:/])/(?:[^\s/'"]+/)+""")
"""Directories of an absolute path, removed from messages: callers do not see server paths."""


class InputError(ValueError):
    """A parameter or an input file is invalid.

    The message is shown to the caller. It contains the value, the reason and the next step.
    """


def library_cause(error: Exception, module_file: str) -> str | None:
    """Return the message of a library's exception about an input file, in one line.

    Libraries raise arbitrary exceptions for damaged files.

    Args:
        error: An exception that was raised while the file was processed.
        module_file: ``__file__`` of a module of the prefab.

    Returns:
        At most 200 characters without server paths. None if the file is not the cause: an
        exception from the prefab's own code is a defect, and an operating-system error, such as
        a full disk, is unrelated to the content. Re-raise the exception in these cases.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    prefab_directory = Path(module_file).parent
    if Path(frame.f_code.co_filename).parent == prefab_directory:
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return None
    if isinstance(error, MemoryError):
        return "reading it exceeds the memory limit of the call"
    type_name = type(error).__name__
    message = _DIRECTORIES.sub("", " ".join(str(error).split()))[:_MAX_CAUSE_CHARACTERS]
    # A single word, such as the key of a KeyError, is not a message.
    return message if len(message.split()) > 1 else f"{type_name}: {message}".removesuffix(": ")


def all_failed(problems: Sequence[str]) -> str:
    """Return one message for a call in which every file failed, with the first five problems."""
    remaining = len(problems) - _MAX_PROBLEMS
    message = "; ".join(problems[:_MAX_PROBLEMS])
    return f"{message}; and {remaining:,} more" if remaining > 0 else message


@dataclass(frozen=True)
class Progress:
    """Progress of a streaming function, which yields it."""

    fraction: float | None = None
    """Completed part of the work, from 0 to 1; None if it is unknown."""
    message: str = ""
    """Current step, for people to read."""


@dataclass(frozen=True)
class Call:
    """Input files, output directory and secrets of one call of a function."""

    outputs: Path
    """Directory for output files, with one subdirectory for each key of the manifest."""
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """Input files, by the keys of the manifest."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values of the secrets that the manifest declares, by name."""

    def file(self, key: str) -> Path:
        """Return the only input file of ``key``.

        Raises:
            InputError: The call has no file for ``key``, or more than one.
        """
        paths = self.files.get(key, ())
        if len(paths) != 1:
            raise InputError(f"{key}: expected one file, got {len(paths)}")
        return paths[0]

    def output(self, key: str, name: str) -> Path:
        """Return the path for the output file ``name`` of ``key``, and create its directory.

        Raises:
            ValueError: ``name`` is empty, ``.`` or ``..``, or contains ``/``, a backslash or NUL.
        """
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"{name!r} is not a file name without directories")
        directory = self.outputs / key
        directory.mkdir(parents=True, exist_ok=True)
        return directory / name
