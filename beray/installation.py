"""Consistency checks of the installation, and instructions for installing missing extras.

The name ``beray`` on the Python package index belongs to an older client (0.1.x), which has three
files with the same names as files of this package. Tools that install without uninstalling
(``pip install --ignore-installed``, layers of container images) can mix the two packages.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Final

from beray.version import __version__

_MARKERS: Final = {
    "__init__.py": b"__version__",
    "client.py": b"def from_env(",
    "exceptions.py": b"class InvalidArgument(",
}
"""Files of both packages, and text that they contain only in this one."""


def how_to_install(extra: str = "") -> str:
    """Return an instruction to install this project, with an extra, from a checkout."""
    name = f"'.[{extra}]'" if extra else "."
    return f"in a checkout of BeRay, run: pip install {name}"


@cache
def replaced_files(folder: Path = Path(__file__).parent) -> tuple[str, ...]:
    """Return the files of this package that another package replaced or removed."""
    return tuple(name for name, marker in _MARKERS.items() if not _contains(folder / name, marker))


def _contains(path: Path, marker: bytes) -> bool:
    try:
        return marker in path.read_bytes()
    except FileNotFoundError:
        # Some bundles contain only compiled files; those are not mixed.
        return path.with_suffix(".pyc").exists() or not path.parent.is_dir()
    except OSError:
        return True


def installed_versions(folder: Path = Path(__file__).parent) -> list[str]:
    """Return the versions of ``beray`` that have metadata beside the package."""
    try:
        names = [path.name for path in folder.parent.iterdir()]
    except OSError:
        return []
    found = (re.fullmatch(r"beray-(.+)\.dist-info", name) for name in names)
    return sorted(match[1] for match in found if match)


def require_consistent() -> None:
    """Check that no file of this package was replaced by another package named ``beray``.

    Raises:
        ImportError: Files were replaced or removed.
    """
    names = replaced_files()
    if names:
        folder = Path(__file__).parent
        raise ImportError(
            f"two packages named beray are mixed in {folder}: the client 0.1.x from the package "
            f"index replaced or removed {', '.join(names)} of BeRay {__version__}. "
            f"{_next_step(folder)}"
        )


def version_warning() -> str | None:
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
        f"Run `{Path(sys.executable).name} -m pip uninstall -y beray` until it reports that "
        f"nothing is installed, delete {folder}, and install again: {how_to_install()}"
    )
