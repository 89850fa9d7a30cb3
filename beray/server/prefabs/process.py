"""Worker processes that call a function of a prefab in a sandbox."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from beray.server.prefabs.protocol import (
    MALFORMED_MESSAGE,
    Emit,
    Frame,
    RunFailed,
    WorkerConnection,
    check_progress,
)
from beray.server.prefabs.registry import InstalledPrefab
from beray.server.sandbox.bubblewrap import INSIDE
from beray.server.sandbox.interpreter import PACKAGE, interpreter_binds
from beray.server.sandbox.network_policy import GatewayRelay
from beray.server.sandbox.sandbox import NetworkUnavailable, Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.workspace.ownership import make_world_readable

MAX_PROCESSES: Final = 64
"""Maximum number of processes of a function."""
INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
_WORKER: Final = Path(__file__).with_name("worker.py")
_PREFAB: Final = "/prefab"
"""Path of the prefab's directory in its sandbox."""


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """Call of one function.

    Attributes:
        folder: Directory of this call, with the input files.
        files: Names of the files in ``inputs/KEY/``, by key.
        memory_bytes: Limit that the operator sets; 0: only the limit of the manifest applies.
        gateway: Access to the gateway, if the function requests it.
    """

    prefab: InstalledPrefab
    function: str
    parameters: Mapping[str, Any]
    folder: Path
    files: Mapping[str, Sequence[str]]
    disk_bytes: int
    memory_bytes: int
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    gateway: GatewayRelay | None = None


async def call_function(sandbox: Sandbox, call: FunctionCall, emit: Emit) -> Any:
    """Call a function and return its result once all of its processes have ended.

    Args:
        sandbox: Sandbox of the worker process.
        call: Function, parameters and limits.
        emit: Receives the items that a generator yields.

    Raises:
        RunFailed: The call failed.
    """
    function = call.prefab.function(call.function)
    paths = _SandboxPaths(sandbox, call.prefab.folder, call.folder)
    files = {
        key: [f"{paths.work}/{INPUTS}/{key}/{name}" for name in names]
        for key, names in call.files.items()
    }
    request = {
        "op": "run",
        "folder": paths.prefab,
        "module": call.prefab.manifest.prefab.module,
        "function": call.function,
        "parameters": call.parameters,
        "files": files,
        "secrets": call.secrets,
        "outputs": f"{paths.work}/{OUTPUTS}",
    }
    memory = min(filter(None, (function.memory_bytes, call.memory_bytes)))
    limits = _limits(memory, call.disk_bytes)
    try:
        async with (
            asyncio.timeout(function.seconds) as clock,
            _start_worker(
                sandbox, call.prefab, call.folder, limits, function.network, call.gateway
            ) as worker,
        ):
            await worker.send(request)
            return await _relay_until_end(worker, emit)
    except NetworkUnavailable as refused:
        raise RunFailed(
            "NETWORK_REFUSED", f"the function needs network access: {refused.strerror}"
        ) from None
    except TimeoutError:
        if not clock.expired():
            raise
        limit = f"{function.seconds:g} seconds"
        raise RunFailed("TIMEOUT", f"the function exceeded its time limit of {limit}") from None


async def inspect_module(
    sandbox: Sandbox, prefab: InstalledPrefab, folder: Path, seconds: float
) -> Frame:
    """Import a prefab's module in the sandbox and return the description of its functions.

    The result is untrusted; see ``worker`` for its content.

    Args:
        sandbox: Sandbox of the worker process.
        prefab: Prefab whose module is imported.
        folder: Directory of this inspection.
        seconds: Time limit of the import.

    Raises:
        RunFailed: The module cannot be imported.
    """
    paths = _SandboxPaths(sandbox, prefab.folder, folder)
    request = inspection_request(prefab, paths.prefab)
    limits = _limits(1024**3, 256 * 1024**2)
    try:
        async with (
            asyncio.timeout(seconds) as clock,
            _start_worker(sandbox, prefab, folder, limits, network=False) as worker,
        ):
            await worker.send(request)
            name, data = await worker.receive()
    except TimeoutError:
        if not clock.expired():
            raise
        raise RunFailed("TIMEOUT", f"the import took longer than {seconds:g} seconds") from None
    if name != "inspected" or not isinstance(data, dict):
        raise RunFailed("FUNCTION_ERROR", MALFORMED_MESSAGE)
    return data


