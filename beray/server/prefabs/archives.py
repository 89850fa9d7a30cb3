"""ZIP archives of prefab directories, and the files that belong to a prefab."""

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

MAX_BYTES: Final = 64 * 1024**2
"""Maximum size of an unpacked prefab, in bytes."""
MAX_ENTRIES: Final = 2_000


def unpack_prefab(archive: bytes, directory: Path) -> None:
    """Unpack the ZIP archive of a prefab into ``directory``, which must not exist yet.

    Raises:
        TransferError: The data is not a ZIP archive, it is too large, or it has entries that
            are not safe to unpack.
    """
    try:
        with zipfile.ZipFile(BytesIO(archive)) as opened:
            count = len(opened.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError):
        raise TransferError("the body is not a ZIP archive") from None
    if count > MAX_ENTRIES:
        raise TransferError(f"the archive has {count:,} entries; the limit is {MAX_ENTRIES:,}")
    # Imported here, because it imports the client, which servers do not need otherwise.
    from beray.transfers.archive import extract_archive

    extract_archive(BytesIO(archive), directory, max_bytes=MAX_BYTES, owner_access=True)


def pack(directory: Path) -> bytes:
    """Return a ZIP archive of a prefab's regular files, without caches and hidden files.

    Raises:
        ManifestError: The directory has a link or a special file, or exceeds a limit.
    """
    archive = BytesIO()
    total = count = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for path in prefab_files(directory):
            count, total = count + 1, total + path.stat().st_size
            if total > MAX_BYTES or count > MAX_ENTRIES:
                limit = f"{MAX_BYTES:,} bytes and {MAX_ENTRIES:,} files"
                raise ManifestError(
                    [InputProblem((), f"the prefab is too large; the limit is {limit}")]
                )
            # Without timestamps, the same files result in the same archive.
            info = zipfile.ZipInfo(on_wire(path.relative_to(directory)))
            info.compress_type = zipfile.ZIP_DEFLATED
            is_program = path.stat().st_mode & stat.S_IXUSR
            info.external_attr = (stat.S_IFREG | (0o755 if is_program else 0o644)) << 16
            writer.writestr(info, path.read_bytes())
    return archive.getvalue()


def prefab_files(directory: Path) -> Iterator[Path]:
    """Yield the files that belong to a prefab, sorted.

    Raises:
        ManifestError: The directory has a link or a special file.
    """
    for path in sorted(directory.iterdir()):
        if path.name == "__pycache__" or path.name.startswith("."):
            continue
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            reason = "is a link or a special file; a prefab consists of regular files"
            raise ManifestError([InputProblem((path.name,), reason)])
        if path.is_dir():
            yield from prefab_files(path)
        else:
            yield path


def content_digest(directory: Path) -> str:
    """Return a SHA-256 digest of the names and contents of a prefab's files."""
    digest = hashlib.sha256()
    for path in prefab_files(directory):
        name = path.relative_to(directory).as_posix().encode("utf-8", "surrogateescape")
        content = hashlib.sha256(path.read_bytes()).digest()
        digest.update(len(name).to_bytes(4) + name + content)
    return digest.hexdigest()
