"""Execution of prefab calls, from their input files to their stored outputs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.accounts.principals import Principal
from beray.server.http.gateway_errors import GatewayHTTPError
from beray.server.objects import object_files
from beray.server.objects.store import ObjectStore
from beray.server.prefabs import json_schema, process, run_files
from beray.server.prefabs.call_request import CallPreparer, PreparedCall
from beray.server.prefabs.process import INPUTS, OUTPUTS, FunctionCall
from beray.server.prefabs.protocol import Emit, RunFailed, StreamItem
from beray.server.prefabs.registry import PrefabAuthors, PrefabRegistry
from beray.server.prefabs.scheduler import QUEUED_ITEMS, CallScheduler
from beray.server.prefabs.secrets import PrefabSecrets
from beray.server.runners.base import GatewayAccess
from beray.server.runners.run_token import RunTokens
from beray.server.runtime.fair_queue import QUEUE_RETRY_SECONDS, FairSlots, QueueFull
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.prefab_authors import PrefabAuthorRepository
from beray.server.storage.prefab_secrets import PrefabSecretRepository
from beray.server.tasks.redaction import SecretRedactor
from beray.server.workspace import tree
from beray.server.workspace.disk_quota import DiskQuota, DiskQuotaExceeded
from beray.server.workspace.disk_usage import DiskLimits
from beray.server.workspace.ownership import chown_tree

FOLDER: Final = "prefabs"
"""Name of the directory of added prefabs in the server's data directory."""

log = structlog.get_logger("beray.prefabs")

CallResult = dict[str, Any]
"""Result of one call on the wire: ``status``, ``output`` and ``error``."""


