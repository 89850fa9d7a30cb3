"""Objects as users know them: ``s3://`` URLs, whose they are, and files on disk.

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
from sqlalchemy.exc import DatabaseError
from starlette.concurrency import run_in_threadpool

from beray.sanitize import printable
from beray.server.accounts.principals import Principal
from beray.server.files import http_ranges
from beray.server.http.gateway_errors import GatewayHTTPError, missing_agent_context
from beray.server.objects.store import ObjectStore, StoredObject, require_key
from beray.server.runtime.shortage import is_shortage, refusal
from beray.server.storage import database_errors

OUTPUTS: Final = "agent-outputs"
WORKSPACE: Final = "agent-workspace"
INPUTS: Final = "agent-inputs"
MOST_NAME_BYTES: Final = 255
NO_SESSION: Final = "-"
"""Where temporary files are that belong to no session."""

_SCHEME: Final = "s3://"
_PLAIN: Final = re.compile("[A-Za-z0-9._-]{1,128}")
_MEDIA_TYPE: Final = re.compile(
    r"[\w!#$&^.+-]{1,100}/[\w!#$&^.+-]{1,100}(; ?[\w-]{1,50}=[\w.:\"-]{1,100})*", re.ASCII
)
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = structlog.get_logger("beray.gateway")


def s3_url(store: ObjectStore, key: str) -> str:
    return f"{_SCHEME}{store.bucket}/{key}"


def key_of(store: ObjectStore, url: str) -> str:
    """The key of an ``s3://`` URL of this store. It is taken as it is: nothing is unquoted.

    Raises:
        ValueError: it is no such URL; the text says why, without the URL.
    """
    if not url.startswith(_SCHEME):
        raise ValueError(f"a URL that begins with {_SCHEME} is needed")
    bucket, _, key = url.removeprefix(_SCHEME).partition("/")
    if bucket != store.bucket:
        raise ValueError(f"the bucket is not {store.bucket!r}")
    require_key(key)
    return key


def may_read(caller: Principal, key: str) -> bool:
    """Whether an object is the caller's: its key has their scope as its second part."""
    parts = key.split("/")
    return len(parts) > 2 and parts[0] in (OUTPUTS, WORKSPACE, INPUTS) and parts[1] == caller.scope


def may_remove(caller: Principal, key: str) -> bool:
    """Whether a caller who may read an object may remove it: not an agent that of another one,
    and not an address, which shares its scope with others."""
    parts = key.split("/")
    is_theirs = parts[0] == INPUTS or caller.agent_id in (None, parts[2])
    return caller.user_id is not None and is_theirs


def is_plain(name: str) -> bool:
    """Whether ``name`` can be a part of a key without a question: an agent, a session."""
    return _PLAIN.fullmatch(name) is not None and name not in (".", "..")


def plain_filename(name: str) -> str:
    """A client's file name as the last part of a key: itself where that is sound.

    Folders in front of it are dropped, also Windows' own, control characters replaced, and
    one that is too long loses the end of its stem, not its suffix.

    Raises:
        ValueError: nothing is left of it.
    """
    name = re.split(r"[/\\]", name)[-1]
    name = re.sub(r"[\n\t]", "_", printable(name)).strip()
    if name in ("", ".", ".."):
        raise ValueError("this is not the name of a file")
    stem, suffix = os.path.splitext(name)
    if len(suffix.encode()) > MOST_NAME_BYTES // 4:
        stem, suffix = name, ""
    most = MOST_NAME_BYTES - len(suffix.encode())
    return stem.encode()[:most].decode(errors="ignore") + suffix


def media_type(given: str | None) -> str | None:
    """A client's content type; ``None`` where it is none."""
    return given if given and _MEDIA_TYPE.fullmatch(given) else None


def new_input(caller: Principal, filename: str) -> str:
    """A key that nobody has for what comes from outside."""
    return f"{INPUTS}/{caller.scope}/{uuid.uuid4()}/{plain_filename(filename)}"


def new_output(caller: Principal, filename: str) -> str:
    return f"{outputs_of(caller)}{uuid.uuid4()}/{plain_filename(filename)}"


def new_temporary(caller: Principal, filename: str, session_id: str | None) -> str:
    return f"{session_of(caller, session_id)}{uuid.uuid4()}/{plain_filename(filename)}"


def outputs_of(caller: Principal) -> str:
    """How the keys of an agent's permanent files begin.

    Raises:
        GatewayHTTPError: MISSING_AGENT_CONTEXT.
    """
    return f"{OUTPUTS}/{caller.scope}/{_agent(caller)}/"


def workspace_of(caller: Principal) -> str:
    """How the keys of an agent's temporary files begin. Raises as ``outputs_of``."""
    return f"{WORKSPACE}/{caller.scope}/{_agent(caller)}/"


def session_of(caller: Principal, session_id: str | None) -> str:
    """How the keys of one session begin. Raises as ``outputs_of``."""
    return f"{workspace_of(caller)}{session_id or NO_SESSION}/"


def _agent(caller: Principal) -> str:
    if caller.agent_id is None:
        raise missing_agent_context()
    return caller.agent_id


async def save(
    store: ObjectStore, path: Path, key: str, content_type: str | None = None
) -> StoredObject:
    """Put a file into the store.

    Raises:
        ValueError: ``key`` cannot be one.
        OSError: the file cannot be read, or the store not be written.
    """

    async def blocks() -> AsyncIterator[bytes]:
        async with await anyio.open_file(path, "rb") as file:
            while block := await file.read(http_ranges.BLOCK_BYTES):
                yield block

    return await store.put(key, blocks(), content_type)


async def fetch(store: ObjectStore, key: str, path: Path) -> StoredObject:
    """Write an object to ``path``, where nothing may be yet: whole, or not at all.

    Raises:
        NoSuchObject: it is not there.
        OSError: the store cannot be read, or the file not be written.
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
def storing() -> Iterator[None]:
    """Turn the failures of a store into answers: 507 where it is full, else 503."""
    try:
        yield
    except DatabaseError as error:
        if database_errors.is_full(error):
            raise GatewayHTTPError(507, "STORAGE_FULL", "The storage is full.") from None
        if not is_shortage(error):
            raise
        message, headers = refusal(error)
        raise GatewayHTTPError(503, "UNAVAILABLE", message, headers=headers) from None
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise GatewayHTTPError(507, "STORAGE_FULL", "The storage is full.") from None
        log.error("the object store failed", exc_info=error)
        raise GatewayHTTPError(
            503, "STORAGE_UNAVAILABLE", "The storage cannot be reached; try again."
        ) from None
