"""Host uids of sandboxed commands, one for each user, if the server is root.

Without them, a command of a root server would be root for the kernel, regardless of its uid inside
a user namespace, and could write to files such as ``/proc/sys/kernel/core_pattern``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SETTING: Final = "BERAY_SANDBOX_UIDS"
DEFAULT: Final = "2100000000-2100999999"
"""Default range. It is above the uids that login.defs (up to 600100000), systemd-nspawn (up to
1879048191) and SSSD (up to 2000200000) assign, and below 2147352576, where systemd starts to map
foreign images."""
_FIRST_ALLOWED: Final = 1000
_RESERVED: Final = frozenset({65534, 65535})
"""Uid of the account ``nobody``, and the 16-bit form of the invalid uid."""
_LAST_ALLOWED: Final = 2**31 - 1


class NoSandboxUid(OSError):
    """A user or a directory has no uid in the range; the message names the setting."""


@dataclass(frozen=True, slots=True)
class UidRange:
    """Uids from ``first`` to ``last``, both included. ``first`` is not assigned to a user."""

    first: int
    last: int

    def __contains__(self, uid: int) -> bool:
        return self.first <= uid <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def of_user(self, user_id: int | None) -> int:
        """Return the uid for commands of a user.

        Args:
            user_id: Id of the user; None for the server itself and for callers without an
                account, who share one uid.

        Raises:
            NoSandboxUid: The range is too short.
        """
        uid = self.first + (user_id or 0)
        if uid not in self:
            raise NoSandboxUid(
                None,
                f"user {user_id} has no uid in {SETTING}={self}, which has uids for users up to "
                f"{self.last - self.first}; the operator must extend the range",
            )
        return uid

    def unmapped(self, uid_map: str | None = None) -> str | None:
        """Return why the range does not exist in this user namespace, or None if it does.

        Args:
            uid_map: Content of ``/proc/self/uid_map``; by default, that file is read.
        """
        if uid_map is None:
            try:
                uid_map = Path("/proc/self/uid_map").read_text()
            except OSError:
                return None
        maps = [
            (int(first), int(count)) for first, _, count in map(str.split, uid_map.splitlines())
        ]
        mapped = [UidRange(first, first + count - 1) for first, count in maps]
        if any(self.first in range_ and self.last in range_ for range_ in mapped):
            return None
        return (
            f"the uids of {SETTING}={self} do not exist in this user namespace, which has "
            f"{', '.join(map(str, mapped))}"
        )

    def shared_with(self, etc: Path = Path("/etc")) -> list[str]:
        """Return the entries of ``/etc/passwd`` and ``/etc/subuid`` with uids of the range."""
        found = []
        for name, first, count in (("passwd", 2, None), ("subuid", 1, 2)):
            try:
                lines = (etc / name).read_text(errors="replace").splitlines()
            except OSError:
                continue
            for line in lines:
                fields = line.split(":")
                try:
                    start = int(fields[first])
                    end = start if count is None else start + int(fields[count]) - 1
                except (IndexError, ValueError):
                    continue
                if start <= self.last and end >= self.first:
                    found.append(f"{etc / name}: {fields[0]}")
        return found

    def require(self, path: Path) -> int:
        """Return the uid that owns a directory.

        Raises:
            NoSandboxUid: The uid is outside the range.
            OSError: The directory does not exist.
        """
        uid = os.lstat(path).st_uid
        if uid not in self:
            raise NoSandboxUid(
                None,
                f"the directory {path.name} belongs to uid {uid}, which is not in "
                f"{SETTING}={self}; restart the server, which corrects owners when it starts",
            )
        return uid


def parse(text: str) -> UidRange:
    """Return the range that ``FIRST-LAST`` describes.

    Raises:
        ValueError: ``text`` is malformed, or the range includes uids of the system.
    """
    found = re.fullmatch(r"\s*([0-9]{1,10})\s*-\s*([0-9]{1,10})\s*", text)
    if found is None:
        raise ValueError(f"{text!r} is not a range of uids; give FIRST-LAST, such as {DEFAULT}")
    uids = UidRange(int(found[1]), int(found[2]))
    if uids.first >= uids.last:
        raise ValueError(f"{text!r} contains no uid for users; LAST must be greater than FIRST")
    if uids.first < _FIRST_ALLOWED or uids.last > _LAST_ALLOWED:
        raise ValueError(
            f"{text!r} must be within {_FIRST_ALLOWED} to {_LAST_ALLOWED}; lower uids belong to "
            "the system"
        )
    if any(uid in uids for uid in _RESERVED):
        raise ValueError(f"{text!r} includes 65534 (nobody) or 65535; choose a range without them")
    return uids