def inspection_request(prefab: InstalledPrefab, folder: str) -> Frame:
    """Return the request to inspect a prefab's module.

    Args:
        prefab: Prefab whose module is imported.
        folder: Path of the prefab's directory for the worker process.
    """
    return {
        "op": "inspect",
        "folder": folder,
        "module": prefab.manifest.prefab.module,
        "functions": list(prefab.manifest.functions),
        "requires": prefab.manifest.prefab.requires,
    }


def worker_command() -> list[str]:
    """Return the command line of the worker process."""
    return [sys.executable, "-I", str(_WORKER), str(PACKAGE.parent)]


def strip_server_paths(failed: RunFailed, *directories: Path) -> RunFailed:
    """Return the error without absolute paths of the server.

    Errors of Python name files of the installation and, without a sandbox, of the prefab and
    the call.

    Args:
        failed: Error of the worker process.
        directories: Directories of the prefab and the call.
    """
    installation = (PACKAGE.parent, Path(sys.prefix), Path(sys.base_prefix))
    paths = {form for path in (*directories, *installation) for form in (path, path.resolve())}
    # Longer paths first: a path may contain another one.
    alternatives = "|".join(re.escape(str(path)) for path in sorted(paths, reverse=True))
    pattern = re.compile(rf"(?:{alternatives})(?:/|(?![\w.-]))")

    def strip(text: str) -> str:
        return pattern.sub(lambda found: "" if found[0].endswith("/") else ".", text)

    return RunFailed(failed.code, strip(failed.message), strip(failed.traceback))


def unreadable_paths() -> list[str]:
    """Return the parts of the Python installation that other users cannot read.

    A server that runs as root runs commands as such users. An installation with a ``umask`` of
    077 is not readable for them.
    """
    program = str(Path(sys.executable).resolve())
    modes = {program: 0o005, os.__file__: 0o004, str(PACKAGE): 0o005, str(_WORKER): 0o004}
    return [path for path, mode in modes.items() if Path(path).stat().st_mode & mode != mode]


class _SandboxPaths:
    """Paths of the directories in the sandbox."""

    def __init__(self, sandbox: Sandbox, prefab: Path, work: Path) -> None:
        is_isolated = sandbox.kind == "bubblewrap"
        self.prefab = _PREFAB if is_isolated else str(prefab)
        self.work = INSIDE if is_isolated else str(work)


@asynccontextmanager
async def _start_worker(
    sandbox: Sandbox,
    prefab: InstalledPrefab,
    folder: Path,
    limits: Mapping[str, int],
    network: bool,
    gateway: GatewayRelay | None = None,
) -> AsyncIterator[WorkerConnection]:
    if not prefab.is_official and sandbox.has_own_uids:
        await run_in_threadpool(make_world_readable, prefab.folder)
    own = Bind(str(prefab.folder), inside=_PREFAB, origin="the prefab's files", private=True)
    binds = [*interpreter_binds(), own]
    async with (
        sandbox.function(
            worker_command(), folder, binds, limits, network=network, gateway=gateway
        ) as function,
        WorkerConnection(function) as worker,
    ):
        yield worker


async def _relay_until_end(worker: WorkerConnection, emit: Emit) -> Any:
    """Pass stream items to ``emit`` and return the function's result."""
    while True:
        name, data = await worker.receive()
        match name:
            case "returned":
                return data
            case "content":
                await emit(("content", data))
            case "progress":
                await emit(("progress", check_progress(data)))
            case _:
                raise RunFailed("INVALID_OUTPUT", MALFORMED_MESSAGE)


def _limits(memory_bytes: int, disk_bytes: int) -> dict[str, int]:
    return {
        "memory": memory_bytes,
        # The supervisor measures periodically; this limit stops faster growth. It is wide,
        # because libraries reserve more address space than they use.
        "data": 2 * memory_bytes + 1024**3,
        "fsize": disk_bytes,
        "disk": disk_bytes,
        "processes": MAX_PROCESSES,
    }
