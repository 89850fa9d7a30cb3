"""Input and output files of a call."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.sanitize import one_line
from beray.server.accounts.principals import Principal
from beray.server.http.validation_errors import InputProblem
from beray.server.objects import object_files
from beray.server.objects.object_files import OUTPUTS as OUTPUT_KEYS
from beray.server.objects.store import ObjectNotFound, ObjectStore
from beray.server.prefabs.manifest import FunctionSpec
from beray.server.prefabs.process import INPUTS, OUTPUTS
from beray.server.prefabs.protocol import RunFailed
from beray.transfers.wire_names import to_wire_name

MAX_INPUTS: Final = 1_000
"""Maximum number of input files of one call."""
MAX_OUTPUTS: Final = 1_000
"""Maximum number of output files of one call."""

log = structlog.get_logger("beray.prefabs")

ObjectKeys = dict[str, list[str]]
"""Keys of objects in the store, by the key of the file in the manifest."""


@dataclass(frozen=True, slots=True)
class ProducedFile:
    """Output file of a function.

    Attributes:
        key: Key of the file in the manifest.
    """

    key: str
    name: str
    path: Path
    size: int


def check_input_files(
    store: ObjectStore, function: FunctionSpec, files: Mapping[str, Sequence[str]]
) -> ObjectKeys:
    """Return the keys of the objects that the ``s3://`` URLs in ``files`` name.

    Raises:
        ValueError: The files do not match the manifest of the function. The arguments of the
            exception are instances of ``InputProblem``.
    """
    problems: list[InputProblem] = []
    found: ObjectKeys = {}
    for key, urls in files.items():
        expected = function.files.inputs.get(key)
        if expected is None:
            known = ", ".join(function.files.inputs) or "none"
            reason = f"is not an input file of this function; its input files: {known}"
            problems.append(InputProblem((one_line(key),), reason))
            continue
        if len(urls) > 1 and not expected.many:
            problems.append(InputProblem((key,), f"must be one file, got {len(urls)}"))
        for number, url in enumerate(urls):
            try:
                name = object_files.parse_s3_url(store, url)
            except ValueError as error:
                problems.append(InputProblem((key, number), one_line(str(error))))
                continue
            if expected.types and not name.lower().endswith(tuple(expected.types)):
                types = ", ".join(expected.types)
                reason = f"the file name must end with one of: {types}"
                problems.append(InputProblem((key, number), reason))
            found.setdefault(key, []).append(name)
    for key, expected in function.files.inputs.items():
        if expected.required and not files.get(key):
            problems.append(InputProblem((key,), "is missing"))
    count = sum(map(len, files.values()))
    if count > MAX_INPUTS:
        problems = [
            InputProblem((), f"a call may have at most {MAX_INPUTS:,} files, got {count:,}")
        ]
    if problems:
        raise ValueError(*problems)
    return found


async def download_inputs(
    store: ObjectStore, caller: Principal, keys: ObjectKeys, folder: Path, max_bytes: int
) -> ObjectKeys:
    """Write the objects to ``inputs/KEY/`` in ``folder`` and return their file names by key.

    Raises:
        RunFailed: An object does not exist for this caller, or the objects exceed
            ``max_bytes`` together.
        OSError: The disk or the store failed.
    """
    names: ObjectKeys = {}
    bytes_left = max_bytes
    for key, objects in keys.items():
        directory = folder / INPUTS / key
        await run_in_threadpool(directory.mkdir, parents=True)
        used_names: set[str] = set()
        for object_key in objects:
            name = _unique_name(object_key.rpartition("/")[2], used_names)
            try:
                if not object_files.may_read(caller, object_key):
                    raise ObjectNotFound
                bytes_left -= (await store.head(object_key)).size
                if bytes_left < 0:
                    reason = f"{key}: {name}: the input files exceed {max_bytes:,} bytes"
                    raise RunFailed("INPUT_FILE", reason)
                await object_files.download(store, object_key, directory / name)
            except ObjectNotFound:
                raise RunFailed("INPUT_FILE", f"{key}: {name} does not exist") from None
            names.setdefault(key, []).append(name)
    return names


def _unique_name(name: str, used: set[str]) -> str:
    """Return ``name``, with a number if another file of the key has this name."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    number = 1
    while name in used:
        number += 1
        end = f"-{number}{suffix}"
        max_bytes = object_files.MAX_NAME_BYTES - len(end.encode())
        name = stem.encode()[:max_bytes].decode(errors="ignore") + end
    used.add(name)
    return name


def collect_outputs(folder: Path, function: FunctionSpec, max_bytes: int) -> list[ProducedFile]:
    """Return the files in ``outputs/`` of a call whose processes have ended.

    Raises:
        RunFailed: A file does not match the manifest, or the files exceed a limit.
    """
    found: list[ProducedFile] = []
    root = folder / OUTPUTS
    if not _is_directory(root):
        raise RunFailed("INVALID_OUTPUT", "the function removed the directory of output files")
    for key in sorted(path.name for path in root.iterdir()):
        declared = function.files.outputs.get(key)
        if declared is None or not _is_directory(root / key):
            reason = f"output files: {one_line(key, 100)} is not an output file of the manifest"
            raise RunFailed("INVALID_OUTPUT", reason)
        paths = sorted((root / key).iterdir())
        if len(paths) > 1 and not declared.many:
            reason = f"{key}: must be one file, got {len(paths)}"
            raise RunFailed("INVALID_OUTPUT", reason)
        found += [_produced_file(key, path) for path in paths]
        if len(found) > MAX_OUTPUTS:
            raise RunFailed("OUTPUT_TOO_LARGE", f"more than {MAX_OUTPUTS:,} output files")
    if len({(file.key, file.name) for file in found}) < len(found):
        raise RunFailed("INVALID_OUTPUT", "output files: two names differ only in their encoding")
    if sum(file.size for file in found) > max_bytes:
        reason = f"the output files exceed {max_bytes:,} bytes"
        raise RunFailed("OUTPUT_TOO_LARGE", reason)
    return found


def _produced_file(key: str, path: Path) -> ProducedFile:
    status = path.lstat()
    name = to_wire_name(path.name)
    shown = one_line(name, 100)
    if not stat.S_ISREG(status.st_mode):
        raise RunFailed("INVALID_OUTPUT", f"{key}: {shown} is not a regular file")
    try:
        is_valid = object_files.safe_filename(name) == name
    except (ValueError, UnicodeError):
        is_valid = False
    if not is_valid:
        raise RunFailed("INVALID_OUTPUT", f"{key}: {shown} is not a valid name of an output file")
    return ProducedFile(key, name, path, status.st_size)


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


async def store_outputs(
    store: ObjectStore, caller: Principal, job: str, files: Sequence[ProducedFile]
) -> dict[str, list[str]]:
    """Store all files, or none, and return their ``s3://`` URLs by key.

    Raises:
        OSError: The store failed.
    """
    prefix = f"{OUTPUT_KEYS}/{caller.scope}/{caller.agent_id or '-'}/{job}"
    urls: dict[str, list[str]] = {}
    stored: list[str] = []
    try:
        for file in files:
            object_key = f"{prefix}/{file.key}/{file.name}"
            stored.append(object_key)
            media_type = mimetypes.guess_type(file.name)[0]
            await object_files.upload(store, file.path, object_key, media_type)
            urls.setdefault(file.key, []).append(object_files.s3_url(store, object_key))
    except BaseException:
        try:
            await asyncio.shield(store.delete(stored))
        except OSError as error:
            log.error("output files of a failed call were not removed", job=job, exc_info=error)
        raise
    return urls
