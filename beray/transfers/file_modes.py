"""Permission bits of files on the wire: three octal digits, at most 0777.

Setuid, setgid and sticky bits are neither sent nor accepted. Windows has no permission bits:
there, they are neither sent nor set.

Source: POSIX.1-2017, sys/stat.h; PKWARE APPNOTE 6.3.10, 4.4.15 (external file attributes).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import Final

HEADER: Final = "X-File-Mode"
"""Header of uploads and of responses to downloads. BeRay extension."""
BITS: Final = 0o777
NEW_FILE: Final = 0o644
NEW_DIRECTORY: Final = 0o755
"""Default modes of a directory and, above, of a file in a work_dir: those of a umask of 022."""
PATTERN: Final = "^[0-7]{3,4}$"

_OCTAL: Final = re.compile(PATTERN)
_WITHOUT_MODES: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def format_mode(mode: int) -> str:
    """Return the permission bits of a mode as octal digits, such as ``"755"``."""
    return f"{mode & BITS:03o}"


def parse(value: object) -> int | None:
    """Return the permission bits in a wire value; ``None`` if it is missing or invalid."""
    if isinstance(value, str) and _OCTAL.fullmatch(value):
        return int(value, 8) & BITS
    return None


def header(mode: int | None) -> dict[str, str]:
    """Return the headers that state ``mode``; empty for ``None``."""
    return {} if mode is None else {HEADER: format_mode(mode)}


def of_local_path(path: str | os.PathLike[str]) -> int | None:
    """Return the permission bits of a local file or directory; ``None`` on Windows.

    Raises:
        OSError: ``path`` does not exist or is not accessible.
    """
    return Path(path).stat().st_mode & BITS if os.name == "posix" else None


def from_zip_attributes(external_attr: int) -> int | None:
    """Return the permission bits of a ZIP member; ``None`` if it states none.

    Without a file type, they are used only if they make the file executable: other values are
    usually a constant that a library fills in.
    """
    mode = external_attr >> 16
    return mode & BITS if stat.S_IFMT(mode) or mode & stat.S_IXUSR else None


def set_file_mode(descriptor: int, mode: int) -> None:
    """Set the permission bits of an open local file, if its file system supports them.

    Raises:
        OSError: The bits cannot be set for another reason.
    """
    if os.name != "posix":
        return
    try:
        os.fchmod(descriptor, mode & BITS)
    except OSError as error:
        # FAT, exFAT and some network file systems have one mode for all files.
        if error.errno not in _WITHOUT_MODES:
            raise


def set_directory_mode(path: str | os.PathLike[str], mode: int) -> None:
    """Set the permission bits of a local directory, without following a link.

    Raises:
        OSError: The path is not a directory, or the bits cannot be set.
    """
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        set_file_mode(descriptor, mode)
    finally:
        os.close(descriptor)
