"""A process that calls one function of a prefab, as the server sees it.

What comes from there is not trusted: it is bounded, and checked.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import beray
from beray.server.bubblewrap import INSIDE, Bind
from beray.server.gateway.prefabs.registry import Installed
from beray.server.json_values import require_plain
from beray.server.runners.programs import Tail
from beray.server.sandbox import Sandbox

MOST_BYTES: Final = 16 * 1024**2
"""Of all that one call says: its pieces and its result, as JSON."""
MOST_PROCESSES: Final = 64
INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
_CHILD: Final = Path(__file__).with_name("child.py")
_PACKAGE: Final = Path(beray.__file__).parent
_PREFAB: Final = "/prefab"
"""Where a prefab's folder is in its sandbox."""
_LENGTH: Final = struct.Struct("!I")
_LONG_BYTES: Final = 32 * 1024
"""Frames beyond this are decoded in a thread."""
_TEXT_CHARACTERS: Final = {"message": 2_000, "traceback": 16_000}
_CODES: Final = frozenset({"FUNCTION_ERROR", "INVALID_OUTPUT", "MEMORY_LIMIT", "OUTPUT_TOO_LARGE"})
_SYSTEM: Final = ("/usr", "/bin", "/lib", "/opt")

Frame = dict[str, Any]
Piece = tuple[str, Any]
"""``content`` or ``progress``, and its data."""
Emit = Callable[[Piece], Awaitable[None]]


