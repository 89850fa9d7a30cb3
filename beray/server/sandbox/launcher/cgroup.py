"""Kernel limits of one command: a group of cgroup v2, if a group was delegated to the server.

The kernel enforces them immediately, while ``ResourceWatch`` measures a few times a second. Both
are used if a service manager delegated a group to the server (systemd: ``Delegate=memory pids``).
Linux only, standard library only.

Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of Linux, CGROUP_DELEGATION.md of
systemd (the ``delegate`` attributes).
"""

import contextlib
import os

TYPE_CHECKING = False  # as in typing, whose import would delay every command
if TYPE_CHECKING or __package__:
    from beray.server.sandbox.launcher.excess import Excess, memory_excess
else:  # in the launcher, which imports its modules by their plain names
    from excess import Excess, memory_excess

SERVER_GROUP = "beray-server"
"""Name of the server's own group. A group that contains processes cannot enable controllers for
groups below it."""
THREADS_FACTOR = 4
"""``pids.max``, as a multiple of the limit of processes."""
_CONTROLLERS = {"memory", "pids"}
_DELEGATED = ("user.delegate", "trusted.delegate")


def prepare() -> str | None:
    """Move this process, the server, to a separate group; return the directory for commands.

    Returns:
        The directory of the delegated group, or None if no group was delegated. Then nothing is
        changed.

    Raises:
        OSError: The group was delegated, but cannot be used.
    """
    own = own_directory()
    if own is None or os.path.basename(own) == SERVER_GROUP:
        return commands_directory()
    if not _is_delegated(own) or not set(_read_words(own, "cgroup.controllers")) >= _CONTROLLERS:
        return None
    server = os.path.join(own, SERVER_GROUP)
    with contextlib.suppress(FileExistsError):
        os.mkdir(server)
    _write(server, "cgroup.procs", str(os.getpid()))
    _write(own, "cgroup.subtree_control", "+memory +pids")
    return own


def commands_directory() -> str | None:
    """Return the directory that ``prepare`` returned, in any process of the server."""
    own = own_directory()
    if own is None or os.path.basename(own) != SERVER_GROUP:
        return None
    parent = os.path.dirname(own)
    return parent if set(_read_words(parent, "cgroup.subtree_control")) >= _CONTROLLERS else None


def own_directory() -> str | None:
    """Return the directory of this process's group, or None without cgroup v2."""
    try:
        with open("/proc/self/cgroup") as file:
            paths = [line.rstrip("\n")[3:] for line in file if line.startswith("0::")]
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split(" - ") for line in file]
    except OSError:
        return None
    points = [mount.split()[4] for mount, kind in mounts if kind.split()[0] == "cgroup2"]
    return os.path.normpath(points[0] + paths[0]) if points and paths else None


class CommandGroup:
    """Group of one command, below ``parent``.

    Raises:
        OSError: The group cannot be created, or its limits cannot be set.
    """

    def __init__(self, parent: str, limits: dict[str, int]) -> None:
        self._limits = limits
        self.directory = os.path.join(parent, f"beray-command-{os.getpid()}")
        os.mkdir(self.directory)
        try:
            self._set_limits()
        except OSError:
            os.rmdir(self.directory)
            raise

    def _set_limits(self) -> None:
        if processes := self._limits.get("processes", 0):
            # The kernel counts threads. This limit stops fork bombs; the supervisor enforces the
            # exact number of processes.
            _write(self.directory, "pids.max", str(THREADS_FACTOR * processes))
        if memory := self._limits.get("memory", 0):
            _write(self.directory, "memory.max", str(memory))
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                _write(self.directory, "memory.swap.max", "0")

    def enter(self) -> None:
        """Move the calling process into the group; its future children will belong to it, too."""
        _write(self.directory, "cgroup.procs", str(os.getpid()))

    def excess(self) -> Excess | None:
        """Return the limit for which the kernel has killed a process, or None."""
        try:
            events = _read_words(self.directory, "memory.events")
        except OSError:
            return None
        killed = dict(zip(events[::2], events[1::2], strict=False)).get("oom_kill", "0")
        memory = self._limits.get("memory", 0)
        return memory_excess(memory) if int(killed) else None

    def remove(self) -> None:
        """Kill the remaining processes of the group and remove it."""
        with contextlib.suppress(OSError):
            _write(self.directory, "cgroup.kill", "1")
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)


def _is_delegated(directory: str) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(directory, name) == b"1":
                return True
    return False


def _read_words(directory: str, name: str) -> list[str]:
    with open(os.path.join(directory, name)) as file:
        return file.read().split()


def _write(directory: str, name: str, value: str) -> None:
    with open(os.path.join(directory, name), "w") as file:
        file.write(value)
