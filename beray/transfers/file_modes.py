"""Permission bits of files on the wire: three octal digits, and never more than 0777.

Setuid, setgid and sticky bits are neither sent nor accepted. Windows has no permission bits:
there, none are sent and none are set.

Source: POSIX.1-2017, sys/stat.h; PKWARE APPNOTE 6.3.10, 4.4.15 (external file attributes).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Final

HEADER: Final = "X-File-Mode"
"""Header of an upload, and of the response to a download. BeRay extension."""
BITS: Final = 0o777
NEW_FILE: Final = 0o644
NEW_DIRECTORY: Final = 0o755
"""Modes in a work_dir where nothing else is known: those of a umask of 022, as commands have."""
PATTERN: Final = "^[0-7]{3,4}$"

_OCTAL: Final = re.compile(PATTERN)
_WITHOUT_MODES: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def text(mode: int) -> str:
    """Return the permission bits of ``st_mode`` as the wire has them, such as ``"755"``."""
    return f"{mode & BITS:03o}"


def parsed(value: object) -> int | None:
    """Return the permission bits that the wire states; ``None`` if it states none."""
    if isinstance(value, str) and _OCTAL.fullmatch(value):
        return int(value, 8) & BITS
    return None


def header(mode: int | None) -> dict[str, str]:
    """Return the headers that state ``mode``; none for ``None``."""
    return {} if mode is None else {HEADER: text(mode)}


def local(path: str | os.PathLike[str]) -> int | None:
    """Return the permission bits of a local file or directory; ``None`` on Windows.

    Raises:
        OSError: ``path`` cannot be examined.
    """
    return os.stat(path).st_mode & BITS if os.name == "posix" else None


def archived(external_attr: int) -> int | None:
    """Return the permission bits of a ZIP member; ``None`` if it states none.

    Without a file type, bits that do not make a file executable are usually the constant that
    a library fills in.
    """
    mode = external_attr >> 16
    return mode & BITS if stat.S_IFMT(mode) or mode & stat.S_IXUSR else None


def set_open(descriptor: int, mode: int) -> None:
    """Set the permission bits of an open local file, where its file system has such bits.

    Raises:
        OSError: the disk refuses for another reason.
    """
    if os.name != "posix":
        return
    try:
        os.fchmod(descriptor, mode & BITS)
    except OSError as error:
        # FAT, exFAT and some network file systems have one mode for all files.
        if error.errno not in _WITHOUT_MODES:
            raise


def set_directory(path: str | os.PathLike[str], mode: int) -> None:
    """Set the permission bits of a local directory; a link is not followed.

    Raises:
        OSError: it is not a directory, or the disk refuses.
    """
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        set_open(descriptor, mode)
    finally:
        os.close(descriptor)
