"""A work_dir with a history, without a server; and the state of a directory for comparisons."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beray.server.objects.local import LocalObjectStore
from beray.server.objects.signing import UrlSigner
from beray.server.storage.tables import StoredCheckpoint
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.reader import Change, CheckpointReader
from beray.server.workspace.history.recorder import Recorded
from beray.server.workspace.history.restores import Restored
from beray.server.workspace.history.service import HistoryLimits, WorkDirHistory
from beray.server.workspace.workspace import Workspaces
from tests.repositories import Repositories, opened

TASK = 1
USER = 1
GIB = 1024**3


def no_lines(_: Sequence[Change], __: Callable[[Entry], bytes]) -> None:
    """Count no lines."""


@dataclass
class RecordedWorkDir:
    """Work_dir of task ``TASK`` with its history.

    Attributes:
        data: Data directory.
        seq: ``seq`` of the next checkpoint.
    """

    data: Path
    repositories: Repositories
    store: LocalObjectStore
    workspaces: Workspaces
    history: WorkDirHistory
    seq: int = 0
    states: dict[int, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Path of the work_dir."""
        return self.workspaces.path(TASK)

    def record(self, *paths: str, reason: str = "step", **options: Any) -> Recorded | None:
        """Record a checkpoint: of all files, or of those at ``paths``."""
        self.seq += 1
        if paths:
            options["paths"] = [tuple(os.fsencode(path).split(b"/")) for path in paths]
        return self.history.record(TASK, USER, seq=self.seq, reason=reason, **options)

    def recorded(self, *paths: str, **options: Any) -> StoredCheckpoint:
        """Record a checkpoint that contains changes."""
        result = self.record(*paths, **options)
        assert result is not None
        return result.checkpoint

    def restore(self, position: int | str, **options: Any) -> Restored:
        """Restore a checkpoint."""
        target = self.history.positions.find(TASK, position)
        return self.history.restores.restore(TASK, USER, target, seq=self.seq, **options)

    @property
    def reader(self) -> CheckpointReader:
        """Reader of the checkpoints."""
        return self.history.reader(USER)

    def entries(self, checkpoint: StoredCheckpoint) -> dict[bytes, Entry]:
        """Return the entries of a checkpoint by path."""
        return {item.path: item.entry for item in self.reader.walk(checkpoint.root)}

    def content(self, checkpoint: StoredCheckpoint, path: bytes) -> bytes:
        """Return the content of a file, or the target of a link, in a checkpoint."""
        return self.reader.read(self.reader.entry(checkpoint.root, path.split(b"/")))

    def damage(self, digest: bytes) -> None:
        """Change the bytes of a stored blob; reopen the history, which may have it in memory."""
        location = self.repositories.blobs.locate(USER, [digest])[digest]
        with self.store.open(location.key).file as opened:
            path = Path(opened.name)
        data = bytearray(path.read_bytes())
        data[location.start] ^= 0xFF
        path.write_bytes(data)

    def stored_bytes(self) -> int:
        """Return the size of the stored contents."""
        return self.history.used_bytes(USER)

    def pack_files(self) -> list[Path]:
        """Return the files of the packs."""
        return sorted(path for path in (self.data / "objects").rglob("*") if path.is_file())


@contextmanager
def recorded_work_dir(
    data: Path,
    *,
    user_bytes: int = GIB,
    file_bytes: int = GIB,
    count_lines: Any = no_lines,
    has_space: Callable[[int], bool] = lambda _: True,
    quota_of: Callable[[Path], DiskQuota] | None = None,
) -> Iterator[RecordedWorkDir]:
    """Open the history in a data directory, which may exist already."""
    data.mkdir(exist_ok=True)
    with opened(data / "db.sqlite3") as repositories:
        store = LocalObjectStore(
            folder=data / "objects",
            objects=repositories.objects,
            signer=UrlSigner(b"k" * 32, "beray"),
        )
        workspaces = Workspaces(data / "workspaces", quota_of=quota_of)
        history = WorkDirHistory(
            workspaces=workspaces,
            checkpoints=repositories.checkpoints,
            blobs=repositories.blobs,
            objects=store,
            limits=HistoryLimits(user_bytes, file_bytes),
            has_space=has_space,
            count_lines=count_lines,
        )
        if TASK not in workspaces.existing():
            workspaces.create(TASK)
        yield RecordedWorkDir(data, repositories, store, workspaces, history)


def state_of(directory: Path) -> dict[bytes, tuple[Any, ...]]:
    """Return type, mode, content and time of everything below a directory, by path."""
    found: dict[bytes, tuple[Any, ...]] = {}
    base = os.fsencode(directory)
    for parent, folders, files in os.walk(base):
        for name in [*folders, *files]:
            path = os.path.join(parent, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            mode = status.st_mode & 0o777
            if kind == stat.S_IFLNK:
                value: tuple[Any, ...] = (kind, os.readlink(path))
            elif kind == stat.S_IFREG:
                value = (kind, mode, status.st_mtime_ns, Path(os.fsdecode(path)).read_bytes())
            else:
                value = (kind, mode)
            found[os.path.relpath(path, base)] = value
    return found
