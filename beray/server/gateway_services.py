"""Services of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.installation import how_to_install
from beray.sanitize import one_line
from beray.server.objects.local import BUCKET, LocalObjectStore
from beray.server.objects.signing import UrlSigner, load_or_create_secret
from beray.server.objects.store import ObjectStore
from beray.server.objects.temporary import TemporaryObjects
from beray.server.prefabs.run import PrefabServices, running_prefabs
from beray.server.runners.run_token import RunTokens
from beray.server.runtime.sliding_window import SlidingWindow
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.api_keys import ApiKeyRepository
from beray.server.storage.database import Database
from beray.server.storage.database_errors import StorageError
from beray.server.storage.internal_tokens import InternalTokenRepository
from beray.server.storage.objects import ObjectRepository
from beray.server.storage.prefab_authors import PrefabAuthorRepository
from beray.server.storage.prefab_calls import PrefabCallRepository
from beray.server.storage.prefab_secrets import PrefabSecretRepository
from beray.server.storage.temporary_objects import TemporaryObjectRepository

OBJECTS_DIRECTORY: Final = "objects"
SECRET_FILE: Final = "objects.key"
WRONG_KEYS_PER_MINUTE: Final = 30


log = structlog.get_logger("beray.gateway")


class ObjectStoreUnavailable(Exception):
    """The configured object store cannot be used; the message contains the reason."""


@dataclass(frozen=True, kw_only=True)
class GatewayServices:
    """Services of the gateway, which exist as long as the server runs."""

    objects: ObjectStore
    temporary: TemporaryObjects
    tokens: InternalTokenRepository
    api_keys: ApiKeyRepository
    calls: PrefabCallRepository
    prefabs: PrefabServices
    wrong_keys: SlidingWindow
    """Counter of wrong API keys by client address."""


@asynccontextmanager
async def running_gateway(
    *,
    settings: Settings,
    database: Database,
    sandbox: Sandbox,
    tokens: InternalTokenRepository,
    access: RunTokens,
) -> AsyncIterator[GatewayServices]:
    """Start the gateway, and close it at the end of the block.

    Raises:
        OSError, ObjectStoreUnavailable: The configured directories or object store cannot be used.
    """
    async with AsyncExitStack() as closing:
        objects = await run_in_threadpool(_objects, settings, database)
        if isinstance(objects, LocalObjectStore):
            await closing.enter_async_context(_removing_orphans(objects))
        else:
            await closing.enter_async_context(_checking(objects))
        temporary = TemporaryObjects(
            times=TemporaryObjectRepository(database=database), objects=objects
        )
        await closing.enter_async_context(temporary.running())
        prefabs = await closing.enter_async_context(
            running_prefabs(
                settings=settings,
                authors=PrefabAuthorRepository(database=database),
                secrets=PrefabSecretRepository(database=database),
                sandbox=sandbox,
                objects=objects,
                access=access,
            )
        )
        await run_in_threadpool(tokens.delete_of_runs)
        yield GatewayServices(
            objects=objects,
            temporary=temporary,
            tokens=tokens,
            api_keys=ApiKeyRepository(database=database),
            calls=PrefabCallRepository(database=database),
            prefabs=prefabs,
            wrong_keys=SlidingWindow(WRONG_KEYS_PER_MINUTE, 60.0),
        )


def _objects(settings: Settings, database: Database) -> ObjectStore:
    if settings.s3_bucket is None:
        signer = UrlSigner(load_or_create_secret(settings.data_dir / SECRET_FILE), BUCKET)
        return LocalObjectStore(
            folder=settings.data_dir / OBJECTS_DIRECTORY,
            objects=ObjectRepository(database=database),
            signer=signer,
        )
    try:
        from beray.server.objects.s3 import S3ObjectStore
    except ImportError:
        raise ObjectStoreUnavailable(
            f"BERAY_S3_BUCKET is set, but support for S3 is not installed; {how_to_install('s3')}"
        ) from None
    try:
        return S3ObjectStore(settings=settings)
    except ValueError as error:
        raise ObjectStoreUnavailable(f"the BERAY_S3_ settings are invalid: {error}") from None


@asynccontextmanager
async def _checking(objects: ObjectStore) -> AsyncIterator[None]:
    """Check in the background that the S3 bucket can be used, and log the result."""

    async def check() -> None:
        log.info("storing files in S3", bucket=objects.bucket)
        try:
            await objects.list("", "", 1)
        except OSError as error:
            problem = one_line(str(error))
            log.error("cannot use the S3 bucket", bucket=objects.bucket, problem=problem)

    checking = asyncio.create_task(check())
    try:
        yield
    finally:
        checking.cancel()
        await asyncio.wait([checking])


@asynccontextmanager
async def _removing_orphans(objects: LocalObjectStore) -> AsyncIterator[None]:
    """Remove in the background the files that a crashed server has left."""

    async def sweep() -> None:
        try:
            removed = await run_in_threadpool(objects.remove_orphans)
        except (OSError, StorageError) as error:
            log.error("could not remove orphaned files of the object store", exc_info=error)
        else:
            if removed:
                log.info("removed orphaned files of the object store", count=removed)

    sweeping = asyncio.create_task(sweep())
    try:
        yield
    finally:
        objects.close()
        await sweeping
