"""Paths of the host that sandboxed commands must not see, and the check that they can be hidden."""

from __future__ import annotations

from beray.config import home
from beray.exceptions import ConfigurationError
from beray.server.sandbox import bubblewrap, masking, probe
from beray.server.sandbox.interpreter import interpreter_binds, python_paths
from beray.server.sandbox.masking import PrivatePath
from beray.server.settings import Settings


def check_layout(settings: Settings) -> None:
    """Reject settings with which private data would be visible to sandboxed commands.

    Raises:
        UnmaskableLayout: Private data cannot be hidden; the message names the path, the reason and
            the next step.
    """
    if settings.sandbox == "none" or probe.not_installed() is not None:
        return
    private = private_paths(settings)
    masking.check(python_paths(), private)
    for binds in ([], settings.agent_binds(), interpreter_binds()):
        bubblewrap.command_line(None, None, network=True, etc={}, binds=binds, private=private)


def private_paths(settings: Settings) -> list[PrivatePath]:
    """Return the paths that no command may see, except for its own directories.

    These are the data directory, and the user's BeRay directory with saved sign-ins and the data
    of other servers. If commands need something from the latter, only the data directories in it
    are private.
    """
    try:
        user_dir = home()
    except ConfigurationError:  # the server's user has no home directory
        user_dir = settings.data_dir
    needed = [*bubblewrap.NEEDED, *settings.agent_binds(), *python_paths()]
    real = masking.real_path(user_dir)
    is_needed = any(masking.is_at_or_below(masking.real_path(bind.path), real) for bind in needed)
    others = [user_dir / "server", user_dir / "serve"] if is_needed else [user_dir]
    remedy = "choose another data directory (--data-dir, BERAY_HOME)"
    own = (settings.data_dir, "the data directory", remedy)
    remedy = "set BERAY_HOME to another directory"
    return masking.private_paths(
        [own, *((path, "the user's BeRay directory", remedy) for path in others)]
    )
