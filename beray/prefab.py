"""What the author of a prefab writes against. It needs nothing but Python.

A prefab is a folder with a manifest, ``prefab.toml``, and a module whose functions it
names. A function gets a ``Call`` and its parameters by name, and returns what its manifest
says; one that streams is a generator, which yields pieces of content, or ``Progress``, and
returns its result at the end::

    def count(call: Call, *, unit: str = "words") -> dict[str, int]:
        text = call.file("document").read_text()
        call.output("copy", "copy.txt").write_text(text)
        return {"count": len(text.split())}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


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
            ValueError: there is none, or more than one.
        """
        given = self.files.get(key, ())
        if len(given) != 1:
            raise ValueError(f"{key}: one file is needed, not {len(given)}")
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
