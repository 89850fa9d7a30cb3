"""MCP programs that the operator defines in the file ``BERAY_MCP_SERVERS``."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from beray.server.http.validation_errors import from_validation_error

FILE_BYTES: Final = 1024**2

_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
_Command = Annotated[str, StringConstraints(pattern=r"^[^\x00-][^\x00]*$")]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class OperatorProgram(BaseModel):
    """Program with its arguments and its complete environment, except for ``PATH``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    command: _Command
    args: tuple[_Text, ...] = ()
    env: dict[_Variable, _Text] = {}


_PROGRAMS: Final = TypeAdapter(dict[_Name, OperatorProgram], config=ConfigDict(strict=True))


class McpServersFileError(Exception):
    """The file cannot be used; the message names the file, the entry and the reason."""


def load(path: Path | None) -> dict[str, OperatorProgram]:
    """Return the programs in the file by name.

    The file is TOML if its name ends in ``.toml``, otherwise JSON. An outer key ``mcpServers``,
    which other programs write, is accepted.

    Args:
        path: The file; without one, the result is empty.

    Raises:
        McpServersFileError: The file cannot be read, other users can write to it, or an entry
            is invalid.
    """
    if path is None:
        return {}
    try:
        data = _read(path)
        entries = tomllib.loads(data) if path.suffix == ".toml" else json.loads(data)
    except OSError as error:
        raise _error(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _error(path, str(error)) from None
    if isinstance(entries, dict) and list(entries) == ["mcpServers"]:
        entries = entries["mcpServers"]
    try:
        # Strict validation of Python objects would require tuples, which JSON does not have.
        return _PROGRAMS.validate_json(json.dumps(entries))
    except (ValidationError, TypeError) as error:
        raise _error(path, _first_problem(error)) from None


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_mode & stat.S_IWOTH:
            raise ValueError(
                f"every user of this host can write to it (mode {status.st_mode & 0o777:o}); "
                f"run chmod o-w {path}"
            )
        if status.st_uid not in (0, os.geteuid()):
            raise ValueError(
                f"it belongs to user id {status.st_uid}; it must belong to root or to the "
                f"server's user, {os.geteuid()}"
            )
        if status.st_size > FILE_BYTES:
            raise ValueError(f"it is larger than {FILE_BYTES:,} bytes")
        return file.read()


def _first_problem(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    # Strings of the input are omitted, because they may be secrets.
    return str(from_validation_error(error.errors(include_url=False)[0]))


def _error(path: Path, reason: str) -> McpServersFileError:
    return McpServersFileError(
        f"BERAY_MCP_SERVERS: {path} cannot be used: {reason}. It must contain an object such as "
        '{"github": {"command": "…", "args": ["…"], "env": {"NAME": "…"}}}'
    )
