"""What runs prefabs, as long as the server lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.server.accounts.run_token import RunTokens
from beray.server.objects.store import ObjectStore
from beray.server.prefabs import process
from beray.server.prefabs.call_request import Preparation
from beray.server.prefabs.ownership import Authors
from beray.server.prefabs.registry import Registry
from beray.server.prefabs.run import PrefabRuns
from beray.server.prefabs.secrets import PrefabSecrets
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.store import Store

FOLDER: Final = "prefabs"

log = structlog.get_logger("beray.prefabs")


@dataclass(frozen=True)
class Prefabs:
    """Its parts."""

    registry: Registry
    authors: Authors
    secrets: PrefabSecrets
    preparation: Preparation
    runs: PrefabRuns
    sandbox: Sandbox


@asynccontextmanager
async def running_prefabs(
    settings: Settings, store: Store, sandbox: Sandbox, objects: ObjectStore, access: RunTokens
) -> AsyncIterator[Prefabs]:
    """Look what prefabs there are; end what runs on leaving.

    Raises:
        OSError: the folder of prefabs cannot be used.
    """
    registry = Registry(settings.data_dir / FOLDER)
    await run_in_threadpool(registry.load)
    if sandbox.has_own_uids and (paths := process.unreadable()):
        log.warning(
            "functions of prefabs cannot run: their uids may not read the Python installation; "
            "allow it with chmod -R o+rX",
            paths=paths,
        )
    secrets = PrefabSecrets(store, settings.data_dir)
    runs = PrefabRuns(settings, sandbox, objects, access)
    try:
        preparation = Preparation(registry, secrets, objects)
        yield Prefabs(registry, Authors(store), secrets, preparation, runs, sandbox)
    finally:
        await runs.close()
