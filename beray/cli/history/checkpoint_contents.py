"""Contents of checkpoints for ``beray apply``, from the server."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.apply.source import StagedFile
from beray.cli.downloads import RemoteFile, batches
from beray.cli.progress import StartBar
from beray.client import BeRayClient
from beray.exceptions import APIError, NotFoundError, TransferCancelled, TransferError
from beray.history_schema import DiffHunk
from beray.transfers import file_modes
from beray.transfers.archive import extract_archive
from beray.transfers.local_names import on_disk

_MIN_ZIP_FILES: Final = 20
"""Minimum number of small files that are downloaded as one ZIP archive."""


@dataclass(frozen=True)
class TaskContents:
    """Contents of the checkpoints of a task.

    Implements ``CheckpointReader`` and ``CheckpointFiles`` of ``beray.apply.source``.

    Attributes:
        client: Client without a deadline.
        task_id: Id of the task.
        start_bar: Starts a progress bar.
    """

    client: BeRayClient
    task_id: int
    start_bar: StartBar

    def read(self, checkpoint: str, path: str) -> bytes:
        """Return the content of a file."""
        return self.client.get_file_content(self.task_id, path, at=checkpoint).content

    def directories(self, checkpoint: str, path: str, *, recursive: bool) -> dict[str, int | None]:
        """Return the modes of the directories in a directory; empty if it does not exist."""
        depth = None if recursive else 1
        try:
            return {
                item["path"]: file_modes.parse(item.get("mode"))
                for item in self.client.iter_files(self.task_id, path, depth=depth, at=checkpoint)
                if item["type"] == "directory" and "path" in item
            }
        except NotFoundError:
            return {}

    def hunks(self, from_: str, to: str, paths: Sequence[str]) -> Sequence[DiffHunk]:
        """Return the changes of one text; empty if there are none."""
        found = self.client.diff(self.task_id, from_=from_, to=to, paths=paths)
        files = (file for file in found["files"] if file["path"] == paths[-1])
        return next((file.get("hunks", []) for file in files if file.get("new")), [])

    def save(self, checkpoint: str, files: Sequence[StagedFile]) -> None:
        """Download files, small ones in ZIP archives."""
        targets = {file.path: file.target for file in files}
        for batch in batches(RemoteFile(file.path, file.size) for file in files):
            paths = [file.path for file in batch]
            if len(paths) >= _MIN_ZIP_FILES and self._save_zip(checkpoint, paths, targets):
                continue
            for path in paths:
                self.client.download_file(
                    self.task_id, path, targets[path], at=checkpoint, overwrite=True,
                    transfer=self.start_bar(path),
                )  # fmt: skip

    def _save_zip(self, checkpoint: str, paths: list[str], targets: dict[str, Path]) -> bool:
        """Download files in one archive; return False if it does not contain all of them."""
        directory = targets[paths[0]].parent
        with tempfile.TemporaryDirectory(prefix="zip", dir=directory) as scratch:
            archive, extracted = Path(scratch, "files.zip"), Path(scratch, "files")
            transfer = self.start_bar(f"{len(paths)} files")
            try:
                self.client.download_zip(
                    self.task_id, archive, paths, at=checkpoint, transfer=transfer
                )
                with archive.open("rb") as file:
                    extract_archive(file, extracted, owner_access=True)
            except TransferCancelled:
                raise
            except (APIError, TransferError):
                return False  # the error of a single file names it
            for path in paths:
                source = extracted / on_disk(path)
                if not source.is_file():
                    return False
                source.replace(targets[path])
        return True
