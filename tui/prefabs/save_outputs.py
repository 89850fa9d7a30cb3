"""What a run has made, onto this machine: saved whole, or its beginning to look at."""

from __future__ import annotations

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
from tui.prefabs.outcome import OutputFile
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
    file: OutputFile,
    target: Path,
    overwrite: bool,
    transfer: Transfer,
) -> Path:
    """Save one file; blocks. Under its final name it is whole, or not there.

    Raises:
        FileExistsError: ``target`` is there, and is not to be overwritten.
        BeRayException, OSError: as the download does.
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
    files: Sequence[OutputFile],
    folder: Path,
    overwrite: bool,
    transfer: Transfer,
) -> Path:
    """Save all of ``files`` in ``folder``, which is made; blocks.

    Raises:
        FileExistsError: one of them is there, and is not to be overwritten; then none is
            saved.
    """
    targets = dict(zip(names(files), files, strict=True))
    if not overwrite:
        there = next((name for name in targets if os.path.lexists(folder / name)), None)
        if there is not None:
            raise FileExistsError(17, "it exists", str(folder / there))
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, file) in enumerate(targets.items()):
        transfer.advance(number, len(targets))
        part = Transfer()
        part.cancel_token = transfer.cancel_token
        save(gateway, run, file, folder / name, overwrite, part)
    transfer.advance(len(targets), len(targets))
    return folder


def names(files: Sequence[OutputFile]) -> list[str]:
    """A name for each file that no other has, whatever they are called on the server."""
    taken: set[str] = set()
    given = []
    for file in files:
        name = local_name(file.name)
        stem, ending = os.path.splitext(name)
        number = 2
        while name.casefold() in taken:
            name = f"{stem}-{number}{ending}"
            number += 1
        taken.add(name.casefold())
        given.append(name)
    return given


def beginning(gateway: GatewayClient, run: Run, file: OutputFile) -> OutputArrived:
    """The first bytes of ``file``; blocks. What is larger than a preview is not fetched whole."""
    if file is RESULT:
        content = pretty(run.outcome.result).encode("utf-8", "surrogatepass")
        return OutputArrived(content[:PREVIEW_BYTES], len(content) <= PREVIEW_BYTES)
    with tempfile.TemporaryDirectory(prefix="beray-") as folder:
        target = Path(folder, "file")
        try:
            gateway.download_file(file.url, target, transfer=_UpTo(PREVIEW_BYTES))
        except TransferCancelled:
            return OutputArrived(b"", False)
        return OutputArrived(target.read_bytes(), True)


class _UpTo(Transfer):
    """Cancels itself where there are more bytes than these."""

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
            os.replace(name, target)
        else:
            os.link(name, target)  # raises where it is there
    finally:
        Path(name).unlink(missing_ok=True)
