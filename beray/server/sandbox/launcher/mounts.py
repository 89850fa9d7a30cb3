"""Private mount namespace with the files from which a sandbox is built.

Linux only, standard library only; needs CAP_SYS_ADMIN. Source: mount_namespaces(7), mount(2).
"""

import ctypes
import os
import stat

_CLONE_NEWNS = 0x00020000
_MS_NOSUID = 0x2
_MS_NODEV = 0x4
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18


def stage(directory: str, sources: list[str]) -> None:
    """Bind each of ``sources`` to its index below ``directory``, for this process only.

    A process without root's rights can then use files below directories that it must not
    enter, such as a home with mode 0700. Sources that do not exist are left out; bwrap then
    ignores or reports them.

    Args:
        directory: Existing directory that every user may enter; a new tmpfs covers it.
        sources: Paths of files and directories.

    Raises:
        OSError: The mounts are not permitted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS), "a mount namespace")
    # Otherwise the mounts would propagate to the host.
    _mount(libc, None, "/", None, _MS_REC | _MS_PRIVATE)
    # Opened before mounting, because a source may be below the directory that is covered next.
    opened = [_open(source) for source in sources]
    _mount(libc, "beray", directory, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
    for number, descriptor in enumerate(opened):
        if descriptor is None:
            continue
        target = f"{directory}/{number}"
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        _mount(libc, f"/proc/self/fd/{descriptor}", target, None, _MS_BIND | _MS_REC)
        os.close(descriptor)


def _open(source: str) -> int | None:
    try:
        return os.open(source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _mount(
    libc: ctypes.CDLL,
    source: str | None,
    target: str,
    kind: str | None,
    flags: int,
    options: str | None = None,
) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _check(libc.mount(*arguments, ctypes.c_ulong(flags), data), target)


def _check(result: int, target: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)
