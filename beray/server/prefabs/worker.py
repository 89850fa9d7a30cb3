"""Calls one function of one prefab. A program of its own; ``process`` speaks to it.

    python -I child.py BERAY_FOLDER

Standard input and output carry frames: a length of four bytes, big-endian, and so many
bytes of JSON. It is sent one with ``op``: ``run``, or ``inspect``, which only looks at the
module. It answers with any number of ``content`` and ``progress``, and then ``returned``,
``failed`` or ``inspected``. What the function prints goes to standard error.

It imports ``beray.prefab`` and the prefab's module, and nothing else of ours. What only some
calls need is imported there: each call waits for this program to begin.
"""

from __future__ import annotations

import collections.abc
import errno
import importlib.util
import json
import os
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from traceback import TracebackException

_LENGTH = struct.Struct("!I")
_LONGEST = 32 * 1024 * 1024
_MESSAGE_CHARACTERS = 2_000
_TRACE_CHARACTERS = 16_000
_MOST_FRAMES = 40


class _NoJson(Exception):
    """What a function gave cannot be said in JSON."""


class Channel:
    """The frames. The function's own input and output are others from now on."""

    def __init__(self) -> None:
        self._reader: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._writer: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        os.dup2(2, 1)

    def read(self) -> dict[str, Any]:
        (length,) = _LENGTH.unpack(self._reader.read(_LENGTH.size))
        frame: dict[str, Any] = json.loads(self._reader.read(length))
        self._reader.close()
        return frame

    def send(self, frame: dict[str, Any]) -> None:
        try:
            text = json.dumps(frame, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            # The server says what it thinks of half a surrogate pair.
            body = text.encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError) as error:
            raise _NoJson(str(error)) from None
        if len(body) > _LONGEST:
            raise _NoJson(f"{len(body):,} bytes are too much at once")
        rest = memoryview(_LENGTH.pack(len(body)) + body)
        while rest:
            rest = rest[self._writer.write(rest) :]


def main(beray_folder: str) -> None:
    channel = Channel()
    # Behind the installed ones: it is where this very package is, whichever is found first.
    sys.path.append(beray_folder)
    job = channel.read()
    folder = job["folder"]
    try:
        if job["op"] == "inspect":
            channel.send({"inspected": _inspected(folder, job)})
        else:
            _run(channel, folder, job)
    except _NoJson as error:
        channel.send({"failed": {"code": "INVALID_OUTPUT", "message": f"no JSON: {error}"}})
    except MemoryError:
        channel.send({"failed": {"code": "MEMORY_LIMIT", "message": "out of memory"}})
    except BaseException as error:  # noqa: BLE001 - of a function, anything can be expected
        channel.send({"failed": _failure(error, folder)})


def _loaded(folder: str, name: str) -> ModuleType:
    """The prefab's module, by its file: no other of its name is meant."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, Path(folder, f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _run(channel: Channel, folder: str, job: dict[str, Any]) -> None:
    from beray.prefab import Call, Progress

    function = getattr(_loaded(folder, job["module"]), job["function"])
    call = Call(
        outputs=Path(job["outputs"]),
        files={key: [Path(path) for path in paths] for key, paths in job["files"].items()},
        secrets=job["secrets"],
    )
    result = function(call, **job["parameters"])
    if isinstance(result, collections.abc.Generator):
        pieces = result
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                result = end.value
                break
            if isinstance(piece, Progress):
                told = {"fraction": piece.fraction, "message": str(piece.message)}
                channel.send({"progress": told})
            else:
                channel.send({"content": piece})
    channel.send({"returned": result})


# Errors


def _failure(error: BaseException, folder: str) -> dict[str, Any]:
    said = _safely(str, error)[:_MESSAGE_CHARACTERS]
    # Not imported here: a function that raised it has imported it.
    if isinstance(error, getattr(sys.modules.get("beray.prefab"), "InputError", ())):
        return {"code": "INVALID_INPUT", "message": _sendable(said)}
    message = f"{type(error).__name__}: {said}".removesuffix(": ")
    trace = _sendable(_trace(error, folder))
    too_large = isinstance(error, OSError) and error.errno == errno.EFBIG
    code = "OUTPUT_TOO_LARGE" if too_large else "FUNCTION_ERROR"
    return {"code": code, "message": _sendable(message), "traceback": trace}


def _sendable(text: str) -> str:
    """Text with halves of surrogate pairs written out: no wire takes them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _safely(function: Any, value: object) -> str:
    try:
        return str(function(value))
    except Exception:  # noqa: BLE001 - an error's own text may raise
        return "an error whose text cannot be read"


def _trace(error: BaseException, folder: str) -> str:
    """The traceback from the prefab on, its paths as they are in its folder."""
    import traceback

    try:
        told = traceback.TracebackException.from_exception(error, limit=-_MOST_FRAMES)
        seen: set[int] = set()
        _shorten(told, folder, seen)
        text = "".join(told.format())
    except Exception:  # noqa: BLE001 - what an error is made of may raise as well
        return ""
    return text[-_TRACE_CHARACTERS:]


def _shorten(told: TracebackException, folder: str, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    frames = [frame for frame in told.stack if frame.filename != __file__]
    first = next((n for n, one in enumerate(frames) if one.filename.startswith(folder)), 0)
    for frame in frames:
        # Read now, while the name is still that of a file.
        _ = frame.line
        frame.filename = _shown(frame.filename, folder)
    told.stack[:] = frames[first:]
    # That of a syntax error.
    if isinstance(name := getattr(told, "filename", None), str):
        told.filename = _shown(name, folder)
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            _shorten(other, folder, seen)


def _shown(path: str, folder: str) -> str:
    import sysconfig

    paths = sysconfig.get_paths()
    for root in (folder, paths["purelib"], paths["platlib"], paths["stdlib"]):
        if path.startswith(root + os.sep):
            return path[len(root) + 1 :]
    return path if path.startswith("<") else os.path.basename(path)


# Looking at a module


def _inspected(folder: str, job: dict[str, Any]) -> dict[str, Any]:
    from importlib import metadata

    missing = []
    for name in job["requires"]:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return {"missing": missing, "functions": {}}
    module = _loaded(folder, job["module"])
    found = {name: _signature(getattr(module, name, None)) for name in job["functions"]}
    return {"missing": [], "functions": found}


def _signature(function: Any) -> dict[str, Any] | None:
    """What a call has to give; ``None``: it is no function."""
    import inspect

    if not callable(function):
        return None
    parameters = list(inspect.signature(function).parameters.values())
    first, named = parameters[:1], parameters[1:]
    takes_call = bool(first) and first[0].kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional = (inspect.Parameter.POSITIONAL_ONLY,)
    is_required = {
        one.name: one.default is inspect.Parameter.empty for one in named if one.kind in by_name
    }
    return {
        "takes_call": takes_call,
        "first": first[0].name if takes_call and first[0].kind in by_name else None,
        "required": [name for name, wanted in is_required.items() if wanted],
        "optional": [name for name, wanted in is_required.items() if not wanted],
        "takes_any": any(one.kind == inspect.Parameter.VAR_KEYWORD for one in named),
        "unnamed": [one.name for one in named if one.kind in positional],
        "is_generator": inspect.isgeneratorfunction(function),
        "is_async": inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
    }


if __name__ == "__main__":
    main(sys.argv[1])
