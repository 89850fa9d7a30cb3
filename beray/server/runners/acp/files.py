"""File requests of an agent, restricted to the work_dir and limited in size.

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
from beray.server.workspace.workspace import (
    InvalidPath,
    MissingPath,
    Workspace,
    open_work_dir,
)

READ_BYTES: Final = 4 * 1024 * 1024
"""Maximum number of bytes that one request can read."""
SKIP_BYTES: Final = 256 * 1024 * 1024
"""Maximum offset of the first requested line."""
_RESOURCE_NOT_FOUND: Final = -32002
_INVALID_PARAMS: Final = -32602
_INTERNAL: Final = -32603


class TaskFiles:
    """Access to the text files of one work_dir. Synchronous, to be called in threads.

    Each method raises ``acp.RequestError`` with the reason if it fails.
    """

    def __init__(self, work_dir: Path, *, paths: TaskPaths, space: DiskQuota | None = None) -> None:
        self._work_dir = work_dir
        self._space = space
        self._paths = paths

    def read(self, path: str, line: int | None = None, limit: int | None = None) -> str:
        """Return the text of a file, or a range of its lines.

        Args:
            path: Absolute path inside the work_dir.
            line: Number of the first line, starting at 1.
            limit: Maximum number of lines.
        """
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
            raise RequestError(_INVALID_PARAMS, f"{quote_path(path)} is not UTF-8 text") from None
        except MissingPath as error:
            raise RequestError(_RESOURCE_NOT_FOUND, error.reason) from None
        except InvalidPath as error:
            raise RequestError(_INVALID_PARAMS, error.reason) from None
        except OSError as error:
            raise _failure(path, error) from None

    def write(self, path: str, content: str) -> None:
        """Replace a file atomically; missing parent directories are created."""
        relative = self._relative(path)
        try:
            with self._opened() as workspace, workspace.write(relative) as file:
                file.write(content.encode())
        except (MissingPath, InvalidPath) as error:
            raise RequestError(_INVALID_PARAMS, error.reason) from None
        except OSError as error:
            raise _failure(path, error) from None

    def _opened(self) -> Workspace:
        return open_work_dir(self._work_dir, self._space)

    def _relative(self, path: str) -> str:
        if not path.startswith("/"):
            raise RequestError(_INVALID_PARAMS, f"{quote_path(path)} is not an absolute path")
        relative = self._paths.relative(path)
        if relative is None:
            reason = f"{quote_path(path)} is outside the work_dir, {self._paths.inside}"
            raise RequestError(_INVALID_PARAMS, reason)
        return relative


def _failure(path: str, error: OSError) -> RequestError:
    return RequestError(_INTERNAL, f"{quote_path(path)}: {error.strerror}")


def _bounded(data: bytes, path: str) -> bytes:
    if len(data) > READ_BYTES:
        raise RequestError(
            _INVALID_PARAMS,
            f"{quote_path(path)}: one request can read at most {READ_BYTES} bytes; "
            "request fewer lines",
        )
    return data


def _lines(reader: BinaryIO, first: int, limit: int | None, path: str) -> bytes:
    """Return ``limit`` lines, or all, starting at line ``first``."""
    number, skipped = 1, 0
    while number < max(first, 1):
        piece = reader.readline(READ_BYTES)
        if not piece:
            return b""
        skipped += len(piece)
        if skipped > SKIP_BYTES:
            reason = (
                f"{quote_path(path)}: line {first} begins after {SKIP_BYTES} bytes; "
                "read it with a command"
            )
            raise RequestError(_INVALID_PARAMS, reason)
        number += piece.endswith(b"\n")
    data = bytearray()
    count = 0
    while limit is None or count < limit:
        piece = reader.readline(READ_BYTES + 1)
        if not piece:
            break
        data += piece
        count += 1
        if len(data) > READ_BYTES:
            break
    return _bounded(bytes(data), path)
