"""The folder of a prefab as an archive, and what belongs into it."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

from beray.exceptions import TransferError
from beray.server.http.validation_errors import InputProblem
from beray.server.prefabs.manifest import ManifestError
from beray.transfers.local_names import on_wire

MOST_BYTES: Final = 64 * 1024**2
"""What a prefab may unpack to."""
MOST_ENTRIES: Final = 2_000


def unpacked(archive: bytes, folder: Path) -> None:
    """Unpack the ZIP of a prefab into ``folder``, which is not there yet.

    Raises:
        TransferError: it is no archive, too large, or holds what must not be unpacked.
    """
    try:
        with zipfile.ZipFile(BytesIO(archive)) as opened:
            count = len(opened.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError):
        raise TransferError("the body is no ZIP archive") from None
    if count > MOST_ENTRIES:
        raise TransferError(f"the archive holds {count:,} entries, more than {MOST_ENTRIES:,}")
    from beray.transfers.archive import unpack  # of the client, which the server does without

    unpack(BytesIO(archive), folder, max_bytes=MOST_BYTES, owner_access=True)


def packed(folder: Path) -> bytes:
    """The ZIP of a prefab's folder: its regular files, without what Python and tools leave.

    Raises:
        ManifestError: there is a link or a special file, or too much.
    """
    archive = BytesIO()
    total = count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for path in files(folder):
            count, total = count + 1, total + path.stat().st_size
            if total > MOST_BYTES or count > MOST_ENTRIES:
                most = f"{MOST_BYTES:,} bytes in {MOST_ENTRIES:,} files at most"
                raise ManifestError([InputProblem((), f"a prefab has {most}")])
            # Without times: the same files are the same archive.
            info = zipfile.ZipInfo(on_wire(path.relative_to(folder)))
            info.compress_type = zipfile.ZIP_DEFLATED
            is_program = path.stat().st_mode & stat.S_IXUSR
            info.external_attr = (stat.S_IFREG | (0o755 if is_program else 0o644)) << 16
            writer.writestr(info, path.read_bytes())
    return archive.getvalue()


def files(folder: Path) -> Iterator[Path]:
    """The files that belong to a prefab, in order.

    Raises:
        ManifestError: there is a link or a special file.
    """
    for path in sorted(folder.iterdir()):
        if path.name == "__pycache__" or path.name.startswith("."):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise ManifestError([InputProblem((path.name,), "is a link or a special file")])
        if path.is_dir():
            yield from files(path)
        else:
            yield path


def content(folder: Path) -> str:
    """What tells the content of a prefab from any other."""
    digest = hashlib.sha256()
    for path in files(folder):
        name = path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape")
        inside = hashlib.sha256(path.read_bytes()).digest()
        digest.update(len(name).to_bytes(4) + name + inside)
    return digest.hexdigest()
