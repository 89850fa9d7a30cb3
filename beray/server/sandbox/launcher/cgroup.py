"""Limits of the kernel for one command: a group of cgroup v2, where the server was given some.

They hold at once, while ``ResourceWatch`` looks a few times a second. They are used in addition
to it, if a service manager delegated the server's group to it (systemd: ``Delegate=memory
pids``). Linux only, standard library only.

Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of Linux, CGROUP_DELEGATION.md of
systemd (the ``delegate`` attributes).
"""

import contextlib
import os

SERVER_GROUP = "beray-server"
"""The server's own group. A group with processes cannot hand controllers to groups below it."""
THREADS_FACTOR = 4
"""``pids.max``, in multiples of the limit of processes."""
_CONTROLLERS = {"memory", "pids"}
_DELEGATED = ("user.delegate", "trusted.delegate")


def prepare() -> str | None:
    """Move this process, the server, to a group of its own; return the folder for commands.

    Returns ``None`` and changes nothing if no group was delegated.

    Raises:
        OSError: The group was delegated, but cannot be used.
    """
    own = own_folder()
    if own is None or os.path.basename(own) == SERVER_GROUP:
        return commands_folder()
    if not _is_delegated(own) or not set(_words(own, "cgroup.controllers")) >= _CONTROLLERS:
        return None
    server = os.path.join(own, SERVER_GROUP)
    with contextlib.suppress(FileExistsError):
        os.mkdir(server)
    _write(server, "cgroup.procs", str(os.getpid()))
    _write(own, "cgroup.subtree_control", "+memory +pids")
    return own


def commands_folder() -> str | None:
    """Return the folder that ``prepare`` returned in the server, from any process of it."""
    own = own_folder()
    if own is None or os.path.basename(own) != SERVER_GROUP:
        return None
    above = os.path.dirname(own)
    return above if set(_words(above, "cgroup.subtree_control")) >= _CONTROLLERS else None


def own_folder() -> str | None:
    """Return the folder of this process's group; ``None`` if there is no cgroup v2."""
    try:
        with open("/proc/self/cgroup") as file:
            paths = [line.rstrip("\n")[3:] for line in file if line.startswith("0::")]
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split(" - ") for line in file]
    except OSError:
        return None
    places = [place.split()[4] for place, kind in mounts if kind.split()[0] == "cgroup2"]
    return os.path.normpath(places[0] + paths[0]) if places and paths else None


class CommandGroup:
    """The group of one command, below ``parent``.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, parent: str, limits: dict[str, int]) -> None:
        self._limits = limits
        self._folder = os.path.join(parent, f"beray-command-{os.getpid()}")
        os.mkdir(self._folder)
        try:
            self._set_limits()
        except OSError:
            os.rmdir(self._folder)
            raise

    def _set_limits(self) -> None:
        if processes := self._limits.get("processes", 0):
            # Threads count here: this holds fork bombs, the supervisor counts processes.
            _write(self._folder, "pids.max", str(THREADS_FACTOR * processes))
        if memory := self._limits.get("memory", 0):
            _write(self._folder, "memory.max", str(memory))
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap
                _write(self._folder, "memory.swap.max", "0")

    def enter(self) -> None:
        """Put the calling process into the group; what it starts will be in it as well."""
        _write(self._folder, "cgroup.procs", str(os.getpid()))

    def problem(self) -> str | None:
        """Return the limit for which the kernel has ended a process, if there is one."""
        try:
            events = _words(self._folder, "memory.events")
        except OSError:
            return None
        killed = dict(zip(events[::2], events[1::2], strict=False)).get("oom_kill", "0")
        memory = self._limits.get("memory", 0)
        return f"more than {memory:,} bytes of memory" if int(killed) else None

    def remove(self) -> None:
        """Kill what is left in the group and remove it."""
        with contextlib.suppress(OSError):
            _write(self._folder, "cgroup.kill", "1")
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)


def _is_delegated(folder: str) -> bool:
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _words(folder: str, name: str) -> list[str]:
    with open(os.path.join(folder, name)) as file:
        return file.read().split()


def _write(folder: str, name: str, value: str) -> None:
    with open(os.path.join(folder, name), "w") as file:
        file.write(value)
