"""Private copies of the operator's writable agent paths, one per user.

An agent program keeps its settings and sign-in tokens in paths such as ``~/.gemini``, listed in
``BERAY_AGENT_PATHS`` as ``~/.gemini=rw``. On a shared server, one user's agent must not write
files that another user's agent reads, so each user has a copy, made at the first use. Copies are
persistent, because agents replace their sign-in tokens there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import FileLock

from beray.server.sandbox.layout import private_paths
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.settings import Settings
from beray.server.workspace import disk_usage, tree
from beray.server.workspace.disk_quota import DiskQuota, DiskQuotaExceeded
from beray.server.workspace.disk_usage import DiskLimits
from beray.server.workspace.ownership import chown_tree, set_owner

FOLDER: Final = "agent-homes"
"""Directory of the copies in the data directory: ``agent-homes/USER_ID/NAME-HASH``."""
OPERATOR: Final = "operator"
"""Directory that replaces ``USER_ID`` on a personal server that runs as root."""
MAX_ENTRIES: Final = 100_000
"""Maximum number of files and directories in one copy when it is made."""
MAX_GROWTH: Final = 2
"""Size to which a copy may grow, as a multiple of ``agent_copy_bytes``."""
_LOCK_FILE: Final = ".lock"
_UNFINISHED: Final = ".unfinished-"
_BLOCK: Final = 1024**2


class AgentCopyError(Exception):
    """A private copy cannot be made; the message has the reason and the operator's options."""


def binds(settings: Settings, sandbox: Sandbox, user_id: int) -> list[Bind]:
    """Return the agent paths to bind into a user's sandbox; make missing copies first.

    Blocks while files are copied, and while another run makes the same copies. Without
    bubblewrap there is nothing to bind: agents use the operator's own paths.

    Raises:
        AgentCopyError: A copy cannot be made, or exceeds its maximum size.
    """
    if sandbox.kind == "none":
        return []
    home = home_of(settings, user_id)
    return [
        _private(bind, home, settings, sandbox.uid_of(user_id))
        if bind.writable and home is not None
        else bind
        for bind in settings.agent_binds()
    ]


def home_of(settings: Settings, user_id: int) -> Path | None:
    """Return the directory of a user's copies; None if agents use the paths in place.

    Personal servers use the paths in place unless they run as root: then agents have fewer rights
    than the server and could not use root's files.
    """
    if settings.shared:
        return settings.data_dir / FOLDER / str(user_id)
    if os.geteuid() == 0:
        return settings.data_dir / FOLDER / OPERATOR
    return None


