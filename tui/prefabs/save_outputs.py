"""Saving and previewing of a run's output files."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from beray.exceptions import TransferCancelled
from beray.transfers import file_modes
from beray.transfers.local_files import current_umask, mode_to_keep
from beray.transfers.transfer import Transfer
from tui.prefabs.messages import OutputArrived
from tui.prefabs.outcome import RunFile
from tui.prefabs.report import pretty
from tui.prefabs.run import Run
from tui.prefabs.run_pane import RESULT
from tui.preview import PREVIEW_BYTES
from tui.sanitize import local_name

if TYPE_CHECKING:
    from beray.gateway import GatewayClient


def save(
    gateway: GatewayClient,
    run: Run,
    file: RunFile,
    target: Path,
    overwrite: bool,
    transfer: Transfer,
) -> Path:
    """Save one file. Blocks. ``target`` exists completely or not at all.

    Args:
        gateway: Client of the gateway.
        run: Run that created the file.
        file: Output file, or ``RESULT`` for the return value.
        target: Local path.
        overwrite: Whether an existing file may be replaced.
        transfer: Reports progress and cancels the download.

    Raises:
        FileExistsError: ``target`` exists and ``overwrite`` is False.
        BeRayException: The download failed or was cancelled.
        OSError: ``target`` cannot be written.
    """
    if file is not RESULT:
        gateway.download_file(file.url, target, overwrite=overwrite, transfer=transfer)
        return target
    text = pretty(run.outcome.result)
    _write(target, f"{text}\n".encode("utf-8", "surrogatepass"), overwrite=overwrite)
    return target


def save_all(
    gateway: GatewayClient,
    run: Run,
    files: Sequence[RunFile],
    folder: Path,
    overwrite: bool,
    transfer: Transfer,
) -> Path:
    """Save ``files`` in ``folder``, which is created. Blocks.

    Raises:
        FileExistsError: A target exists and ``overwrite`` is False; nothing has been saved.
    """
    targets = dict(zip(names(files), files, strict=True))
    if not overwrite:
        there = next((name for name in targets if os.path.lexists(folder / name)), None)
        if there is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder / there))
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, file) in enumerate(targets.items()):
        transfer.advance(number, len(targets))
        part = Transfer()
        part.cancel_token = transfer.cancel_token
        save(gateway, run, file, folder / name, overwrite, part)
    transfer.advance(len(targets), len(targets))
    return folder


def names(files: Sequence[RunFile]) -> list[str]:
    """Return a local name for each file, unique regardless of upper and lower case."""
    taken: set[str] = set()
    given = []
    for file in files:
        name = local_name(file.name)
        stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
        number = 2
        while name.casefold() in taken:
            name = f"{stem}-{number}{ending}"
            number += 1
        taken.add(name.casefold())
        given.append(name)
    return given


def beginning(gateway: GatewayClient, run: Run, file: RunFile) -> OutputArrived:
    """Return the first bytes of ``file``. Blocks. A download stops at the size of a preview."""
    if file is RESULT:
        content = pretty(run.outcome.result).encode("utf-8", "surrogatepass")
        return OutputArrived(content[:PREVIEW_BYTES], len(content) <= PREVIEW_BYTES)
    with tempfile.TemporaryDirectory(prefix="beray-") as folder:
        target = Path(folder, "file")
        try:
            gateway.download_file(file.url, target, transfer=_SizeLimit(PREVIEW_BYTES))
        except TransferCancelled:
            return OutputArrived(b"", False)
        return OutputArrived(target.read_bytes(), True)


class _SizeLimit(Transfer):
    """Transfer that cancels itself when the file has more than ``most`` bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(self._look)
        self._most = most

    def _look(self, done: int, total: int | None) -> None:
        if max(done, total or 0) > self._most:
            self.cancel()
            self.wait(0)


def _write(target: Path, content: bytes, *, overwrite: bool) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".beray-", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            new = 0o666 & ~current_umask(target.parent)
            file_modes.set_file_mode(file.fileno(), mode_to_keep(target, new))
        if overwrite:
            Path(name).replace(target)
        else:
            os.link(name, target)  # raises FileExistsError
    finally:
        Path(name).unlink(missing_ok=True)
