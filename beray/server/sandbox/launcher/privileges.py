"""Switch from root to the unprivileged user of a command. POSIX only, standard library only."""

import os


def drop(uid: int) -> None:
    """Switch permanently to the user ``uid`` and the group of the same number.

    Supplementary groups and all capabilities are dropped. The kernel also clears the parent-death
    signal.

    Raises:
        OSError: This process is not root, or its user namespace does not map ``uid``.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
