"""Change from root to the unprivileged user of a command. POSIX only, standard library only."""

import os


def drop(uid: int) -> None:
    """Become the user ``uid`` with the group of the same number, irrevocably.

    Supplementary groups and all capabilities are given up. The kernel also clears the
    parent-death signal.

    Raises:
        OSError: this process is not root, or its user namespace does not map ``uid``.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
