"""Registry of a server's prefabs, and the authors of the added ones.

Prefabs are included in the package or added by users. A version never changes: its complete
directory is moved into place. Directories with an invalid prefab are logged and skipped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from beray.sanitize import one_line
from beray.server.http.validation_errors import InputProblem
from beray.server.prefabs import manifest
from beray.server.prefabs.archives import content_digest
from beray.server.prefabs.manifest import (
    FunctionSpec,
    Manifest,
    ManifestError,
    Version,
    newest_first,
)
from beray.server.storage.prefab_authors import PrefabAuthorRepository
from beray.server.workspace import tree

INCLUDED_PREFABS: Final = Path(__file__).parents[2] / "prefabs"

log = structlog.get_logger("beray.prefabs")


class PrefabNotFound(Exception):
    """The prefab, version or function does not exist. The message names it."""


class VersionConflict(Exception):
    """The version exists with other content, or its id belongs to an included prefab."""


class NotPrefabAuthor(Exception):
    """The id of the prefab belongs to another user."""


@dataclass(frozen=True, slots=True)
class InstalledPrefab:
    """One version of a prefab.

    Attributes:
        is_official: Whether the prefab is included in the server's package.
    """

    manifest: Manifest
    version: Version
    folder: Path
    is_official: bool

    @property
    def id(self) -> str:
        """Id of the prefab."""
        return self.manifest.prefab.id

    @property
    def is_deployed(self) -> bool:
        """False if the manifest disables the version."""
        return self.manifest.prefab.status == "deployed"

    @property
    def module_file(self) -> str:
        """Name of the module's file."""
        return f"{self.manifest.prefab.module}.py"

    def function(self, name: str) -> FunctionSpec:
        """Return the function ``name``.

        Raises:
            PrefabNotFound: The prefab has no such function.
        """
        found = self.manifest.functions.get(name)
        if found is None:
            known = ", ".join(self.manifest.functions)
            raise PrefabNotFound(
                f"{self.id} {self.version.text} has no function {one_line(name, 100)!r}; "
                f"its functions: {known}"
            )
        return found


class PrefabRegistry:
    """Prefabs in the directories of a server. Synchronous; for threads.

    The registry is empty until ``load`` was called.

    Args:
        folder: Directory of the added prefabs.
        included: Directory of the included prefabs.
    """

    def __init__(self, folder: Path, included: Path = INCLUDED_PREFABS) -> None:
        self._folder = folder
        self._included = included
        self._found: dict[str, dict[str, InstalledPrefab]] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read all directories. An invalid prefab does not affect the others.

        Raises:
            OSError: The directory of the added prefabs cannot be created or read.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for interrupted in self._folder.glob(".new-*"):
            tree.make_empty(interrupted)
            interrupted.rmdir()
        found: dict[str, dict[str, InstalledPrefab]] = {}
        for root, is_official in ((self._included, True), (self._folder, False)):
            for directory in _version_directories(root):
                self._load_version(directory, is_official, found)
        with self._lock:
            self._found = found

    def _load_version(
        self, directory: Path, is_official: bool, found: dict[str, dict[str, InstalledPrefab]]
    ) -> None:
        try:
            installed = load_prefab(directory, is_official)
            names = (directory.parent.name, directory.name)
            if (installed.id, installed.version.text) != names:
                reason = "the names of its directories differ from its id and version"
                raise ManifestError([InputProblem((), reason)])
            if found.get(installed.id) and is_official != _is_official(found[installed.id]):
                reason = "its id is the id of a prefab that is included in the server"
                raise ManifestError([InputProblem((), reason)])
        except (ManifestError, OSError) as error:
            log.error("an invalid prefab was skipped", folder=str(directory), problem=str(error))
            return
        found.setdefault(installed.id, {})[installed.version.text] = installed

    def newest_versions(self) -> list[InstalledPrefab]:
        """Return the newest version of each prefab, sorted by id."""
        with self._lock:
            ids = sorted(self._found)
        return [self.find(prefab_id, "latest") for prefab_id in ids]

    def versions(self, prefab_id: str) -> list[str]:
        """Return all versions of a prefab, newest first and pre-releases last."""
        with self._lock:
            found = list(self._found.get(prefab_id, {}).values())
        versions = newest_first([installed.version for installed in found])
        return [version.text for version in versions]

    def has_added_versions(self, prefab_id: str) -> bool:
        """Return True if users have added versions of a prefab, valid or not."""
        directory = self._folder / prefab_id
        return directory.is_dir() and any(directory.iterdir())

    def find(self, prefab_id: str, version: str | None) -> InstalledPrefab:
        """Return a version of a prefab.

        Args:
            prefab_id: Id of the prefab.
            version: "latest", "" or None selects the newest version that is not disabled.

        Raises:
            PrefabNotFound: The prefab or the version does not exist.
        """
        versions = self.versions(prefab_id)
        if not versions:
            raise PrefabNotFound(
                f"no prefab {one_line(prefab_id, 100)!r} on this server; "
                "`beray prefab list` lists the prefabs"
            )
        with self._lock:
            found = dict(self._found.get(prefab_id, {}))
        if version in (None, "", "latest"):
            deployed = (text for text in versions if found[text].is_deployed)
            version = next(deployed, versions[0])
        installed = found.get(str(version))
        if installed is None:
            raise PrefabNotFound(
                f"{prefab_id} has no version {one_line(str(version), 100)!r}; "
                f"its versions: {', '.join(versions)}"
            )
        return installed

    def spec(self, installed: InstalledPrefab) -> dict[str, Any]:
        """Return the spec of a prefab; see ``manifest.spec``."""
        return manifest.spec(installed.manifest, self.versions(installed.id))

    def find_identical(self, fresh: InstalledPrefab) -> InstalledPrefab | None:
        """Return the installed prefab with the same id, version and content as ``fresh``."""
        with self._lock:
            existing = self._found.get(fresh.id, {}).get(fresh.version.text)
        if existing is None or content_digest(existing.folder) != content_digest(fresh.folder):
            return None
        return existing

    def install(self, fresh: Path) -> tuple[InstalledPrefab, bool]:
        """Move the prefab in the directory ``fresh`` into place.

        Returns:
            The prefab, and whether it is new. Identical content may be installed again.

        Raises:
            ManifestError: The prefab is invalid.
            VersionConflict: The version exists with other content.
            OSError: The directory cannot be moved.
        """
        installed = load_prefab(fresh, is_official=False)
        name = f"{installed.id} {installed.version.text}"
        with self._lock:
            versions = self._found.get(installed.id, {})
            if versions and _is_official(versions):
                raise VersionConflict(
                    f"{installed.id} is included in the server; choose another id"
                )
            existing = versions.get(installed.version.text)
            if existing is not None:
                if content_digest(existing.folder) != content_digest(fresh):
                    raise VersionConflict(
                        f"{name} exists with other content and a version never changes; "
                        "increase the version number"
                    )
                return existing, False
            target = self._folder / installed.id / installed.version.text
            target.parent.mkdir(parents=True, exist_ok=True)
            # A directory that was not loaded is damaged.
            if os.path.lexists(target):
                raise VersionConflict(f"{name} exists but is damaged; increase the version number")
            fresh.rename(target)
            _fsync_directory(target.parent)
            settled = InstalledPrefab(installed.manifest, installed.version, target, False)
            self._found.setdefault(installed.id, {})[installed.version.text] = settled
        return settled, True

    @property
    def root(self) -> Path:
        """Directory of the added prefabs. ``install`` needs sources on its file system."""
        return self._folder


