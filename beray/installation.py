"""Checks that this installation is whole, and messages that say how to install what is missing.

The name ``beray`` on the Python package index belongs to an older client (0.1.x), which has three
files with the names of three files here. Tools that install without uninstalling
(``pip install --ignore-installed``, layers of container images) can mix the two.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from beray.version import __version__

_MARKS: Final = {
    "__init__.py": b"__version__",
    "client.py": b"def from_env(",
    "exceptions.py": b"class InvalidArgument(",
}
"""Files that both packages have, and text that they have in this one only."""


def how_to_install(extra: str = "") -> str:
    """Return the command that installs this project with an extra; not from the index."""
    name = f"'.[{extra}]'" if extra else "."
    return f"in a checkout of BeRay, run: pip install {name}"


@cache
def replaced_files(folder: Path = Path(__file__).parent) -> tuple[str, ...]:
    """Return the names of files of this package that another package has replaced or removed."""
    return tuple(name for name, mark in _MARKS.items() if not _has(folder / name, mark))


def _has(path: Path, mark: bytes) -> bool:
    try:
        return mark in path.read_bytes()
    except FileNotFoundError:
        # Compiled without its source, as in some bundles; these are not mixed.
        return path.with_suffix(".pyc").exists() or not path.parent.is_dir()
    except OSError:
        return True


def installed_versions(folder: Path = Path(__file__).parent) -> list[str]:
    """Return the versions of ``beray`` that are recorded beside the package."""
    try:
        names = [path.name for path in folder.parent.iterdir()]
    except OSError:
        return []
    found = (re.fullmatch(r"beray-(.+)\.dist-info", name) for name in names)
    return sorted(match[1] for match in found if match)


def require_whole() -> None:
    """Raise an ImportError if files of another package named ``beray`` are among those here."""
    names = replaced_files()
    if names:
        folder = Path(__file__).parent
        raise ImportError(
            f"two packages named beray are mixed in {folder}: BeRay {__version__}, and the client "
            f"0.1.x of the package index, which has replaced or removed {', '.join(names)}. "
            f"{_next_step(folder)}"
        )


def warning() -> str | None:
    """Return a warning if more than one version of ``beray`` is recorded as installed."""
    folder = Path(__file__).parent
    versions = installed_versions()
    if len(versions) < 2:
        return None
    return (
        f"{' and '.join(versions)} of beray are recorded as installed in {folder.parent}; files "
        f"of one may replace files of the other. {_next_step(folder)}"
    )


def _next_step(folder: Path) -> str:
    return (
        f"Run `{Path(sys.executable).name} -m pip uninstall -y beray` until it finds none, delete "
        f"{folder}, and install again: {how_to_install()}"
    )
