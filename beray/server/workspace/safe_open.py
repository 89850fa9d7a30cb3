"""From a path to a descriptor: beneath the work_dir, never through a link.

To resolve a path and then open it loses the race against whoever puts a link in the
place of a folder in between. Here the kernel does both in one step (``openat2``), or
every part is opened from the descriptor of the one before it.

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
from typing import BinaryIO, Final

from beray.transfers import wire_names

MAX_PATH_BYTES: Final = 4095
"""Longest path that is taken: PATH_MAX of Linux without its NUL."""
MAX_NAME_BYTES: Final = 255

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: a fifo that appears at the last moment must not make the open wait.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_SYS_OPENAT2: Final = 437
_RESOLVE: Final = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_PARTS_AT_ONCE: Final = MAX_PATH_BYTES // (MAX_NAME_BYTES + 1)


class PathError(Exception):
    """A path from outside cannot be used. ``reason`` says why, in words for its sender."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidPath(PathError):
    """The path is not one of a work_dir, or not of the kind that is needed."""


class MissingPath(PathError):
    """There is nothing at the path."""


_REASONS: Final = {
    errno.ENOTDIR: "is not a folder, or a part of it is not one",
    errno.EISDIR: "is a folder, not a file",
    errno.ELOOP: "goes through a link; links are not followed",
    errno.EXDEV: "leads out of the work_dir",
    errno.ENAMETOOLONG: "is too long",
    errno.EACCES: "cannot be accessed: permission denied",
    errno.EPERM: "cannot be accessed: permission denied",
    errno.ENXIO: "is neither a file nor a folder",
    errno.EINVAL: "cannot be a name on this file system",
    errno.EILSEQ: "cannot be a name on this file system",
}


def quote_path(path: str) -> str:
    """Return ``path`` for a sentence: quoted, escaped, of bounded length."""
    return repr(path if len(path) <= 200 else f"{path[:199]}…")


def parse_path(path: str) -> tuple[bytes, ...]:
    """Return the parts of a path from outside, as they are on disk; none for the work_dir itself.

    Raises:
        InvalidPath: for a path that is absolute, has "..", a NUL or a lone surrogate in
            it, or is too long.
    """
    if path.startswith("/"):
        raise InvalidPath(f"{quote_path(path)} is absolute; paths are relative to the work_dir")
    if "\0" in path:
        raise InvalidPath(f"{quote_path(path)} has a NUL in it")
    try:
        on_disk = wire_names.decode(path)
    except UnicodeEncodeError:
        raise InvalidPath(f"{quote_path(path)} cannot be written in UTF-8") from None
    parts = tuple(part for part in on_disk.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise InvalidPath(
            f"{quote_path(path)} has '..' in it; name the path from the work_dir down"
        )
    if len(on_disk) > MAX_PATH_BYTES or any(len(part) > MAX_NAME_BYTES for part in parts):
        raise InvalidPath(f"{quote_path(path)} is too long")
    return parts


def parse_file_path(path: str) -> tuple[bytes, ...]:
    """Return the parts, at least one, of a path that must name a file.

    Raises:
        InvalidPath: as ``parse``, and where only a folder can be meant.
    """
    parts = parse_path(path)
    if not parts or path.endswith(("/", "/.")):
        raise InvalidPath(f"{quote_path(path)} names a folder, not a file")
    return parts


@contextmanager
def path_errors(what: str) -> Iterator[None]:
    """Turn what the file system says against ``what`` into a ``PathError``.

    Other failures, a full disk for one, stay the ``OSError`` that they are.
    """
    try:
        yield
    except FileNotFoundError:
        raise MissingPath(f"{what} does not exist") from None
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise InvalidPath(f"{what} {reason}") from None


def open_directory(base: int, parts: Sequence[bytes]) -> int:
    """Open the folder at ``parts`` beneath the folder ``base``; return its descriptor.

    Raises:
        OSError: ELOOP where a part is a link, ENOTDIR where one is not a folder, …
    """
    folder = os.open(b".", _DIRECTORY_FLAGS, dir_fd=base)
    step = _PARTS_AT_ONCE if has_openat2() else 1
    for start in range(0, len(parts), step):
        try:
            if step > 1:
                deeper = _openat2(folder, b"/".join(parts[start : start + step]))
            else:
                deeper = _open_part(folder, parts[start])
        finally:
            os.close(folder)
        folder = deeper
    return folder


def open_regular(folder: int, name: bytes) -> tuple[BinaryIO, os.stat_result]:
    """Open the regular file ``name`` in ``folder``, unbuffered.

    Raises:
        OSError: ELOOP for a link, EISDIR for a folder, ENXIO for anything else.
    """
    # Looked at first: merely opening a fifo wakes whoever waits at its other end.
    check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False))
    file = os.open(name, _FILE_FLAGS, dir_fd=folder)
    try:
        status = os.fstat(file)
        check_regular(status)
        return os.fdopen(file, "rb", buffering=0), status
    except BaseException:
        os.close(file)
        raise


def check_regular(status: os.stat_result) -> None:
    """Raise the ``OSError`` that says what is there instead of a regular file."""
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a link")
    raise OSError(errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO, "no regular file")


def _open_part(folder: int, part: bytes) -> int:
    try:
        return os.open(part, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=folder)
    except NotADirectoryError:
        # Linux says this of a link, too.
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
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
    """Whether this kernel, and whatever filters its calls, has ``openat2``."""
    if sys.platform != "linux":  # elsewhere the number is another call's
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


def _openat2(folder: int, path: bytes) -> int:
    how = _OpenHow(_DIRECTORY_FLAGS, 0, _RESOLVE)
    while True:
        opened = _libc().syscall(_SYS_OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
        if opened >= 0:
            return int(opened)
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))
