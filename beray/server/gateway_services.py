"""What the gateway consists of, as long as the server lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from beray.installation import how_to_install
from beray.sanitize import one_line
from beray.server.objects.local import BUCKET, LocalObjectStore
from beray.server.objects.signing import UrlSigner, load_or_create_secret
from beray.server.objects.store import ObjectStore
from beray.server.objects.temporary import TemporaryObjects
from beray.server.prefabs.run import PrefabServices, running_prefabs
from beray.server.prefabs.scheduler import DailyCallQuota
from beray.server.runners.run_token import RunTokens
from beray.server.runtime.sliding_window import SlidingWindow
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.store import Store
from beray.server.storage.tokens import ApiKeyStore, InternalTokenStore

OBJECTS_DIRECTORY: Final = "objects"
SECRET_FILE: Final = "objects.key"
WRONG_KEYS_PER_MINUTE: Final = 30


log = structlog.get_logger("beray.gateway")


class ObjectStoreUnavailable(Exception):
    """The store that the settings name cannot be used; the text says why."""


@dataclass(frozen=True)
class GatewayServices:
    """Its parts."""

    objects: ObjectStore
    temporary: TemporaryObjects
    tokens: InternalTokenStore
    api_keys: ApiKeyStore
    quotas: DailyCallQuota
    prefabs: PrefabServices
    wrong_keys: SlidingWindow
    """Wrong API keys by client address."""


@asynccontextmanager
async def running_gateway(
    settings: Settings,
    store: Store,
    sandbox: Sandbox,
    tokens: InternalTokenStore,
    access: RunTokens,
) -> AsyncIterator[GatewayServices]:
    """Start the gateway, and close it.

    Raises:
        OSError, ObjectStoreUnavailable: objects or prefabs cannot be kept where they should be.
    """
    async with AsyncExitStack() as closing:
        objects = await run_in_threadpool(_objects, settings, store)
        if isinstance(objects, LocalObjectStore):
            await closing.enter_async_context(_swept(objects))
        else:
            await closing.enter_async_context(_looked_at(objects))
        temporary = TemporaryObjects(store, objects)
        await closing.enter_async_context(temporary.running())
        prefabs = await closing.enter_async_context(
            running_prefabs(settings, store, sandbox, objects, access)
        )
        keys, quotas = ApiKeyStore(store), DailyCallQuota(store)
        await run_in_threadpool(tokens.end_runs)
        wrong_keys = SlidingWindow(WRONG_KEYS_PER_MINUTE, 60.0)
        yield GatewayServices(objects, temporary, tokens, keys, quotas, prefabs, wrong_keys)


def _objects(settings: Settings, store: Store) -> ObjectStore:
    if settings.s3_bucket is None:
        signer = UrlSigner(load_or_create_secret(settings.data_dir / SECRET_FILE), BUCKET)
        return LocalObjectStore(settings.data_dir / OBJECTS_DIRECTORY, store, signer)
    try:
        from beray.server.objects.s3 import S3ObjectStore
    except ImportError:
        raise ObjectStoreUnavailable(
            f"BERAY_S3_BUCKET is set, and S3 is not installed; {how_to_install('s3')}"
        ) from None
    try:
        return S3ObjectStore(settings)
    except ValueError as error:
        raise ObjectStoreUnavailable(f"the BERAY_S3_ settings cannot be used: {error}") from None


@asynccontextmanager
async def _looked_at(objects: ObjectStore) -> AsyncIterator[None]:
    """Tell the owner, beside everything else, where files are kept and whether they can be."""

    async def look() -> None:
        log.info("files are kept in S3", bucket=objects.bucket)
        try:
            await objects.list("", "", 1)
        except OSError as error:
            problem = one_line(str(error))
            log.error("the S3 store cannot be used", bucket=objects.bucket, problem=problem)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait([looking])


@asynccontextmanager
async def _swept(objects: LocalObjectStore) -> AsyncIterator[None]:
    """Remove what a crash has left, beside everything else."""

    async def sweep() -> None:
        try:
            removed = await run_in_threadpool(objects.remove_orphans)
        except (OSError, SQLAlchemyError) as error:
            log.error("the folder of objects cannot be swept", exc_info=error)
        else:
            if removed:
                log.info("files that are no objects were removed", count=removed)

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        objects.close()
        await sweeping
