"""Runs: one call each, from its input files to its stored outputs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.accounts.principals import Principal
from beray.server.accounts.run_token import RunTokens
from beray.server.http.gateway_errors import GatewayHTTPError
from beray.server.objects import object_files
from beray.server.objects.store import ObjectStore
from beray.server.prefabs import json_schema, process, run_files
from beray.server.prefabs.call_request import Prepared
from beray.server.prefabs.nesting import WHAT, Nesting
from beray.server.prefabs.process import INPUTS, OUTPUTS, Order
from beray.server.prefabs.protocol import Emit, Piece, RunFailed
from beray.server.runners.base import GatewayAccess
from beray.server.runtime.fair_queue import QUEUE_RETRY_SECONDS, FairSlots, QueueFull
from beray.server.sandbox.ownership import give_tree
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.tasks.redaction import Cutter
from beray.server.workspace import tree
from beray.server.workspace.disk_quota import DiskSpace, OverQuota
from beray.server.workspace.disk_usage import DiskLimits

log = structlog.get_logger("beray.prefabs")

Result = dict[str, Any]
"""Of one call, as the wire has it: ``status``, ``output``, ``error``."""


class PrefabRuns:
    """Used on one event loop, until ``close``."""

    def __init__(
        self, settings: Settings, sandbox: Sandbox, objects: ObjectStore, access: RunTokens
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._objects = objects
        waiting = settings.queued_per_user
        slots = FairSlots(
            settings.prefab_slots,
            settings.prefab_slots_per_user,
            subject_waiting=waiting,
            item_noun=WHAT,
        )
        self._nesting = Nesting(access, slots, waiting)
        self._running: set[asyncio.Task[Result]] = set()
        self._scratch = settings.data_dir / "scratch"
        self.is_closed = False

    @property
    def idle(self) -> bool:
        return not self._running

    def require_place(self, caller: Principal, calls: int) -> None:
        """Check that so many more calls of ``caller`` may wait.

        Raises:
            GatewayHTTPError: they may not (429).
        """
        try:
            self._nesting.slots_of(caller).require_place(caller.subject, calls)
        except QueueFull as full:
            raise GatewayHTTPError(
                429,
                "QUEUE_FULL",
                str(full),
                headers={"Retry-After": str(QUEUE_RETRY_SECONDS)},
                limit=full.limit,
            ) from None

    def begin(
        self, caller: Principal, call: Prepared, job: str, emit: Emit | None = None
    ) -> asyncio.Task[Result]:
        """Begin a call; what comes of it is the task's result, whatever it is.

        Cancelled, the task leaves no process behind.

        Args:
            job: what its outputs are kept under.
            emit: is given the pieces of a function that streams; without it, they are
                gathered in the result's ``output``.
        """
        slots = self._nesting.slots_of(caller)
        task = asyncio.create_task(self._result(slots, caller, call, job, emit))
        if self.is_closed:
            task.cancel()
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        slots.count(caller.subject, task)
        return task

    async def close(self) -> None:
        """End all calls, and wait for their end. Idempotent."""
        self.is_closed = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    async def _result(
        self, slots: FairSlots, caller: Principal, call: Prepared, job: str, emit: Emit | None
    ) -> Result:
        cutter = Cutter(call.secrets.values())
        content: list[Any] = []

        async def take(piece: Piece) -> None:
            # The cutter has the token of the run, too, once there is one.
            kind, data = piece
            cleaned = cutter.clean(data)
            if emit is not None:
                await emit((kind, cleaned))
            elif kind == "content":
                content.append(cleaned)

        try:
            async with (
                slots.slot(caller.subject),
                self._folder() as folder,
                self._nesting.access(caller, call) as access,
            ):
                if access is not None:
                    cutter = Cutter([*call.secrets.values(), access.token])
                output = await self._run(caller, call, job, folder, take, cutter, access)
        except RunFailed as failed:
            result = _failed(failed, cutter)
            if failed.traceback:
                # A defect of the function. Wrong input (INVALID_INPUT) has no traceback.
                log.error(
                    "a function of a prefab raised an exception",
                    prefab=call.prefab.id, function=call.name, **result["error"],
                )  # fmt: skip
            return result
        except OSError as error:
            log.error("a call could not be run", prefab=call.prefab.id, exc_info=error)
            said = f"the server could not run it: {error.strerror or type(error).__name__}"
            return _failed(RunFailed("CRASHED", said), cutter)
        if call.function.streaming and emit is None:
            output["content"] = content
        return {"status": "SUCCESS", "output": output, "error": None}

    async def _run(
        self,
        caller: Principal,
        call: Prepared,
        job: str,
        folder: Path,
        emit: Emit,
        cutter: Cutter,
        access: GatewayAccess | None,
    ) -> dict[str, Any]:
        most = self._settings.prefab_disk_bytes
        with _storing():
            names = await run_files.fetched(self._objects, caller, call.keys, folder, most)
        if (uid := self._sandbox.uid_of(caller.user_id)) is not None:
            await run_in_threadpool(give_tree, folder, uid)
        order = Order(
            call.prefab, call.name, call.parameters, folder, names, most,
            self._settings.task_max_memory_bytes, call.secrets, access.relay if access else None,
        )  # fmt: skip
        try:
            called = process.called(self._sandbox, order, emit)
            returned = await self._bounded(called, folder, most)
        except RunFailed as failed:
            raise process.shortened(failed, folder, call.prefab.folder) from None
        returned = {} if returned is None else returned
        await run_in_threadpool(_require_fit, call, returned)
        files = await run_in_threadpool(run_files.made, folder, call.function, most)
        if any(cutter.clean(file.name) != file.name for file in files):
            raise RunFailed("INVALID_OUTPUT", "the name of an output file holds a secret")
        with _storing():
            urls = await run_files.stored(self._objects, caller, job, files)
        return {"status": "SUCCESS", "output": cutter.clean(returned), "files": urls}

    async def _bounded(self, called: Coroutine[Any, Any, Any], folder: Path, most: int) -> Any:
        """Call, with an eye on how much is written."""
        limits = DiskLimits(most, self._settings.work_dir_files)
        calling = asyncio.ensure_future(called)
        guard = asyncio.ensure_future(
            DiskSpace(folder, limits, lambda: self._sandbox.scratch_of(folder)).enforce()
        )
        try:
            await asyncio.wait([calling, guard], return_when=asyncio.FIRST_COMPLETED)
            if guard.done() and not calling.done():
                guard.result()
            return await calling
        except OverQuota as error:
            said = f"the function has written {error}"
            raise RunFailed("OUTPUT_TOO_LARGE", said) from None
        finally:
            calling.cancel()
            guard.cancel()
            await asyncio.wait([calling, guard])

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        """A folder for one call, gone in the end."""
        folder = self._scratch / f"run-{uuid.uuid4().hex}"
        # Whoever leaves meanwhile does not keep a thread from making it.
        making = asyncio.ensure_future(run_in_threadpool(_make, folder))
        try:
            await asyncio.shield(making)
            yield folder
        finally:
            await asyncio.shield(_removed(making, folder))


def cancelled() -> Result:
    """The result of a call that the server has ended."""
    why = "the call was ended: the server is stopping"
    return _failed(RunFailed("CANCELLED", why), Cutter(()))


def refused(detail: dict[str, Any]) -> Result:
    """The result of a call that cannot begin, among others that can."""
    told = {"code": detail["error_code"], "message": detail["message"]}
    further = {name: value for name, value in detail.items() if name != "error_code"}
    return {"status": "FAILED", "output": None, "error": told | further}


@contextmanager
def _storing() -> Iterator[None]:
    """What the store's trouble makes of a call; raises RunFailed."""
    try:
        with object_files.storing():
            yield
    except GatewayHTTPError as trouble:
        raise RunFailed(trouble.detail["error_code"], trouble.detail["message"]) from None


def _failed(failed: RunFailed, cutter: Cutter) -> Result:
    error = {"code": failed.code, "message": cutter.clean(failed.message)}
    if failed.traceback:
        error["traceback"] = cutter.clean(failed.traceback)
    return {"status": "FAILED", "output": None, "error": error}


def _require_fit(call: Prepared, returned: object) -> None:
    if not isinstance(returned, dict):
        kind = type(returned).__name__
        raise RunFailed("INVALID_OUTPUT", f"the function returned {kind}, no dict")
    if call.function.returns is None:
        return
    problems = json_schema.value_problems(call.function.returns, returned)
    if problems:
        said = "; ".join(map(str, problems[:5]))
        raise RunFailed("INVALID_OUTPUT", f"what the function returned does not fit: {said}")


def _make(folder: Path) -> None:
    for name in (INPUTS, OUTPUTS):
        (folder / name).mkdir(mode=0o700, parents=True)


async def _removed(making: asyncio.Future[None], folder: Path) -> None:
    await asyncio.wait([making])
    await run_in_threadpool(_remove, folder)


def _remove(folder: Path) -> None:
    try:
        tree.remove(folder)
    except OSError as error:
        log.error("the folder of a call is left over", folder=folder.name, exc_info=error)
