"""The files of a call: objects into its folder, and what the function made into objects."""

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
from beray.server.objects.store import NoSuchObject, ObjectStore
from beray.server.prefabs.manifest import Function
from beray.server.prefabs.process import INPUTS, OUTPUTS
from beray.server.prefabs.protocol import RunFailed
from beray.transfers.wire_names import accepted

MOST_INPUTS: Final = 1_000
"""Files of one call."""
MOST_OUTPUTS: Final = 1_000

log = structlog.get_logger("beray.prefabs")

Keys = dict[str, list[str]]
"""Keys of objects, by the key of the manifest."""


@dataclass(frozen=True, slots=True)
class Made:
    """A file that a function made."""

    key: str
    name: str
    path: Path
    size: int


def checked(store: ObjectStore, function: Function, files: Mapping[str, Sequence[str]]) -> Keys:
    """The objects that ``files`` name.

    Raises:
        ValueError: its arguments are ``InputProblem``: they do not fit the function.
    """
    problems: list[InputProblem] = []
    found: Keys = {}
    for key, urls in files.items():
        wanted = function.files.inputs.get(key)
        if wanted is None:
            known = ", ".join(function.files.inputs) or "none"
            problems.append(
                InputProblem((one_line(key),), f"is not a file of this function: {known}")
            )
            continue
        if len(urls) > 1 and not wanted.many:
            problems.append(InputProblem((key,), f"one file is taken, not {len(urls)}"))
        for number, url in enumerate(urls):
            try:
                name = object_files.key_of(store, url)
            except ValueError as error:
                problems.append(InputProblem((key, number), one_line(str(error))))
                continue
            if wanted.types and not name.lower().endswith(tuple(wanted.types)):
                types = ", ".join(wanted.types)
                problems.append(InputProblem((key, number), f"is not one of {types}, by its name"))
            found.setdefault(key, []).append(name)
    for key, wanted in function.files.inputs.items():
        if wanted.required and not files.get(key):
            problems.append(InputProblem((key,), "is missing"))
    if sum(map(len, files.values())) > MOST_INPUTS:
        problems = [InputProblem((), f"more than {MOST_INPUTS:,} files")]
    if problems:
        raise ValueError(*problems)
    return found


async def fetched(
    store: ObjectStore, caller: Principal, keys: Keys, folder: Path, most_bytes: int
) -> Keys:
    """Write the objects below ``inputs/`` in ``folder``; the names of the files, by key.

    Raises:
        RunFailed: one of them is not there for this caller, or they are too large.
        OSError: the disk or the store refuses.
    """
    names: Keys = {}
    left = most_bytes
    for key, objects in keys.items():
        place = folder / INPUTS / key
        await run_in_threadpool(place.mkdir, parents=True)
        taken: set[str] = set()
        for name in objects:
            last = _free(name.rpartition("/")[2], taken)
            problem = f"{key}: {last} cannot be had"
            try:
                if not object_files.may_read(caller, name):
                    raise NoSuchObject
                left -= (await store.head(name)).size
                if left < 0:
                    most = f"the files are more than {most_bytes:,} bytes"
                    raise RunFailed("INPUT_FILE", f"{problem}: {most}")
                await object_files.fetch(store, name, place / last)
            except NoSuchObject:
                raise RunFailed("INPUT_FILE", f"{problem}: it is not there") from None
            names.setdefault(key, []).append(last)
    return names


def _free(name: str, taken: set[str]) -> str:
    """``name``, or one like it that no other file of the key has."""
    stem, suffix = os.path.splitext(name)
    number = 1
    while name in taken:
        number += 1
        end = f"-{number}{suffix}"
        most = object_files.MOST_NAME_BYTES - len(end.encode())
        name = stem.encode()[:most].decode(errors="ignore") + end
    taken.add(name)
    return name


def made(folder: Path, function: Function, most_bytes: int) -> list[Made]:
    """The files in ``outputs/``. Nobody writes there any more.

    Raises:
        RunFailed: there is what does not belong there, or too much.
    """
    found: list[Made] = []
    root = folder / OUTPUTS
    if not _is_folder(root):
        raise RunFailed("INVALID_OUTPUT", "the folder of the output files is gone")
    for key in sorted(os.listdir(root)):
        declared = function.files.outputs.get(key)
        shown = one_line(key, 100)
        if declared is None or not _is_folder(root / key):
            raise RunFailed("INVALID_OUTPUT", f"output files: {shown} is no key of the manifest")
        names = sorted(os.listdir(root / key))
        if len(names) > 1 and not declared.many:
            raise RunFailed("INVALID_OUTPUT", f"{key}: one file is allowed, not {len(names)}")
        found += [_file(key, accepted(name), root / key / name) for name in names]
        if len(found) > MOST_OUTPUTS:
            raise RunFailed("OUTPUT_TOO_LARGE", f"more than {MOST_OUTPUTS:,} output files")
    if len({(file.key, file.name) for file in found}) < len(found):
        raise RunFailed("INVALID_OUTPUT", "output files: two names differ only in their encoding")
    if sum(file.size for file in found) > most_bytes:
        raise RunFailed("OUTPUT_TOO_LARGE", f"more than {most_bytes:,} bytes of output files")
    return found


def _file(key: str, name: str, path: Path) -> Made:
    status = os.lstat(path)
    shown = one_line(name, 100)
    if not stat.S_ISREG(status.st_mode):
        raise RunFailed("INVALID_OUTPUT", f"{key}: {shown} is no regular file")
    try:
        is_sound = object_files.plain_filename(name) == name
    except (ValueError, UnicodeError):
        is_sound = False
    if not is_sound:
        raise RunFailed("INVALID_OUTPUT", f"{key}: {shown} is no name for an output file")
    return Made(key, name, path, status.st_size)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


async def stored(
    store: ObjectStore, caller: Principal, job: str, files: Sequence[Made]
) -> dict[str, list[str]]:
    """Put the files into the store: all of them, or none. Their URLs, by key.

    Raises:
        OSError: the store refuses.
    """
    prefix = f"{OUTPUT_KEYS}/{caller.scope}/{caller.agent_id or '-'}/{job}"
    urls: dict[str, list[str]] = {}
    done: list[str] = []
    try:
        for file in files:
            name = f"{prefix}/{file.key}/{file.name}"
            done.append(name)
            kind = mimetypes.guess_type(file.name)[0]
            await object_files.save(store, file.path, name, kind)
            urls.setdefault(file.key, []).append(object_files.s3_url(store, name))
    except BaseException:
        try:
            await asyncio.shield(store.delete(done))
        except OSError as error:
            log.error("outputs of a failed call are left over", job=job, exc_info=error)
        raise
    return urls