async def enforce(settings: Settings, user_id: int) -> None:
    """Measure the size of a user's copies periodically until cancelled.

    Raises:
        DiskQuotaExceeded: The copies together exceed ``MAX_GROWTH`` times their initial limit.
    """
    home = home_of(settings, user_id)
    number = sum(bind.writable for bind in settings.agent_binds())
    if home is None or not number:
        await asyncio.get_running_loop().create_future()
        return
    home.parent.mkdir(mode=0o700, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    limits = DiskLimits(number * MAX_GROWTH * settings.agent_copy_bytes, number * 2 * MAX_ENTRIES)
    try:
        await DiskQuota(home, limits).enforce()
    except DiskQuotaExceeded:
        raise DiskQuotaExceeded(
            f"the private copies of BERAY_AGENT_PATHS exceed {limits.bytes:,} bytes "
            f"(BERAY_AGENT_COPY_BYTES) or {limits.files:,} files"
        ) from None


def _private(bind: Bind, home: Path, settings: Settings, uid: int | None) -> Bind:
    copy = home / _name(bind.path)
    try:
        if not os.path.lexists(copy):
            home.parent.mkdir(mode=0o700, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
            with FileLock(home / _LOCK_FILE, mode=0o600):
                if not os.path.lexists(copy):
                    _make(bind.path, copy, settings)
        elif (used := disk_usage.measure([copy]).bytes) > MAX_GROWTH * settings.agent_copy_bytes:
            raise AgentCopyError(
                f"The private copy of {bind.path} has grown to {used:,} bytes, more than "
                f"{MAX_GROWTH} times BERAY_AGENT_COPY_BYTES. The server's operator can delete "
                f"{FOLDER}/{home.name} in the data directory; the next task makes a new copy."
            )
        _give(copy, uid)
    except (OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "its directories are nested too deeply"
        raise AgentCopyError(
            f"The private copy of {bind.path} (BERAY_AGENT_PATHS) cannot be made: {reason}."
        ) from error
    # If the path does not exist, it is not copied, and nothing is bound.
    return Bind(str(copy), writable=True, inside=bind.path, origin=bind.origin, private=True)


def _give(copy: Path, uid: int | None) -> None:
    """Give a copy to the agent's uid, unless its root belongs to that uid already."""
    if uid is None or not os.path.lexists(copy) or os.lstat(copy).st_uid == uid:
        return
    if copy.is_dir() and not copy.is_symlink():
        chown_tree(copy, uid)
    else:
        set_owner(copy, uid)


def _name(path: str) -> str:
    """Return the name of the copy of ``path``: readable, unique and of bounded length."""
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", path.rpartition("/")[2])[:64]
    return f"{readable}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"


def _make(source: str, copy: Path, settings: Settings) -> None:
    """Copy ``source`` atomically. The caller holds the lock of the directory."""
    unfinished = copy.with_name(_UNFINISHED + copy.name)
    _remove(unfinished)  # left by an interrupted attempt
    copying = _Copier(source, settings)
    try:
        if not copying.copy(unfinished):
            return
        os.sync()  # write the files to disk before the rename
        unfinished.rename(copy)
    except BaseException:
        _remove(unfinished)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        tree.remove(path)
    else:
        path.unlink(missing_ok=True)


class _Copier:
    """Recursive copy of one path within limits of size and number.

    Regular files, directories and symbolic links are copied, the latter as links; special files
    are skipped. No link below the source is followed, and private data, such as the server's data
    directory, is never part of a copy.
    """

    def __init__(self, source: str, settings: Settings) -> None:
        # The configured path itself may be a symbolic link.
        self._source = os.path.realpath(source)
        self._configured_path = source
        self._max_bytes = settings.agent_copy_bytes
        self._bytes = 0
        self._entries = 0
        self._private: set[tuple[int, int]] = set()
        for path in private_paths(settings):
            with suppress(FileNotFoundError):
                status = Path(path.path).stat()
                self._private.add((status.st_dev, status.st_ino))

    def copy(self, target: Path) -> bool:
        """Copy the source; return False if there is nothing to copy.

        Raises:
            AgentCopyError: The source exceeds a limit.
            OSError: Something cannot be read or written.
        """
        try:
            status = Path(self._source).lstat()
        except FileNotFoundError:
            return False
        if stat.S_ISREG(status.st_mode):
            self._copy_file(self._source, None, target)
            return True
        if not stat.S_ISDIR(status.st_mode):
            return False
        self._copy_directory(target)
        return True

    def _copy_directory(self, target: Path) -> None:
        target.mkdir(mode=0o700)
        modes: list[tuple[Path, int]] = []
        walk = os.fwalk(self._source, follow_symlinks=False, onerror=_raise)
        for path, names, files, descriptor in walk:
            here = target / os.path.relpath(path, self._source)
            modes.append((here, os.fstat(descriptor).st_mode))
            for name in [*names, *files]:
                self._count(0)
                try:
                    is_directory = self._copy_entry(name, descriptor, here / name)
                except FileNotFoundError:
                    is_directory = False  # removed meanwhile
                if name in names and not is_directory:
                    names.remove(name)
        # From the inside out, because a directory may lack write permission.
        for directory, mode in reversed(modes):
            directory.chmod(stat.S_IMODE(mode) & 0o777)

    def _copy_entry(self, name: str, parent: int, target: Path) -> bool:
        """Copy an entry of a directory; return True if it is a directory to descend into.

        Args:
            name: Name of the entry.
            parent: Descriptor of its directory.
            target: Path of the copy.
        """
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (status.st_dev, status.st_ino) in self._private:
            return False
        if stat.S_ISDIR(status.st_mode):
            target.mkdir(mode=0o700)
            return True
        if stat.S_ISLNK(status.st_mode):
            target.symlink_to(os.readlink(name, dir_fd=parent))
        elif stat.S_ISREG(status.st_mode):
            self._copy_file(name, parent, target)
        return False

    def _copy_file(self, name: str, parent: int | None, target: Path) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with (
            os.fdopen(os.open(name, flags, dir_fd=parent), "rb") as source,
            os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy,
        ):
            status = os.fstat(source.fileno())
            if not stat.S_ISREG(status.st_mode):
                return
            while block := source.read(_BLOCK):
                self._count(len(block))
                copy.write(block)
            os.fchmod(copy.fileno(), stat.S_IMODE(status.st_mode) & 0o777)
            os.utime(copy.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))

    def _count(self, size: int) -> None:
        self._entries += size == 0
        self._bytes += size
        if self._bytes > self._max_bytes:
            limit = f"{self._max_bytes:,} bytes (BERAY_AGENT_COPY_BYTES)"
        elif self._entries > MAX_ENTRIES:
            limit = f"{MAX_ENTRIES:,} files"
        else:
            return
        raise AgentCopyError(
            f"The private copy of {self._configured_path} (BERAY_AGENT_PATHS) would exceed "
            f"{limit}. List a smaller directory as writable, or bind large parts of it read-only."
        )


def _raise(error: OSError) -> None:
    raise error
