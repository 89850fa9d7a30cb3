"""Opening of files and directories beneath a work_dir without following links.

Resolving a path before opening it is a race: a task may replace a directory with a link in
between. Here the kernel does both in one step (``openat2``), or each part of the path is opened
from the descriptor of the part before it.

Source: openat2(2), open(2), path_resolution(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from beray.transfers import wire_names

MAX_PATH_BYTES: Final = 4095
"""Maximum length of a path: PATH_MAX of Linux without the NUL."""
MAX_NAME_BYTES: Final = 255

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that appears at the last moment must not block.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_SYS_OPENAT2: Final = 437
_RESOLVE: Final = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_PARTS_AT_ONCE: Final = MAX_PATH_BYTES // (MAX_NAME_BYTES + 1)


class PathError(Exception):
    """A path from a request or a tool cannot be used.

    Attributes:
        reason: Message for the user, with the path.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidPath(PathError):
    """The path is not a valid path in a work_dir, or has the wrong type."""


class MissingPath(PathError):
    """The path does not exist."""


_REASONS: Final = {
    errno.ENOTDIR: "is not a folder, or part of the path is not a folder",
    errno.EISDIR: "is a folder, not a file",
    errno.ELOOP: "contains a link; links are not followed",
    errno.EXDEV: "is outside the work_dir",
    errno.ENAMETOOLONG: "is too long",
    errno.EACCES: "cannot be accessed: permission denied",
    errno.EPERM: "cannot be accessed: permission denied",
    errno.ENXIO: "is neither a file nor a folder",
    errno.EINVAL: "is not a valid name on this file system",
    errno.EILSEQ: "is not a valid name on this file system",
}


def quote_path(path: str) -> str:
    """Return ``path`` for a message: quoted, escaped and shortened."""
    return repr(path if len(path) <= 200 else f"{path[:199]}…")


def parse_path(path: str) -> tuple[bytes, ...]:
    """Return the parts of a relative path as bytes; the work_dir itself has no parts.

    Raises:
        InvalidPath: The path is absolute or too long, or contains "..", a NUL or a lone
            surrogate.
    """
    if path.startswith("/"):
        raise InvalidPath(f"{quote_path(path)} is absolute; paths are relative to the work_dir")
    if "\0" in path:
        raise InvalidPath(f"{quote_path(path)} contains a NUL character")
    try:
        on_disk = wire_names.decode(path)
    except UnicodeEncodeError:
        raise InvalidPath(
            f"{quote_path(path)} contains a lone surrogate, which UTF-8 cannot represent"
        ) from None
    parts = tuple(part for part in on_disk.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise InvalidPath(f"{quote_path(path)} contains '..'; paths are relative to the work_dir")
    if len(on_disk) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in parts):
        raise InvalidPath(
            f"{quote_path(path)} is too long; the limit is {MAX_PATH_BYTES} bytes, "
            f"and {MAX_NAME_BYTES} bytes for each part"
        )
    return parts


def parse_file_path(path: str) -> tuple[bytes, ...]:
    """Return the parts of a path of a file, at least one.

    Raises:
        InvalidPath: See ``parse_path``; also if the path denotes a directory.
    """
    parts = parse_path(path)
    if not parts or path.endswith(("/", "/.")):
        raise InvalidPath(f"{quote_path(path)} names a folder, not a file")
    return parts


@contextmanager
def path_errors(subject: str) -> Iterator[None]:
    """Convert errors of the file system about a path to ``PathError``.

    Other errors, such as that of a full disk, remain an ``OSError``.

    Args:
        subject: Beginning of the message, such as the quoted path.
    """
    try:
        yield
    except FileNotFoundError:
        raise MissingPath(f"{subject} does not exist") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise InvalidPath(f"{subject} {reason}") from None


def open_directory(base: int, parts: Sequence[bytes]) -> int:
    """Open the directory at ``parts`` beneath the directory ``base``; return its descriptor.

    Raises:
        OSError: A part is a link (ELOOP) or not a directory (ENOTDIR), or another error.
    """
    directory = os.open(b".", _DIRECTORY_FLAGS, dir_fd=base)
    step = _PARTS_AT_ONCE if has_openat2() else 1
    for start in range(0, len(parts), step):
        try:
            if step > 1:
                deeper = _openat2(directory, b"/".join(parts[start : start + step]))
            else:
                deeper = _open_part(directory, parts[start])
        finally:
            os.close(directory)
        directory = deeper
    return directory


def open_regular(directory: int, name: bytes) -> tuple[BinaryIO, os.stat_result]:
    """Open the regular file ``name`` in ``directory``, unbuffered.

    Raises:
        OSError: The name belongs to a link (ELOOP), a directory (EISDIR) or a special file
            (ENXIO), or another error.
    """
    # Checked first, because opening a FIFO wakes the process at its other end.
    check_regular(os.stat(name, dir_fd=directory, follow_symlinks=False))
    file = os.open(name, _FILE_FLAGS, dir_fd=directory)
    try:
        status = os.fstat(file)
        check_regular(status)
        return os.fdopen(file, "rb", buffering=0), status
    except BaseException:
        os.close(file)
        raise


def check_regular(status: os.stat_result) -> None:
    """Raise an ``OSError`` if the status is not that of a regular file; see ``open_regular``."""
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a link")
    raise OSError(
        errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO, "not a regular file"
    )


def change_mode(directory: int, name: str | bytes, mode: int) -> None:
    """Change the mode of the entry ``name`` of a directory, which must not be a link.

    Raises:
        OSError: The entry is a link (ELOOP), or another error.
    """
    try:
        os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)
    except (ValueError, NotImplementedError):
        # This is how Python reports ENOTSUP: of links, and before Linux 6.6 and glibc 2.32.
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if stat.S_ISLNK(os.fstat(entry).st_mode):
                raise OSError(errno.ELOOP, "a link") from None
            Path(f"/proc/self/fd/{entry}").chmod(mode)
        finally:
            os.close(entry)


def _open_part(directory: int, part: bytes) -> int:
    try:
        return os.open(part, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=directory)
    except NotADirectoryError:
        # Linux reports this error for links, too.
        if stat.S_ISLNK(os.stat(part, dir_fd=directory, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "a link") from None
        raise


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


@cache
def has_openat2() -> bool:
    """Return True if the kernel supports ``openat2`` and no seccomp filter blocks it."""
    if sys.platform != "linux":  # the number belongs to another system call elsewhere
        return False
    here = os.open("/", _DIRECTORY_FLAGS)
    try:
        os.close(_openat2(here, b"."))
    except OSError:
        return False
    finally:
        os.close(here)
    return True


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    libc.syscall.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(_OpenHow),
        ctypes.c_size_t,
    )
    return libc


def _openat2(directory: int, path: bytes) -> int:
    how = _OpenHow(_DIRECTORY_FLAGS, 0, _RESOLVE)
    while True:
        opened = _libc().syscall(
            _SYS_OPENAT2, directory, path, ctypes.byref(how), ctypes.sizeof(how)
        )
        if opened >= 0:
            return int(opened)
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))
