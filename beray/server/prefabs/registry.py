"""The prefabs of a server: those that come with it, and those that were added.

A version never changes: it is a folder that is moved into place whole. A folder that
cannot be used is said in the log, and not there for anybody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from beray.sanitize import one_line
from beray.server.http.validation_errors import InputProblem
from beray.server.prefabs import manifest
from beray.server.prefabs.archives import content
from beray.server.prefabs.manifest import Function, Manifest, ManifestError
from beray.server.prefabs.versions import Version, newest_first
from beray.server.workspace import tree

OFFICIAL: Final = Path(__file__).parents[2] / "prefabs"

log = structlog.get_logger("beray.prefabs")


class NoSuchPrefab(Exception):
    """There is no such prefab, version or function; the text says which."""


class VersionTaken(Exception):
    """This version is there with another content, or its id is one of the server's own."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of a prefab."""

    manifest: Manifest
    version: Version
    folder: Path
    is_official: bool

    @property
    def id(self) -> str:
        return self.manifest.prefab.id

    @property
    def is_deployed(self) -> bool:
        return self.manifest.prefab.status == "deployed"

    @property
    def module_file(self) -> str:
        return f"{self.manifest.prefab.module}.py"

    def function(self, name: str) -> Function:
        """Raises NoSuchPrefab: there is no function ``name``."""
        found = self.manifest.functions.get(name)
        if found is None:
            known = ", ".join(self.manifest.functions)
            raise NoSuchPrefab(
                f"{self.id} {self.version.text} has no such function; it has {known}"
            )
        return found


class Registry:
    """Used from threads. ``load`` reads the folders."""

    def __init__(self, folder: Path, official: Path = OFFICIAL) -> None:
        self._folder = folder
        self._official = official
        self._found: dict[str, dict[str, Installed]] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Look at all folders. Nothing of a single one keeps the others from being there.

        Raises:
            OSError: the folder of those that are added cannot be made or read.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self._folder.glob(".new-*"):
            tree.make_empty(left)
            left.rmdir()
        found: dict[str, dict[str, Installed]] = {}
        for root, is_official in ((self._official, True), (self._folder, False)):
            for folder in _version_folders(root):
                self._take(folder, is_official, found)
        with self._lock:
            self._found = found

    def _take(
        self, folder: Path, is_official: bool, found: dict[str, dict[str, Installed]]
    ) -> None:
        try:
            installed = inspected(folder, is_official)
            named = (folder.parent.name, folder.name)
            if (installed.id, installed.version.text) != named:
                raise ManifestError([InputProblem((), "its folders are not its id and version")])
            if found.get(installed.id) and is_official != _is_official(found[installed.id]):
                raise ManifestError([InputProblem((), "its id is one of the server's own prefabs")])
        except (ManifestError, OSError) as error:
            log.error("a prefab is left out", folder=str(folder), problem=str(error))
            return
        found.setdefault(installed.id, {})[installed.version.text] = installed

    def newest(self) -> list[Installed]:
        """The newest version of each prefab, by id."""
        with self._lock:
            ids = sorted(self._found)
        return [self.find(prefab_id, "latest") for prefab_id in ids]

    def versions(self, prefab_id: str) -> list[str]:
        """All versions of a prefab, the newest first; pre-releases are behind releases."""
        with self._lock:
            found = list(self._found.get(prefab_id, {}).values())
        return [one.text for one in newest_first([installed.version for installed in found])]

    def has_added(self, prefab_id: str) -> bool:
        """Whether anything of it is there, be it damaged, that does not come with the server."""
        place = self._folder / prefab_id
        return place.is_dir() and any(place.iterdir())

    def find(self, prefab_id: str, version: str | None) -> Installed:
        """The prefab; its newest version that is run where ``latest`` or nothing is asked for.

        Raises:
            NoSuchPrefab: it is not there.
        """
        versions = self.versions(prefab_id)
        if not versions:
            raise NoSuchPrefab(
                f"there is no prefab {one_line(prefab_id, 100)!r}; list what there is"
            )
        with self._lock:
            found = dict(self._found.get(prefab_id, {}))
        if version in (None, "", "latest"):
            # One that is not run stands in nobody's way.
            deployed = (text for text in versions if found[text].is_deployed)
            version = next(deployed, versions[0])
        installed = found.get(str(version))
        if installed is None:
            raise NoSuchPrefab(f"{prefab_id} has no such version; it has {', '.join(versions)}")
        return installed

    def spec(self, installed: Installed) -> dict[str, Any]:
        return manifest.spec(installed.manifest, self.versions(installed.id))

    def same(self, fresh: Installed) -> Installed | None:
        """The prefab that is there with the very content of ``fresh``."""
        with self._lock:
            there = self._found.get(fresh.id, {}).get(fresh.version.text)
        is_same = there is not None and content(there.folder) == content(fresh.folder)
        return there if is_same else None

    def install(self, fresh: Path) -> tuple[Installed, bool]:
        """Put the prefab in ``fresh``, which is its caller's own, into place.

        Returns:
            the prefab, and whether it is new: the same content may come again.

        Raises:
            ManifestError: it cannot be used.
            VersionTaken: this version is there, and is another.
            OSError: the disk refuses.
        """
        installed = inspected(fresh, is_official=False)
        with self._lock:
            versions = self._found.get(installed.id, {})
            if versions and _is_official(versions):
                raise VersionTaken(f"{installed.id} is a prefab that comes with the server")
            there = versions.get(installed.version.text)
            if there is not None:
                if content(there.folder) != content(fresh):
                    raise VersionTaken(
                        f"{installed.id} {installed.version.text} is there with another content; "
                        "a version never changes: give it the next number"
                    )
                return there, False
            place = self._folder / installed.id / installed.version.text
            place.parent.mkdir(parents=True, exist_ok=True)
            # What is there and was not loaded is damaged.
            if os.path.lexists(place):
                raise VersionTaken(f"{installed.id} {installed.version.text} is there, damaged")
            os.rename(fresh, place)
            _sync(place.parent)
            settled = Installed(installed.manifest, installed.version, place, False)
            self._found.setdefault(installed.id, {})[installed.version.text] = settled
        return settled, True

    @property
    def root(self) -> Path:
        """Where prefabs are added: what is to be installed has to be on its file system."""
        return self._folder


def inspected(folder: Path, is_official: bool) -> Installed:
    """The prefab in a folder.

    Raises:
        ManifestError: it cannot be used.
    """
    # Those that come with the server were looked at before it was shipped; to do it again would be
    # half of each start.
    read = manifest.read(folder, is_known=is_official)
    installed = Installed(read, Version.parse(read.prefab.version), folder, is_official)
    if not (folder / installed.module_file).is_file():
        missing = InputProblem(("prefab", "module"), f"there is no {installed.module_file}")
        raise ManifestError([missing])
    return installed


def _version_folders(root: Path) -> Iterator[Path]:
    for prefab in _folders(root):
        if manifest.is_id(prefab.name):
            yield from _folders(prefab)


def _folders(root: Path) -> Iterable[Path]:
    try:
        found = sorted(root.iterdir())
    except OSError:
        return []
    named = [path for path in found if not path.name.startswith((".", "__"))]
    return [path for path in named if path.is_dir() and not path.is_symlink()]


def _is_official(versions: dict[str, Installed]) -> bool:
    return next(iter(versions.values())).is_official


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