class PrefabRuns:
    """Calls that are running. Used on one event loop, until ``close``."""

    def __init__(
        self, *, settings: Settings, sandbox: Sandbox, objects: ObjectStore, access: RunTokens
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._objects = objects
        waiting = settings.queued_per_user
        slots = FairSlots(
            settings.prefab_slots,
            settings.prefab_slots_per_user,
            subject_waiting=waiting,
            item_noun=QUEUED_ITEMS,
        )
        self._scheduler = CallScheduler(access=access, slots=slots, waiting=waiting)
        self._running: set[asyncio.Task[CallResult]] = set()
        self._scratch = settings.data_dir / "scratch"
        self.is_closed = False

    @property
    def idle(self) -> bool:
        """True if no call is running."""
        return not self._running

    def require_place(self, caller: Principal, calls: int) -> None:
        """Check that ``calls`` more calls of ``caller`` may wait for a slot.

        Raises:
            GatewayHTTPError: The queue of the caller is full (429).
        """
        try:
            self._scheduler.slots_of(caller).require_place(caller.subject, calls)
        except QueueFull as full:
            raise GatewayHTTPError(
                429,
                "QUEUE_FULL",
                str(full),
                headers={"Retry-After": str(QUEUE_RETRY_SECONDS)},
                limit=full.limit,
            ) from None

    def start(
        self, caller: Principal, call: PreparedCall, job: str, emit: Emit | None = None
    ) -> asyncio.Task[CallResult]:
        """Start a call and return the task, whose result is that of the call.

        The task does not raise if the call fails. When it is cancelled, it ends all processes
        of the call.

        Args:
            caller: Principal of the call.
            call: Validated call.
            job: Part of the keys of the stored outputs.
            emit: Receives the items of a streaming function. Without it, they are collected in
                the result's ``output``.
        """
        slots = self._scheduler.slots_of(caller)
        task = asyncio.create_task(self._result(slots, caller, call, job, emit))
        if self.is_closed:
            task.cancel()
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        slots.count(caller.subject, task)
        return task

    async def close(self) -> None:
        """Cancel all calls and wait for their end. Idempotent."""
        self.is_closed = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    async def _result(
        self, slots: FairSlots, caller: Principal, call: PreparedCall, job: str, emit: Emit | None
    ) -> CallResult:
        redactor = SecretRedactor(call.secrets.values())
        content: list[Any] = []

        async def relay(item: StreamItem) -> None:
            # Once the run has a token, the redactor removes it, too.
            kind, data = item
            redacted = redactor.redact(data)
            if emit is not None:
                await emit((kind, redacted))
            elif kind == "content":
                content.append(redacted)

        try:
            async with (
                slots.slot(caller.subject),
                self._folder() as folder,
                self._scheduler.access(caller, call) as access,
            ):
                if access is not None:
                    redactor = SecretRedactor([*call.secrets.values(), access.token])
                output = await self._run(caller, call, job, folder, relay, redactor, access)
        except RunFailed as failed:
            result = _failed(failed, redactor)
            if failed.traceback:
                # A defect of the function; invalid input (INVALID_INPUT) has no traceback.
                log.error(
                    "a function of a prefab raised an exception",
                    prefab=call.prefab.id, function=call.name, **result["error"],
                )  # fmt: skip
            return result
        except OSError as error:
            log.error("a call could not be run", prefab=call.prefab.id, exc_info=error)
            reason = f"the server could not run it: {error.strerror or type(error).__name__}"
            return _failed(RunFailed("CRASHED", reason), redactor)
        if call.function.streaming and emit is None:
            output["content"] = content
        return {"status": "SUCCESS", "output": output, "error": None}

    async def _run(
        self,
        caller: Principal,
        call: PreparedCall,
        job: str,
        folder: Path,
        emit: Emit,
        redactor: SecretRedactor,
        access: GatewayAccess | None,
    ) -> dict[str, Any]:
        max_bytes = self._settings.prefab_disk_bytes
        with _storage_errors():
            names = await run_files.download_inputs(
                self._objects, caller, call.keys, folder, max_bytes
            )
        if (uid := self._sandbox.uid_of(caller.user_id)) is not None:
            await run_in_threadpool(chown_tree, folder, uid)
        function_call = FunctionCall(
            call.prefab, call.name, call.parameters, folder, names, max_bytes,
            self._settings.task_max_memory_bytes, call.secrets, access.relay if access else None,
        )  # fmt: skip
        try:
            calling = process.call_function(self._sandbox, function_call, emit)
            returned = await self._call_within_quota(calling, folder, max_bytes)
        except RunFailed as failed:
            raise process.strip_server_paths(failed, folder, call.prefab.folder) from None
        returned = {} if returned is None else returned
        await run_in_threadpool(_check_returned, call, returned)
        files = await run_in_threadpool(run_files.collect_outputs, folder, call.function, max_bytes)
        if any(redactor.redact(file.name) != file.name for file in files):
            raise RunFailed("INVALID_OUTPUT", "the name of an output file contains a secret")
        with _storage_errors():
            urls = await run_files.store_outputs(self._objects, caller, job, files)
        return {"status": "SUCCESS", "output": redactor.redact(returned), "files": urls}

    async def _call_within_quota(
        self, call: Coroutine[Any, Any, Any], folder: Path, max_bytes: int
    ) -> Any:
        """Return the result of ``call``, which is cancelled if it exceeds the disk quota."""
        limits = DiskLimits(max_bytes, self._settings.work_dir_files)
        calling = asyncio.ensure_future(call)
        guard = asyncio.ensure_future(
            DiskQuota(folder, limits, lambda: self._sandbox.scratch_of(folder)).enforce()
        )
        try:
            await asyncio.wait([calling, guard], return_when=asyncio.FIRST_COMPLETED)
            if guard.done() and not calling.done():
                guard.result()
            return await calling
        except DiskQuotaExceeded as error:
            reason = f"the function wrote {error}"
            raise RunFailed("OUTPUT_TOO_LARGE", reason) from None
        finally:
            calling.cancel()
            guard.cancel()
            await asyncio.wait([calling, guard])

    @asynccontextmanager
    async def _folder(self) -> AsyncIterator[Path]:
        """Create a directory for one call, and remove it at the end of the block."""
        folder = self._scratch / f"run-{uuid.uuid4().hex}"
        # A cancellation does not stop the thread that creates the directory.
        creating = asyncio.ensure_future(run_in_threadpool(_create, folder))
        try:
            await asyncio.shield(creating)
            yield folder
        finally:
            await asyncio.shield(_remove_when_created(creating, folder))


def cancelled_result() -> CallResult:
    """Return the result of a call that the server cancelled."""
    reason = "the call was cancelled: the server is stopping"
    return _failed(RunFailed("CANCELLED", reason), SecretRedactor(()))


def rejected_result(detail: dict[str, Any]) -> CallResult:
    """Return the result of a rejected call of a batch.

    Args:
        detail: Detail of the error response to the call on its own.
    """
    error = {"code": detail["error_code"], "message": detail["message"]}
    fields = {name: value for name, value in detail.items() if name != "error_code"}
    return {"status": "FAILED", "output": None, "error": error | fields}


@contextmanager
def _storage_errors() -> Iterator[None]:
    """Convert failures of the object store to ``RunFailed``."""
    try:
        with object_files.storage_errors():
            yield
    except GatewayHTTPError as error:
        raise RunFailed(error.detail["error_code"], error.detail["message"]) from None


def _failed(failed: RunFailed, redactor: SecretRedactor) -> CallResult:
    error = {"code": failed.code, "message": redactor.redact(failed.message)}
    if failed.traceback:
        error["traceback"] = redactor.redact(failed.traceback)
    return {"status": "FAILED", "output": None, "error": error}


def _check_returned(call: PreparedCall, returned: object) -> None:
    if not isinstance(returned, dict):
        kind = type(returned).__name__
        reason = f"the function must return a dict, got {kind}"
        raise RunFailed("INVALID_OUTPUT", reason)
    if call.function.returns is None:
        return
    problems = json_schema.value_problems(call.function.returns, returned)
    if problems:
        reasons = "; ".join(map(str, problems[:5]))
        reason = f"the function's result does not match its schema: {reasons}"
        raise RunFailed("INVALID_OUTPUT", reason)


def _create(folder: Path) -> None:
    for name in (INPUTS, OUTPUTS):
        (folder / name).mkdir(mode=0o700, parents=True)


async def _remove_when_created(creating: asyncio.Future[None], folder: Path) -> None:
    await asyncio.wait([creating])
    await run_in_threadpool(_remove, folder)


def _remove(folder: Path) -> None:
    try:
        tree.remove(folder)
    except OSError as error:
        log.error("the directory of a call was not removed", folder=folder.name, exc_info=error)


# Composition


@dataclass(frozen=True, kw_only=True)
class PrefabServices:
    """Services of a server for prefabs."""

    registry: PrefabRegistry
    authors: PrefabAuthors
    secrets: PrefabSecrets
    preparer: CallPreparer
    runs: PrefabRuns
    sandbox: Sandbox


@asynccontextmanager
async def running_prefabs(
    *,
    settings: Settings,
    authors: PrefabAuthorRepository,
    secrets: PrefabSecretRepository,
    sandbox: Sandbox,
    objects: ObjectStore,
    access: RunTokens,
) -> AsyncIterator[PrefabServices]:
    """Load the prefabs and provide their services; cancel running calls at the end.

    Raises:
        OSError: The directory of prefabs cannot be created or read.
    """
    registry = PrefabRegistry(settings.data_dir / FOLDER)
    await run_in_threadpool(registry.load)
    if sandbox.has_own_uids and (paths := process.unreadable_paths()):
        log.warning(
            "functions of prefabs cannot run: their uids may not read the Python installation; "
            "allow it with chmod -R o+rX",
            paths=paths,
        )
    decrypted = PrefabSecrets(secrets=secrets, data_dir=settings.data_dir)
    runs = PrefabRuns(settings=settings, sandbox=sandbox, objects=objects, access=access)
    try:
        yield PrefabServices(
            registry=registry,
            authors=PrefabAuthors(authors=authors),
            secrets=decrypted,
            preparer=CallPreparer(registry=registry, secrets=decrypted, objects=objects),
            runs=runs,
            sandbox=sandbox,
        )
    finally:
        await runs.close()
