"""An agent's requests for files: through the work_dir's own guard, and bounded.

Source: ACP, "File System".
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, Final

from acp import RequestError

from beray.server.runners.task_paths import TaskPaths
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.safe_open import quote_path
from beray.server.workspace.workspace import InvalidPath, MissingPath, Workspace, open_work_dir

READ_BYTES: Final = 4 * 1024 * 1024
"""The most that one request may read."""
SKIP_BYTES: Final = 256 * 1024 * 1024
"""How far into a file the lines may be that are asked for."""
_RESOURCE_NOT_FOUND: Final = -32002
_INVALID_PARAMS: Final = -32602
_INTERNAL: Final = -32603


class TaskFiles:
    """The text files of one work_dir. Synchronous, for threads.

    Raises:
        RequestError: from each method, saying why it cannot be done.
    """

    def __init__(self, work_dir: Path, paths: TaskPaths, space: DiskQuota | None = None) -> None:
        self._work_dir = work_dir
        self._space = space
        self._paths = paths

    def read(self, path: str, line: int | None = None, limit: int | None = None) -> str:
        """Return the text of a file, or ``limit`` lines of it from ``line``, the first being 1."""
        relative = self._relative(path)
        try:
            with (
                self._opened() as workspace,
                workspace.open_file(relative)[0] as file,
                io.BufferedReader(file) as reader,  # type: ignore[type-var]
            ):
                if line is None and limit is None:
                    data = _bounded(reader.read(READ_BYTES + 1), path)
                else:
                    data = _lines(reader, line or 1, limit, path)
            return data.decode()
        except UnicodeDecodeError:
            raise RequestError(
                _INVALID_PARAMS, f"{quote_path(path)} is not text in UTF-8"
            ) from None
        except MissingPath as error:
            raise RequestError(_RESOURCE_NOT_FOUND, error.reason) from None
        except InvalidPath as error:
            raise RequestError(_INVALID_PARAMS, error.reason) from None
        except OSError as error:
            raise _refused(path, error) from None

    def write(self, path: str, content: str) -> None:
        """Put a file into place, whole; missing folders are made."""
        relative = self._relative(path)
        try:
            with self._opened() as workspace, workspace.write(relative) as file:
                file.write(content.encode())
        except (MissingPath, InvalidPath) as error:
            raise RequestError(_INVALID_PARAMS, error.reason) from None
        except OSError as error:
            raise _refused(path, error) from None

    def _opened(self) -> Workspace:
        return open_work_dir(self._work_dir, self._space)

    def _relative(self, path: str) -> str:
        if not path.startswith("/"):
            raise RequestError(_INVALID_PARAMS, f"{quote_path(path)} is not absolute")
        relative = self._paths.relative(path)
        if relative is None:
            reason = f"{quote_path(path)} is outside the work_dir, {self._paths.inside}"
            raise RequestError(_INVALID_PARAMS, reason)
        return relative


def _refused(path: str, error: OSError) -> RequestError:
    return RequestError(_INTERNAL, f"{quote_path(path)}: {error.strerror}")


def _bounded(data: bytes, path: str) -> bytes:
    if len(data) > READ_BYTES:
        raise RequestError(
            _INVALID_PARAMS,
            f"{quote_path(path)}: more than {READ_BYTES} bytes at once; ask for lines of it",
        )
    return data


def _lines(reader: BinaryIO, first: int, limit: int | None, path: str) -> bytes:
    """Return ``limit`` lines, or all, from the line ``first`` on."""
    number, skipped = 1, 0
    while number < max(first, 1):
        piece = reader.readline(READ_BYTES)
        if not piece:
            return b""
        skipped += len(piece)
        if skipped > SKIP_BYTES:
            reason = f"{quote_path(path)}: line {first} is too far into the file"
            raise RequestError(_INVALID_PARAMS, reason)
        number += piece.endswith(b"\n")
    kept = bytearray()
    taken = 0
    while limit is None or taken < limit:
        piece = reader.readline(READ_BYTES + 1)
        if not piece:
            break
        kept += piece
        taken += 1
        if len(kept) > READ_BYTES:
            break
    return _bounded(bytes(kept), path)
