"""Worker program that calls one function of one prefab. ``process`` starts it.

    python -I worker.py BERAY_DIRECTORY

Standard input and output carry frames; see ``protocol``. The server sends one frame with
``op``: ``run``, or ``inspect``, which only describes the module's functions. The worker sends
any number of ``content`` and ``progress`` frames, followed by one ``returned``, ``failed`` or
``inspected``. Output that the function prints goes to standard error.

Each call waits for the start of this program. It therefore imports only the standard library,
``beray.prefab``, the framing of messages and the prefab's module, and modules that few calls need
on first use.
"""

from __future__ import annotations

import collections.abc
import errno
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from traceback import TracebackException

_MAX_FRAME_BYTES = 32 * 1024 * 1024
_MESSAGE_CHARACTERS = 2_000
_TRACEBACK_CHARACTERS = 16_000
_MAX_STACK_FRAMES = 40


class _NotJson(Exception):
    """The output of a function cannot be represented in JSON, or is too large."""


class Channel:
    """Channel for frames on the original standard input and output.

    The function's standard input becomes empty, and its standard output standard error.
    """

    def __init__(self) -> None:
        # Imported here, because the path of the package ``beray`` is an argument.
        from beray.server.sandbox.launcher import framing

        self._framing = framing
        self._reader: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._writer: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        os.dup2(2, 1)

    def read(self) -> dict[str, Any]:
        """Return the request, and close the input."""
        frame: dict[str, Any] = json.loads(self._framing.read(self._reader.read))
        self._reader.close()
        return frame

    def send(self, frame: dict[str, Any]) -> None:
        """Send a frame.

        Raises:
            _NotJson: The frame cannot be represented in JSON, or is too large.
        """
        try:
            text = json.dumps(frame, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            # The server reports lone surrogates.
            body = text.encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError) as error:
            raise _NotJson(str(error)) from None
        if len(body) > _MAX_FRAME_BYTES:
            raise _NotJson(f"the value has {len(body):,} bytes; the limit is {_MAX_FRAME_BYTES:,}")
        rest = memoryview(self._framing.encode(body))
        while rest:
            rest = rest[self._writer.write(rest) :]


def main(beray_directory: str) -> None:
    """Read one request, carry it out and send the result."""
    # At the end of the path, so that installed packages precede the directory's other modules.
    sys.path.append(beray_directory)
    channel = Channel()
    job = channel.read()
    folder = job["folder"]
    try:
        if job["op"] == "inspect":
            channel.send({"inspected": _inspect(folder, job)})
        else:
            _run(channel, folder, job)
    except _NotJson as error:
        channel.send(
            {
                "failed": {
                    "code": "INVALID_OUTPUT",
                    "message": f"the output is not valid JSON: {error}",
                }
            }
        )
    except MemoryError:
        channel.send({"failed": {"code": "MEMORY_LIMIT", "message": "out of memory"}})
    except BaseException as error:  # noqa: BLE001 - a function may raise anything
        channel.send({"failed": _failure(error, folder)})


def _load_module(folder: str, name: str) -> ModuleType:
    """Import the prefab's module from its file, whatever other modules have its name."""
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

    function = getattr(_load_module(folder, job["module"]), job["function"])
    call = Call(
        outputs=Path(job["outputs"]),
        files={key: [Path(path) for path in paths] for key, paths in job["files"].items()},
        secrets=job["secrets"],
    )
    result = function(call, **job["parameters"])
    if isinstance(result, collections.abc.Generator):
        generator = result
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                result = end.value
                break
            if isinstance(item, Progress):
                fields = {"fraction": item.fraction, "message": str(item.message)}
                channel.send({"progress": fields})
            else:
                channel.send({"content": item})
    channel.send({"returned": result})


# Errors


def _failure(error: BaseException, folder: str) -> dict[str, Any]:
    text = _safe_str(error)[:_MESSAGE_CHARACTERS]
    # A function that raised InputError has imported it.
    if isinstance(error, getattr(sys.modules.get("beray.prefab"), "InputError", ())):
        return {"code": "INVALID_INPUT", "message": _sendable(text)}
    message = f"{type(error).__name__}: {text}".removesuffix(": ")
    trace = _sendable(_traceback(error, folder))
    too_large = isinstance(error, OSError) and error.errno == errno.EFBIG
    code = "OUTPUT_TOO_LARGE" if too_large else "FUNCTION_ERROR"
    return {"code": code, "message": _sendable(message), "traceback": trace}


def _sendable(text: str) -> str:
    """Return the text with lone surrogates escaped, because UTF-8 cannot represent them."""
    return text.encode("utf-8", "backslashreplace").decode()


def _safe_str(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - __str__ of an error may raise
        return "the text of the error cannot be read"


def _traceback(error: BaseException, folder: str) -> str:
    """Return the traceback from the first frame of the prefab on, with relative paths."""
    import traceback

    try:
        summary = traceback.TracebackException.from_exception(error, limit=-_MAX_STACK_FRAMES)
        seen: set[int] = set()
        _shorten(summary, folder, seen)
        text = "".join(summary.format())
    except Exception:  # noqa: BLE001 - attributes of an error may raise
        return ""
    return text[-_TRACEBACK_CHARACTERS:]


def _shorten(summary: TracebackException, folder: str, seen: set[int]) -> None:
    """Shorten the paths and remove the frames of this program, also in chained errors."""
    if id(summary) in seen:
        return
    seen.add(id(summary))
    frames = [frame for frame in summary.stack if frame.filename != __file__]
    first = next((n for n, frame in enumerate(frames) if frame.filename.startswith(folder)), 0)
    for frame in frames:
        # Reads the source line while ``filename`` is still the path of the file.
        _ = frame.line
        frame.filename = _relative(frame.filename, folder)
    summary.stack[:] = frames[first:]
    # Syntax errors have a file name of their own.
    if isinstance(name := getattr(summary, "filename", None), str):
        summary.filename = _relative(name, folder)
    chained = (
        summary.__cause__,
        summary.__context__,
        *(getattr(summary, "exceptions", None) or ()),
    )
    for other in chained:
        if other is not None:
            _shorten(other, folder, seen)


def _relative(path: str, folder: str) -> str:
    import sysconfig

    paths = sysconfig.get_paths()
    for root in (folder, paths["purelib"], paths["platlib"], paths["stdlib"]):
        if path.startswith(root + os.sep):
            return path[len(root) + 1 :]
    return path if path.startswith("<") else Path(path).name


# Inspection


def _inspect(folder: str, job: dict[str, Any]) -> dict[str, Any]:
    from importlib import metadata

    missing = []
    for name in job["requires"]:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return {"missing": missing, "functions": {}}
    module = _load_module(folder, job["module"])
    found = {name: _signature(getattr(module, name, None)) for name in job["functions"]}
    return {"missing": [], "functions": found}


def _signature(function: Any) -> dict[str, Any] | None:
    """Return a description of a function's parameters, or None if it is not callable."""
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
        parameter.name: parameter.default is inspect.Parameter.empty
        for parameter in named
        if parameter.kind in by_name
    }
    return {
        "takes_call": takes_call,
        "first": first[0].name if takes_call and first[0].kind in by_name else None,
        "required": [name for name, required in is_required.items() if required],
        "optional": [name for name, required in is_required.items() if not required],
        "takes_any": any(parameter.kind == inspect.Parameter.VAR_KEYWORD for parameter in named),
        "unnamed": [parameter.name for parameter in named if parameter.kind in positional],
        "is_generator": inspect.isgeneratorfunction(function),
        "is_async": inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
    }


if __name__ == "__main__":
    main(sys.argv[1])