class PrefabAuthors:
    """Owners of the ids of added prefabs. Synchronous; for threads.

    An id belongs to the user who first added a prefab with it. Users store secrets for the id
    of a prefab, so no other user may add a version that would receive them.
    """

    def __init__(self, *, authors: PrefabAuthorRepository) -> None:
        self._authors = authors
        self._lock = threading.Lock()

    @contextmanager
    def claiming(self, prefab_id: str, user_id: int, *, is_there: bool) -> Iterator[None]:
        """Claim an id for a user while a version is added; keep the claim on success.

        Args:
            prefab_id: Id of the prefab.
            user_id: User who adds the version.
            is_there: Whether the server has versions of the prefab already.

        Raises:
            NotPrefabAuthor: The id belongs to another user, or the operator has added versions
                without an author.
        """
        with self._lock:
            author = self._authors.get(prefab_id)
            if author != user_id and (is_there or author is not None):
                raise NotPrefabAuthor
            if author is None:
                self._authors.create(prefab_id, user_id)
            try:
                yield
            except BaseException:
                if author is None:
                    self._authors.delete(prefab_id)
                raise


def load_prefab(directory: Path, is_official: bool) -> InstalledPrefab:
    """Return the prefab in a directory.

    Raises:
        ManifestError: The manifest is invalid, or the module's file is missing.
    """
    # Schemas of included prefabs are checked by the tests of the package. Checking them again
    # would take half of each start.
    read = manifest.read(directory, trusted=is_official)
    installed = InstalledPrefab(read, Version.parse(read.prefab.version), directory, is_official)
    if not (directory / installed.module_file).is_file():
        reason = f"the file {installed.module_file} is missing"
        raise ManifestError([InputProblem(("prefab", "module"), reason)])
    return installed


def _version_directories(root: Path) -> Iterator[Path]:
    for prefab in _subdirectories(root):
        if manifest.is_id(prefab.name):
            yield from _subdirectories(prefab)


def _subdirectories(root: Path) -> Iterable[Path]:
    try:
        found = sorted(root.iterdir())
    except OSError:
        return []
    visible = [path for path in found if not path.name.startswith((".", "__"))]
    return [path for path in visible if path.is_dir() and not path.is_symlink()]


def _is_official(versions: dict[str, InstalledPrefab]) -> bool:
    return next(iter(versions.values())).is_official


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
