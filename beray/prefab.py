"""What the author of a prefab writes against. It needs nothing but Python.

A prefab is a folder with a manifest, ``prefab.toml``, and a module whose functions it
names. A function gets a ``Call`` and its parameters by name, and returns what its manifest
says; one that streams is a generator, which yields pieces of content, or ``Progress``, and
returns its result at the end::

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

_CAUSE_CHARACTERS = 200
_MOST_REASONS = 5
_FOLDERS = re.compile(r"""(?<![\w:/])/(?:[^\s/'"]+/)+""")
"""The folders of an absolute path: those of the server do not concern the caller."""


class InputError(ValueError):
    """Report input that cannot be used: a parameter or a file.

    The text is shown to the caller. It names the value, the reason and the next step.
    """


def library_cause(error: Exception, module_file: str) -> str | None:
    """Return what a library reports about an input file, in one line.

    Libraries raise arbitrary exceptions for damaged files. Return None for an error that is not
    one of these: one of the prefab's own code is a defect, and one of the operating system, such
    as a full disk, does not concern the file. Re-raise it in that case.

    Args:
        module_file: ``__file__`` of a module of the prefab.
    """
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    own_folder = Path(module_file).parent
    if Path(frame.f_code.co_filename).parent == own_folder:
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return None
    if isinstance(error, MemoryError):
        return "it needs more memory than the call may use"
    kind = type(error).__name__
    text = _FOLDERS.sub("", " ".join(str(error).split()))[:_CAUSE_CHARACTERS]
    return text if len(text.split()) > 1 else f"{kind}: {text}".removesuffix(": ")


def all_failed(problems: Sequence[str]) -> str:
    """Return one message for a call in which every file failed, with the first problems."""
    more = len(problems) - _MOST_REASONS
    text = "; ".join(problems[:_MOST_REASONS])
    return f"{text}; and {more:,} more" if more > 0 else text


@dataclass(frozen=True)
class Progress:
    """Yielded by a function that streams: how far it is."""

    fraction: float | None = None
    """From 0 to 1; ``None`` where that is not known."""
    message: str = ""


@dataclass(frozen=True)
class Call:
    """One call of a function: its files, and what else it was given beside its parameters."""

    outputs: Path
    """The folder for the files that are made, one folder in it for each key."""
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """The input files, by the keys of the manifest."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def file(self, key: str) -> Path:
        """The one input file of ``key``.

        Raises:
            InputError: The call has no such file, or more than one.
        """
        given = self.files.get(key, ())
        if len(given) != 1:
            raise InputError(f"{key}: expected one file, got {len(given)}")
        return given[0]

    def output(self, key: str, name: str) -> Path:
        """Where to write the output file ``name`` of ``key``. The folder is made.

        Raises:
            ValueError: ``name`` is not the plain name of a file.
        """
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"{name!r} is not the name of a file")
        folder = self.outputs / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name
