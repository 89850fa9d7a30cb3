"""What the gateway consists of, as long as the server lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.server.gateway.calls_in import Preparation
from beray.server.gateway.local_objects import BUCKET, LocalObjects
from beray.server.gateway.objects import ObjectStore
from beray.server.gateway.prefab_secrets import PrefabSecrets
from beray.server.gateway.quotas import Quotas
from beray.server.gateway.registry import Registry
from beray.server.gateway.runs import PrefabRuns
from beray.server.gateway.signing import Signer, secret_at
from beray.server.gateway.tokens import ApiKeys, InternalTokens
from beray.server.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.store import Store

OBJECTS_FOLDER: Final = "objects"
PREFABS_FOLDER: Final = "prefabs"
SECRET_FILE: Final = "objects.key"


@dataclass(frozen=True)
class Gateway:
    """Its parts."""

    objects: ObjectStore
    tokens: InternalTokens
    api_keys: ApiKeys
    quotas: Quotas
    registry: Registry
    secrets: PrefabSecrets
    preparation: Preparation
    runs: PrefabRuns
    sandbox: Sandbox


@asynccontextmanager
async def running_gateway(
    settings: Settings, store: Store, sandbox: Sandbox
) -> AsyncIterator[Gateway]:
    """Start the gateway, and close it.

    Raises:
        OSError: the folder of objects, or of prefabs, cannot be used.
    """
    objects = await run_in_threadpool(_local, settings, store)
    registry = Registry(settings.data_dir / PREFABS_FOLDER)
    await run_in_threadpool(registry.load)
    secrets = PrefabSecrets(store, settings.data_dir)
    runs = PrefabRuns(settings, sandbox, objects)
    try:
        yield Gateway(
            objects,
            InternalTokens(store),
            ApiKeys(store),
            Quotas(store),
            registry,
            secrets,
            Preparation(registry, secrets, objects),
            runs,
            sandbox,
        )
    finally:
        await runs.close()


def _local(settings: Settings, store: Store) -> LocalObjects:
    signer = Signer(secret_at(settings.data_dir / SECRET_FILE), BUCKET)
    return LocalObjects(settings.data_dir / OBJECTS_FOLDER, store, signer)
