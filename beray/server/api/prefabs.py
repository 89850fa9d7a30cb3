"""The routes of prefabs: what there is, adding one, and the secrets that they are given."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field, field_validator
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from beray.exceptions import TransferError
from beray.sanitize import is_encodable
from beray.server.accounts.principals import Principal
from beray.server.api.dependencies import AppServices, require_disk_space
from beray.server.api.gateway_auth import CurrentPrincipal
from beray.server.http.gateway_errors import (
    INVALID_INPUT,
    GatewayHTTPError,
    GatewayRoute,
    invalid_input,
)
from beray.server.http.validation_errors import InputProblem
from beray.server.objects import object_files
from beray.server.prefabs import archives, prefab_check, process, registry
from beray.server.prefabs.call_request import prefab_not_found
from beray.server.prefabs.manifest import ManifestError
from beray.server.prefabs.protocol import RunFailed
from beray.server.prefabs.registry import (
    InstalledPrefab,
    NotPrefabAuthor,
    PrefabNotFound,
    VersionConflict,
)
from beray.server.prefabs.secrets import MAX_SECRET_CHARACTERS
from beray.server.services import Services
from beray.server.storage.tables import User
from beray.server.workspace import tree
from beray.server.workspace.ownership import set_owner

ZIP: Final = "application/zip"
IMPORT_SECONDS: Final = 60.0
"""How long the module of a new prefab may take to be imported."""
_CANNOT_ADD: Final = "The prefab cannot be added."

router = APIRouter(prefix="/v1/prefabs", tags=["gateway"], route_class=GatewayRoute)


@router.get("")
async def list_prefabs(
    _caller: CurrentPrincipal,
    app: AppServices,
    status: Annotated[Literal["deployed", "disabled"] | None, Query()] = None,
) -> dict[str, Any]:
    """The newest version of each prefab."""
    found = await run_in_threadpool(app.gateway.prefabs.registry.newest_versions)
    infos = map(_info, found)
    return {"prefabs": [info for info in infos if status in (None, info["status"])]}


def _info(installed: InstalledPrefab) -> dict[str, Any]:
    prefab, functions = installed.manifest.prefab, installed.manifest.functions
    return {
        "prefab_id": prefab.id,
        "version": prefab.version,
        "name": prefab.title,
        "description": prefab.description,
        "status": prefab.status,
        "is_official": installed.is_official,
        "requires_secrets": any(function.secrets for function in functions.values()),
        "functions": list(functions),
    }


@router.get("/{prefab_id}/{version}/spec")
async def spec(
    prefab_id: str, version: str, _caller: CurrentPrincipal, app: AppServices
) -> dict[str, Any]:
    """What a prefab has; ``latest`` is the newest version."""
    try:
        installed = app.gateway.prefabs.registry.find(prefab_id, version)
    except PrefabNotFound as error:
        raise prefab_not_found(prefab_id, version, error) from None
    return app.gateway.prefabs.registry.spec(installed)


@router.post("", status_code=201, response_model=None, dependencies=[Depends(require_disk_space)])
async def add(request: Request, caller: CurrentPrincipal, app: AppServices) -> JSONResponse:
    """Add a prefab: the body is the ZIP of its folder. 200 where that very one is there."""
    user_id = await _require_author(caller, app)
    app.maintenance.require_off()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != ZIP:
        raise GatewayHTTPError(415, "UNSUPPORTED_TYPE", f"Send a ZIP, as {ZIP}.")
    uid = app.gateway.prefabs.sandbox.uid_of(user_id)
    archive = await request.body()
    root = app.gateway.prefabs.registry.root
    async with _folder(root) as place:
        fresh = place / "prefab"
        try:
            await run_in_threadpool(archives.unpack_prefab, archive, fresh)
            prefab = await _inspect(app, fresh, place, uid)
            installed, is_new = await run_in_threadpool(_install, app, prefab, user_id)
        except TransferError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
                raise error.__cause__ from None
            problem = InputProblem((), str(error).replace(str(place), ""))
            raise invalid_input([problem], _CANNOT_ADD) from None
        except ManifestError as error:
            raise invalid_input(error.problems, _CANNOT_ADD) from None
        except VersionConflict as error:
            raise GatewayHTTPError(409, "VERSION_TAKEN", str(error)) from None
        except NotPrefabAuthor:
            said = f"{prefab.id} is somebody else's prefab; give yours another id."
            raise GatewayHTTPError(403, "NOT_THE_AUTHOR", said) from None
    return JSONResponse(app.gateway.prefabs.registry.spec(installed), 201 if is_new else 200)


@asynccontextmanager
async def _folder(root: Path) -> AsyncIterator[Path]:
    """A folder for what arrives, on the file system where it is to be; gone in the end."""
    with object_files.storage_errors():
        place = Path(tempfile.mkdtemp(dir=root, prefix=".new-"))
        try:
            yield place
        finally:
            await asyncio.shield(run_in_threadpool(tree.remove, place))


def _install(app: Services, fresh: InstalledPrefab, user_id: int) -> tuple[InstalledPrefab, bool]:
    """The prefab, and whether it is new: the same content may come again, from anybody."""
    prefabs = app.gateway.prefabs
    if (there := prefabs.registry.find_identical(fresh)) is not None:
        return there, False
    is_there = prefabs.registry.has_added_versions(fresh.id)
    with prefabs.authors.claiming(fresh.id, user_id, is_there=is_there):
        return prefabs.registry.install(fresh.folder)


async def _inspect(app: Services, fresh: Path, place: Path, uid: int | None) -> InstalledPrefab:
    """Prove that the module has what the manifest says; the prefab."""
    prefab = await run_in_threadpool(registry.load_prefab, fresh, False)
    work = place / "work"
    work.mkdir()
    set_owner(work, uid)
    try:
        found = await process.inspect_module(
            app.gateway.prefabs.sandbox, prefab, work, IMPORT_SECONDS
        )
    except RunFailed as failed:
        module = InputProblem(
            (prefab.module_file,), process.strip_server_paths(failed, fresh, work).message
        )
        raise ManifestError([module]) from None
    problems = prefab_check.module_problems(prefab, found)
    if problems:
        raise ManifestError(problems)
    return prefab


# Secrets


class SecretValue(BaseModel):
    value: Annotated[str, Field(min_length=1, max_length=MAX_SECRET_CHARACTERS)]

    @field_validator("value")
    @classmethod
    def _sendable(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("it holds a NUL character")
        if not is_encodable(value):
            raise ValueError("it holds half of a surrogate pair")
        return value


@router.get("/{prefab_id}/secrets")
async def list_secrets(
    prefab_id: str, caller: CurrentPrincipal, app: AppServices
) -> dict[str, list[str]]:
    """The names of the secrets that the caller has given to a prefab."""
    user_id = _person(caller)
    names = await run_in_threadpool(app.gateway.prefabs.secrets.names, user_id, prefab_id)
    return {"secrets": names}


@router.put("/{prefab_id}/secrets/{name}")
async def put_secret(
    prefab_id: str, name: str, body: SecretValue, caller: CurrentPrincipal, app: AppServices
) -> dict[str, str]:
    """Give a prefab a secret. Nobody is told it again."""
    user_id = _person(caller)
    wanted = _wanted(app, prefab_id)
    if name not in wanted:
        known = f"it needs {', '.join(sorted(wanted))}" if wanted else "it needs none"
        raise GatewayHTTPError(422, INVALID_INPUT, f"{prefab_id} needs no such secret: {known}.")
    await run_in_threadpool(app.gateway.prefabs.secrets.put, user_id, prefab_id, name, body.value)
    return {"message": f"{prefab_id} has the secret {name}."}


@router.delete("/{prefab_id}/secrets/{name}")
async def remove_secret(
    prefab_id: str, name: str, caller: CurrentPrincipal, app: AppServices
) -> dict[str, str]:
    """Take a secret away from a prefab."""
    user_id = _person(caller)
    if not await run_in_threadpool(app.gateway.prefabs.secrets.remove, user_id, prefab_id, name):
        raise GatewayHTTPError(404, "NOT_FOUND", "You have given it no such secret.")
    return {"message": f"{prefab_id} has the secret {name} no more."}


def _wanted(app: Services, prefab_id: str) -> set[str]:
    """The secrets that any version of a prefab needs."""
    found = app.gateway.prefabs.registry
    try:
        versions = [found.find(prefab_id, one) for one in found.versions(prefab_id) or ["latest"]]
    except PrefabNotFound as error:
        raise prefab_not_found(prefab_id, None, error) from None
    return {
        secret.name
        for installed in versions
        for function in installed.manifest.functions.values()
        for secret in function.secrets
    }


def _person(caller: Principal) -> int:
    """The user, where it is one who calls: neither an address nor one of his agents."""
    if caller.user_id is None or caller.agent_id is not None:
        raise GatewayHTTPError(403, "FORBIDDEN", "This is for signed-in users, not for agents.")
    return caller.user_id


async def _require_author(caller: Principal, app: Services) -> int:
    """The user, who may add prefabs."""
    user_id = _person(caller)

    def email() -> str:
        with app.store.reading() as session:
            user = session.get(User, user_id)
            return user.email if user is not None else ""

    if not app.settings.may_add_prefabs(await run_in_threadpool(email)):
        raise GatewayHTTPError(
            403, "FORBIDDEN", "You may not add prefabs here; the owner sets BERAY_PREFAB_AUTHORS."
        )
    return user_id
