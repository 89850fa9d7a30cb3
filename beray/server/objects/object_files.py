"""``s3://`` URLs, ownership and transfers of objects.

Source: the Gateway wire page (S3 layout).
"""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import structlog
from starlette.concurrency import run_in_threadpool

from beray.sanitize import printable
from beray.server.accounts.principals import Principal
from beray.server.files import http_ranges
from beray.server.http.gateway_errors import GatewayHTTPError, missing_agent_context
from beray.server.objects.store import ObjectStore, StoredObject, check_key
from beray.server.storage.database_errors import StorageError, is_full
from beray.server.storage.shortage import is_shortage, shortage_response

OUTPUTS: Final = "agent-outputs"
WORKSPACE: Final = "agent-workspace"
INPUTS: Final = "agent-inputs"
MAX_NAME_BYTES: Final = 255
NO_SESSION: Final = "-"
"""Part of the keys of temporary files without a session."""

_SCHEME: Final = "s3://"
_PLAIN: Final = re.compile("[A-Za-z0-9._-]{1,128}")
_MEDIA_TYPE: Final = re.compile(
    r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(; ?[\w-]{1,50}=[\w.:\"-]{1,100})*", re.ASCII
)
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = structlog.get_logger("beray.gateway")


def s3_url(store: ObjectStore, key: str) -> str:
    """Return the ``s3://`` URL of an object."""
    return f"{_SCHEME}{store.bucket}/{key}"


def parse_s3_url(store: ObjectStore, url: str) -> str:
    """Return the key in an ``s3://`` URL of this store. Percent signs are not decoded.

    Raises:
        ValueError: The URL has another scheme or bucket, or an invalid key. The message does not
            contain the URL.
    """
    if not url.startswith(_SCHEME):
        raise ValueError(f"the URL must start with {_SCHEME}")
    bucket, _, key = url.removeprefix(_SCHEME).partition("/")
    if bucket != store.bucket:
        raise ValueError(f"the bucket of the URL must be {store.bucket!r}")
    check_key(key)
    return key


def may_read(caller: Principal, key: str) -> bool:
    """Return True if an object belongs to the caller: the second part of its key is their scope."""
    parts = key.split("/")
    return len(parts) > 2 and parts[0] in (OUTPUTS, WORKSPACE, INPUTS) and parts[1] == caller.scope


def may_remove(caller: Principal, key: str) -> bool:
    """Return True if a caller who may read an object may also remove it.

    Agents may not remove objects of other agents. Callers that are known only by their address
    may not remove any, because they share a scope.
    """
    parts = key.split("/")
    is_own = parts[0] == INPUTS or caller.agent_id in (None, parts[2])
    return caller.user_id is not None and is_own


def is_valid_key_part(name: str) -> bool:
    """Return True if ``name``, of an agent or a session, can be a part of a key unchanged."""
    return _PLAIN.fullmatch(name) is not None and name not in (".", "..")


def safe_filename(name: str) -> str:
    """Return a client's file name as the last part of a key, unchanged if it is valid.

    Directories are removed, with slashes or backslashes as separators, and control characters are
    replaced. A name that is too long loses the end of its stem and keeps its extension.

    Raises:
        ValueError: The rest is not a name of a file, such as "" or "..".
    """
    name = re.split(r"[/\\]", name)[-1]
    name = re.sub(r"[\n\t]", "_", printable(name)).strip()
    if name in ("", ".", ".."):
        raise ValueError("is not the name of a file")
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    if len(suffix.encode()) > MAX_NAME_BYTES // 4:
        stem, suffix = name, ""
    max_bytes = MAX_NAME_BYTES - len(suffix.encode())
    return stem.encode()[:max_bytes].decode(errors="ignore") + suffix


def valid_media_type(value: str | None) -> str | None:
    """Return a client's content type, or None if it is missing or invalid."""
    return value if value and _MEDIA_TYPE.fullmatch(value) else None


def new_input_key(caller: Principal, filename: str) -> str:
    """Return an unused key for an input file of a third party."""
    return f"{INPUTS}/{caller.scope}/{uuid.uuid4()}/{safe_filename(filename)}"


def new_output_key(caller: Principal, filename: str) -> str:
    """Return an unused key for a permanent file of an agent."""
    return f"{outputs_prefix(caller)}{uuid.uuid4()}/{safe_filename(filename)}"


def new_temporary_key(caller: Principal, filename: str, session_id: str | None) -> str:
    """Return an unused key for a temporary file of an agent."""
    return f"{session_prefix(caller, session_id)}{uuid.uuid4()}/{safe_filename(filename)}"


def outputs_prefix(caller: Principal) -> str:
    """Return the prefix of the keys of an agent's permanent files.

    Raises:
        GatewayHTTPError: The caller is not an agent (MISSING_AGENT_CONTEXT).
    """
    return f"{OUTPUTS}/{caller.scope}/{_agent(caller)}/"


def workspace_prefix(caller: Principal) -> str:
    """Return the prefix of an agent's temporary files; raises like ``outputs_prefix``."""
    return f"{WORKSPACE}/{caller.scope}/{_agent(caller)}/"


def session_prefix(caller: Principal, session_id: str | None) -> str:
    """Return the prefix of the files of a session; raises like ``outputs_prefix``."""
    return f"{workspace_prefix(caller)}{session_id or NO_SESSION}/"


def _agent(caller: Principal) -> str:
    if caller.agent_id is None:
        raise missing_agent_context()
    return caller.agent_id


async def upload(
    store: ObjectStore, path: Path, key: str, content_type: str | None = None
) -> StoredObject:
    """Store a local file as an object.

    Raises:
        ValueError: ``key`` is invalid; see ``check_key``.
        OSError: The file cannot be read, or the store cannot be written.
    """

    async def blocks() -> AsyncIterator[bytes]:
        async with await anyio.open_file(path, "rb") as file:
            while block := await file.read(http_ranges.BLOCK_BYTES):
                yield block

    return await store.put(key, blocks(), content_type)


async def download(store: ObjectStore, key: str, path: Path) -> StoredObject:
    """Write the complete object to the new file ``path``; remove it on failure.

    Raises:
        ObjectNotFound: The object does not exist.
        FileExistsError: ``path`` exists.
        OSError: The store cannot be read, or the file cannot be written.
    """
    async with store.get(key) as (stored, blocks):
        try:
            async with await anyio.open_file(path, "xb") as file:
                async for block in blocks:
                    await file.write(block)
        except FileExistsError:
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(path.unlink, missing_ok=True)
            raise
    return stored


@contextmanager
def storage_errors() -> Iterator[None]:
    """Convert failures of a store to error responses: 507 if it is full, otherwise 503."""
    try:
        yield
    except StorageError as error:
        if is_full(error):
            raise GatewayHTTPError(
                507, "STORAGE_FULL", "The server's storage is full; delete files and try again."
            ) from None
        if not is_shortage(error):
            raise
        message, headers = shortage_response(error)
        raise GatewayHTTPError(503, "UNAVAILABLE", message, headers=headers) from None
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise GatewayHTTPError(
                507, "STORAGE_FULL", "The server's storage is full; delete files and try again."
            ) from None
        log.error("the object store failed", exc_info=error)
        raise GatewayHTTPError(
            503, "STORAGE_UNAVAILABLE", "The storage cannot be reached; try again."
        ) from None