class RunFailed(Exception):
    """A call did not succeed; ``code`` is one of the wire's."""

    def __init__(self, code: str, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.traceback = traceback


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be called. ``folder`` is the run's own, with the inputs in it."""

    prefab: Installed
    function: str
    parameters: Mapping[str, Any]
    folder: Path
    files: Mapping[str, Sequence[str]]
    """Names of the files in ``inputs/KEY/``, by key."""
    disk_bytes: int
    memory_bytes: int
    """The most that the owner allows; 0: whatever the prefab says."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


async def called(sandbox: Sandbox, order: Order, emit: Emit) -> Any:
    """Call the function; what it returned, once no process of it is left.

    Raises:
        RunFailed: it did not succeed.
    """
    function = order.prefab.function(order.function)
    where = _Places(sandbox, order.prefab.folder, order.folder)
    files = {
        key: [f"{where.work}/{INPUTS}/{key}/{name}" for name in names]
        for key, names in order.files.items()
    }
    job = {
        "op": "run",
        "folder": where.prefab,
        "module": order.prefab.manifest.prefab.module,
        "function": order.function,
        "parameters": order.parameters,
        "files": files,
        "secrets": order.secrets,
        "outputs": f"{where.work}/{OUTPUTS}",
    }
    memory = min(filter(None, (function.memory_bytes, order.memory_bytes)))
    limits = _limits(memory, order.disk_bytes)
    try:
        async with (
            asyncio.timeout(function.seconds) as clock,
            _process(sandbox, order.prefab.folder, order.folder, limits, function.network) as child,
        ):
            await child.send(job)
            return await _until_end(child, emit)
    except TimeoutError:
        if not clock.expired():
            raise
        most = f"{function.seconds:g} s"
        raise RunFailed("TIMEOUT", f"the function took longer than {most}") from None


async def inspected(sandbox: Sandbox, prefab: Installed, folder: Path, seconds: float) -> Frame:
    """What the prefab's module has: see ``child``.

    Raises:
        RunFailed: it cannot be imported.
    """
    where = _Places(sandbox, prefab.folder, folder)
    job = inspection(prefab, where.prefab)
    limits = _limits(1024**3, 256 * 1024**2)
    try:
        async with (
            asyncio.timeout(seconds) as clock,
            _process(sandbox, prefab.folder, folder, limits, network=False) as child,
        ):
            await child.send(job)
            name, data = await child.frame()
    except TimeoutError:
        if not clock.expired():
            raise
        raise RunFailed("TIMEOUT", f"its import took longer than {seconds:g} s") from None
    if name != "inspected" or not isinstance(data, dict):
        _refuse("FUNCTION_ERROR", "its module cannot be looked at")
    return data


def inspection(prefab: Installed, folder: str) -> Frame:
    """The job of looking at a prefab's module."""
    return {
        "op": "inspect",
        "folder": folder,
        "module": prefab.manifest.prefab.module,
        "functions": list(prefab.manifest.functions),
        "requires": prefab.manifest.prefab.requires,
    }


def command() -> list[str]:
    return [sys.executable, "-I", str(_CHILD), str(_PACKAGE.parent)]


class Child:
    """The process: what it is sent, and what it says."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self._left = MOST_BYTES
        self.prints = Tail()

    async def send(self, job: Frame) -> None:
        # One that has ended already is noticed when it is listened to.
        with suppress(ConnectionError):
            self._stdin.write(packed(job))
            await self._stdin.drain()
        self._stdin.close()

    async def frame(self) -> tuple[str, Any]:
        """The next thing that it says, ``failed`` not among them.

        Raises:
            RunFailed: it failed, ended without a word, or said what nobody understands.
        """
        try:
            (length,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
            if length > self._left:
                _refuse("OUTPUT_TOO_LARGE", f"more than {MOST_BYTES:,} bytes of JSON")
            self._left -= length
            body = await self._stdout.readexactly(length)
        except asyncio.IncompleteReadError:
            raise await self._ended() from None
        decode = asyncio.to_thread(_decoded, body) if length > _LONG_BYTES else None
        frame = _decoded(body) if decode is None else await decode
        name, data = next(iter(frame.items()))
        if name == "failed":
            raise _failure(data)
        return name, data

    async def _ended(self) -> RunFailed:
        """Why it ended."""
        status = await self._process.wait()
        # The supervisor's word comes behind all that the function has printed.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.printing
        *_, last = self.prints.text.splitlines() or [""]
        if status == 137 and last.startswith("[ended: ") and last.endswith("]"):
            problem = last.removeprefix("[ended: ").removesuffix("]")
            code = "MEMORY_LIMIT" if problem.endswith("bytes of memory") else "CRASHED"
            return RunFailed(code, f"the function was ended: {problem}")
        how = f"signal {status - 128}" if status > 128 else f"exit status {status}"
        return RunFailed("CRASHED", f"the function's process ended before it returned ({how})")

    async def __aenter__(self) -> Child:
        assert self._process.stderr is not None
        self.printing = asyncio.create_task(self.prints.drain(self._process.stderr))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.printing.cancel()
        await asyncio.wait([self.printing])


class _Places:
    """The folders as the function sees them."""

    def __init__(self, sandbox: Sandbox, prefab: Path, work: Path) -> None:
        boxed = sandbox.kind == "bubblewrap"
        self.prefab = _PREFAB if boxed else str(prefab)
        self.work = INSIDE if boxed else str(work)


@asynccontextmanager
async def _process(
    sandbox: Sandbox, prefab: Path, folder: Path, limits: Mapping[str, int], network: bool
) -> AsyncIterator[Child]:
    binds = [*_python(), Bind(str(_PACKAGE)), Bind(str(prefab), inside=_PREFAB)]
    async with (
        sandbox.function(command(), folder, binds, limits, network=network) as process,
        Child(process) as child,
    ):
        yield child


async def _until_end(child: Child, emit: Emit) -> Any:
    while True:
        name, data = await child.frame()
        match name:
            case "returned":
                return data
            case "content":
                await emit(("content", data))
            case "progress":
                await emit(("progress", _progress(data)))
            case _:
                _refuse("INVALID_OUTPUT", "the function's process said what nobody understands")


def packed(frame: Frame) -> bytes:
    body = json.dumps(frame, separators=(",", ":"), allow_nan=False).encode()
    return _LENGTH.pack(len(body)) + body


def _decoded(body: bytes) -> Frame:
    try:
        frame = json.loads(body.decode("utf-8", "surrogatepass"), parse_constant=_no_constant)
        require_plain(frame)
    except (ValueError, RecursionError) as error:
        said = "no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        _refuse("INVALID_OUTPUT", f"what the function gave cannot be passed on: {said}")
    if not isinstance(frame, dict) or len(frame) != 1:
        _refuse("INVALID_OUTPUT", "the function's process said what nobody understands")
    return frame


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _progress(data: object) -> dict[str, Any]:
    fraction = data.get("fraction") if isinstance(data, dict) else 2
    known = fraction is None or (
        isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1
    )
    if not isinstance(data, dict) or not known:
        _refuse("INVALID_OUTPUT", "the fraction of a Progress is from 0 to 1, or None")
    return {"fraction": fraction, "message": str(data.get("message", ""))[:2_000]}


def _failure(data: object) -> RunFailed:
    told = data if isinstance(data, dict) else {}
    code = told.get("code")
    texts = {name: str(told.get(name, ""))[-most:] for name, most in _TEXT_CHARACTERS.items()}
    return RunFailed(code if code in _CODES else "FUNCTION_ERROR", **texts)


def _refuse(code: str, message: str) -> NoReturn:
    raise RunFailed(code, message)


def _limits(memory_bytes: int, disk_bytes: int) -> dict[str, int]:
    return {
        "memory": memory_bytes,
        # The supervisor looks now and then; this holds what grows faster. Libraries reserve
        # more than they use, so it is wide.
        "data": 2 * memory_bytes + 1024**3,
        "fsize": disk_bytes,
        "processes": MOST_PROCESSES,
    }


def _python() -> list[Bind]:
    """Where this Python is, with all that is installed for it."""
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    roots |= {os.path.realpath(root) for root in roots}
    # With links on the way from one name of it to the other.
    roots |= {os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))}
    return [
        Bind(root)
        for root in sorted(roots)
        if not any(root == path or root.startswith(path + "/") for path in _SYSTEM)
    ]
