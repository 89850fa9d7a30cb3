"""A process that calls one function of a prefab, as the server sees it."""

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

from beray.server.prefabs.protocol import Child, Emit, Frame, RunFailed, progress
from beray.server.prefabs.registry import Installed
from beray.server.sandbox.bubblewrap import INSIDE
from beray.server.sandbox.interpreter import PACKAGE, interpreter_binds
from beray.server.sandbox.network_policy import GatewayRelay
from beray.server.sandbox.sandbox import NetworkRefused, Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.workspace.ownership import open_to_all

MOST_PROCESSES: Final = 64
INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
_WORKER: Final = Path(__file__).with_name("worker.py")
_PREFAB: Final = "/prefab"
"""Where a prefab's folder is in its sandbox."""


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
    gateway: GatewayRelay | None = None
    """Access to the gateway, if the function asks for it."""


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
            _process(
                sandbox, order.prefab, order.folder, limits, function.network, order.gateway
            ) as child,
        ):
            await child.send(job)
            return await _until_end(child, emit)
    except NetworkRefused as refused:
        raise RunFailed(
            "NETWORK_REFUSED", f"the function needs a network: {refused.strerror}"
        ) from None
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
            _process(sandbox, prefab, folder, limits, network=False) as child,
        ):
            await child.send(job)
            name, data = await child.frame()
    except TimeoutError:
        if not clock.expired():
            raise
        raise RunFailed("TIMEOUT", f"its import took longer than {seconds:g} s") from None
    if name != "inspected" or not isinstance(data, dict):
        raise RunFailed("FUNCTION_ERROR", "its module cannot be looked at")
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
    return [sys.executable, "-I", str(_WORKER), str(PACKAGE.parent)]


def shortened(failed: RunFailed, *places: Path) -> RunFailed:
    """Without the paths of the server's: Python's own errors name files of its own, and, where
    there is no sandbox, of ``places``."""
    ours = (PACKAGE.parent, Path(sys.prefix), Path(sys.base_prefix))
    paths = {one for path in (*places, *ours) for one in (path, path.resolve())}
    # The longer ones first: one may be in another.
    either = "|".join(re.escape(str(path)) for path in sorted(paths, reverse=True))
    pattern = re.compile(rf"(?:{either})(?:/|(?![\w.-]))")

    def without(text: str) -> str:
        return pattern.sub(lambda found: "" if found[0].endswith("/") else ".", text)

    return RunFailed(failed.code, without(failed.message), without(failed.traceback))


def unreadable() -> list[str]:
    """Return those parts of the Python installation that other users of this host may not read.

    The uids of a root server's commands are such users; a ``umask`` of 077 leads to this.
    """
    program = os.path.realpath(sys.executable)
    parts = {program: 0o005, os.__file__: 0o004, str(PACKAGE): 0o005, str(_WORKER): 0o004}
    return [part for part, mode in parts.items() if os.stat(part).st_mode & mode != mode]


class _Places:
    """The folders as the function sees them."""

    def __init__(self, sandbox: Sandbox, prefab: Path, work: Path) -> None:
        boxed = sandbox.kind == "bubblewrap"
        self.prefab = _PREFAB if boxed else str(prefab)
        self.work = INSIDE if boxed else str(work)


@asynccontextmanager
async def _process(
    sandbox: Sandbox,
    prefab: Installed,
    folder: Path,
    limits: Mapping[str, int],
    network: bool,
    gateway: GatewayRelay | None = None,
) -> AsyncIterator[Child]:
    if not prefab.is_official and sandbox.has_own_uids:
        await run_in_threadpool(open_to_all, prefab.folder)
    own = Bind(str(prefab.folder), inside=_PREFAB, origin="the prefab's files", private=True)
    binds = [*interpreter_binds(), own]
    async with (
        sandbox.function(
            command(), folder, binds, limits, network=network, gateway=gateway
        ) as function,
        Child(function) as child,
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
                await emit(("progress", progress(data)))
            case _:
                raise RunFailed(
                    "INVALID_OUTPUT", "the function's process said what nobody understands"
                )


def _limits(memory_bytes: int, disk_bytes: int) -> dict[str, int]:
    return {
        "memory": memory_bytes,
        # The supervisor looks now and then; this holds what grows faster. Libraries reserve
        # more than they use, so it is wide.
        "data": 2 * memory_bytes + 1024**3,
        "fsize": disk_bytes,
        "disk": disk_bytes,
        "processes": MOST_PROCESSES,
    }
