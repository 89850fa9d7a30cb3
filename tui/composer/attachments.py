"""Local files and folders that go along with a goal: what they hold, and where it goes.

A file becomes one of its name in the work_dir, a folder one of its name with what is
below it. As for ``beray run --file``, links to folders, and what is neither file nor
folder, stay behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from beray.exceptions import ConfigurationError
from beray.transfers.local_names import on_wire


@dataclass(frozen=True)
class Attachment:
    """A local file or folder as it was when it was looked at.

    Attributes:
        name: what it is called in the work_dir; empty for the root of a file system,
            whose entries go straight into it.
        files: how many files it holds, itself where it is one.
        size: of all of them, in bytes.
        left_out: how many links and special files stay behind.
        problem: why it cannot be sent; empty where it can.
    """

    path: Path
    name: str
    is_folder: bool = False
    files: int = 0
    size: int = 0
    left_out: int = 0
    problem: str = ""


def added(there: tuple[Path, ...], paths: Sequence[Path]) -> tuple[tuple[Path, ...], str]:
    """Return the attachments with ``paths`` added, and why one could not be added, or "".

    Two attachments cannot have the same name in the work_dir; the later one is left out.
    """
    refused = ""
    for path in paths:
        if any(path.name == other.name for other in there):
            refused = f"An attachment with this name exists already: {path.name}"
        else:
            there = (*there, path)
    return there, refused


def look_at(path: Path, go_on: Callable[[], object] = lambda: None) -> Attachment:
    """What ``path`` holds. Reads whole trees: call it in a thread.

    Args:
        go_on: called before each folder; may raise to end the search.
    """
    name = on_wire(path.name)
    try:
        if path.is_dir():
            files = size = left_out = 0
            for _, file_size in _below(path, go_on):
                if file_size is None:
                    left_out += 1
                    continue
                files, size = files + 1, size + file_size
            return Attachment(path, name, True, files, size, left_out)
        if path.is_file():
            if not os.access(path, os.R_OK):
                return Attachment(path, name, problem="it cannot be read")
            return Attachment(path, name, False, 1, path.stat().st_size)
        there = os.path.lexists(path)
        problem = "it is neither a file nor a folder" if there else "it is not there"
        return Attachment(path, name, problem=problem)
    except OSError as error:
        where = f"{error.filename}: " if error.filename and error.filename != str(path) else ""
        return Attachment(path, name, problem=f"{where}{error.strerror or type(error).__name__}")


def plan(paths: Sequence[Path], go_on: Callable[[], object] = lambda: None) -> list[Attachment]:
    """Look at everything that is to be sent.

    Raises:
        ConfigurationError: something cannot be sent, or two would get the same name.
    """
    found: dict[str, Attachment] = {}
    for path in paths:
        attachment = look_at(path, go_on)
        if attachment.problem:
            raise ConfigurationError(f"{path}: {attachment.problem}")
        other = found.get(attachment.name)
        if other is not None:
            raise ConfigurationError(f"{other.path} and {path} would both become {path.name}")
        found[attachment.name] = attachment
    return list(found.values())


def names_of(attachment: Attachment) -> Iterator[str]:
    """The paths in the work_dir of all files that it holds."""
    if not attachment.is_folder:
        yield attachment.name
        return
    for file, size in _below(attachment.path, lambda: None):
        if size is not None:
            yield f"{attachment.name}/{on_wire(file.relative_to(attachment.path))}".lstrip("/")


def _below(folder: Path, go_on: Callable[[], object]) -> Iterator[tuple[Path, int | None]]:
    """Every file below ``folder`` with its size; ``None`` for what stays behind."""
    for current, folders, names in os.walk(folder, onerror=_raise):
        go_on()
        for name in names:
            file = Path(current, name)
            if not file.is_file():
                yield file, None
            elif os.access(file, os.R_OK):
                yield file, file.stat().st_size
            else:
                raise PermissionError(13, "it cannot be read", str(file))
        for name in folders:
            if Path(current, name).is_symlink():
                yield Path(current, name), None


def _raise(error: OSError) -> None:
    raise error
