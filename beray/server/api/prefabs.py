"""Routes of prefabs: list, specification, upload and secrets."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field, field_validator
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from beray.exceptions import TransferError
from beray.sanitize import is_encodable
from beray.server.accounts.principals import Principal
from beray.server.api.dependencies import (
    AppServices,
    require_disk_space,
)
from beray.server.api.error_statuses import GATEWAY_CALLER, error_statuses
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
from beray.server.workspace import tree
from beray.server.workspace.ownership import set_owner

ZIP: Final = "application/zip"
IMPORT_SECONDS: Final = 60.0
"""Time limit for the import of a new prefab's module."""
_CANNOT_ADD: Final = "The prefab cannot be added."
_PREFAB: Final = {404: "`PREFAB_NOT_FOUND`: the prefab or the version does not exist."}
_USER_ONLY: Final = {
    **GATEWAY_CALLER,
    403: "`FORBIDDEN`: the caller is not a signed-in user.",
}

router = APIRouter(prefix="/v1/prefabs", tags=["gateway"], route_class=GatewayRoute)

PrefabId = Annotated[str, PathParameter(description="Id of the prefab.")]
SecretName = Annotated[str, PathParameter(description="Name of the secret.")]


@router.get("", responses=error_statuses(GATEWAY_CALLER))
async def list_prefabs(
    _caller: CurrentPrincipal,
    app: AppServices,
    status: Annotated[
        Literal["deployed", "disabled"] | None,
        Query(description="Status of the prefabs to list; null: all."),
    ] = None,
) -> dict[str, Any]:
    """List the newest version of each prefab. BeRay extension."""
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


@router.get("/{prefab_id}/{version}/spec", responses=error_statuses({**GATEWAY_CALLER, **_PREFAB}))
async def spec(
    prefab_id: PrefabId,
    version: Annotated[str, PathParameter(description="Version of the prefab, or `latest`.")],
    _caller: CurrentPrincipal,
    app: AppServices,
) -> dict[str, Any]:
    """Return the specification of a prefab; the version `latest` is the newest one.

    BeRay extension.
    """
    try:
        installed = app.gateway.prefabs.registry.find(prefab_id, version)
    except PrefabNotFound as error:
        raise prefab_not_found(prefab_id, version, error) from None
    return app.gateway.prefabs.registry.spec(installed)


@router.post(
    "",
    status_code=201,
    response_model=None,
    dependencies=[Depends(require_disk_space)],
    responses=error_statuses(
        {
            **GATEWAY_CALLER,
            403: "`FORBIDDEN`, `NOT_THE_AUTHOR`: the user may not add this prefab.",
            409: "`VERSION_TAKEN`: the version exists with other content.",
            422: "`INVALID_INPUT`: the archive or the manifest is invalid.",
            503: "`NO_SANDBOX_UID`: `BERAY_SANDBOX_UIDS` has no uid for the user.",
        }
    ),
)
async def add(request: Request, caller: CurrentPrincipal, app: AppServices) -> JSONResponse:
    """Add a prefab, given as the ZIP archive of its directory. BeRay extension.

    201 if it was added, 200 if the same version with the same content already exists.
    """
    user_id = await _require_author(caller, app)
    app.maintenance.require_off()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != ZIP:
        raise GatewayHTTPError(
            415,
            "UNSUPPORTED_TYPE",
            f"Content-Type {kind[:100]!r} is not supported. Send a ZIP archive as {ZIP}.",
        )
    uid = app.gateway.prefabs.sandbox.uid_of(user_id)
    archive = await request.body()
    root = app.gateway.prefabs.registry.root
    async with _temporary_directory(root) as directory:
        unpacked = directory / "prefab"
        try:
            await run_in_threadpool(archives.unpack_prefab, archive, unpacked)
            prefab = await _inspect(app, unpacked, directory, uid)
            installed, is_new = await run_in_threadpool(_install, app, prefab, user_id)
        except TransferError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
                raise error.__cause__ from None
            problem = InputProblem((), str(error).replace(str(directory), ""))
            raise invalid_input([problem], _CANNOT_ADD) from None
        except ManifestError as error:
            raise invalid_input(error.problems, _CANNOT_ADD) from None
        except VersionConflict as error:
            raise GatewayHTTPError(409, "VERSION_TAKEN", str(error)) from None
        except NotPrefabAuthor:
            message = f"Prefab {prefab.id} belongs to another user. Give yours another id."
            raise GatewayHTTPError(403, "NOT_THE_AUTHOR", message) from None
    return JSONResponse(app.gateway.prefabs.registry.spec(installed), 201 if is_new else 200)


@asynccontextmanager
async def _temporary_directory(root: Path) -> AsyncIterator[Path]:
    """Create a directory on the file system of the installed prefabs; remove it at the end."""
    with object_files.storage_errors():
        directory = Path(tempfile.mkdtemp(dir=root, prefix=".new-"))
        try:
            yield directory
        finally:
            await asyncio.shield(run_in_threadpool(tree.remove, directory))


def _install(
    app: Services, unpacked: InstalledPrefab, user_id: int
) -> tuple[InstalledPrefab, bool]:
    """Install a prefab; return it, and False if the same version and content already exist.

    Every user may upload an existing version with the same content again.
    """
    prefabs = app.gateway.prefabs
    if (existing := prefabs.registry.find_identical(unpacked)) is not None:
        return existing, False
    is_there = prefabs.registry.has_added_versions(unpacked.id)
    with prefabs.authors.claiming(unpacked.id, user_id, is_there=is_there):
        return prefabs.registry.install(unpacked.folder)


async def _inspect(
    app: Services, unpacked: Path, directory: Path, uid: int | None
) -> InstalledPrefab:
    """Check that the module of an unpacked prefab matches its manifest; return the prefab.

    Raises:
        ManifestError: The manifest is invalid, the module cannot be imported, or they differ.
    """
    prefab = await run_in_threadpool(registry.load_prefab, unpacked, False)
    work = directory / "work"
    work.mkdir()
    set_owner(work, uid)
    try:
        found = await process.inspect_module(
            app.gateway.prefabs.sandbox, prefab, work, IMPORT_SECONDS
        )
    except RunFailed as failed:
        module = InputProblem(
            (prefab.module_file,), process.strip_server_paths(failed, unpacked, work).message
        )
        raise ManifestError([module]) from None
    problems = prefab_check.module_problems(prefab, found)
    if problems:
        raise ManifestError(problems)
    return prefab


# Secrets


class SecretRequest(BaseModel):
    """Body of a request that sets a secret."""

    value: Annotated[str, Field(min_length=1, max_length=MAX_SECRET_CHARACTERS)]

    @field_validator("value")
    @classmethod
    def _check_value(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("must not contain NUL characters")
        if not is_encodable(value):
            raise ValueError("must not contain half of a surrogate pair")
        return value


@router.get("/{prefab_id}/secrets", responses=error_statuses(_USER_ONLY))
async def list_secrets(
    prefab_id: PrefabId, caller: CurrentPrincipal, app: AppServices
) -> dict[str, list[str]]:
    """Return the names of the secrets that the user has set for a prefab. BeRay extension."""
    user_id = _require_user(caller)
    names = await run_in_threadpool(app.gateway.prefabs.secrets.names, user_id, prefab_id)
    return {"secrets": names}


@router.put(
    "/{prefab_id}/secrets/{name}",
    responses=error_statuses(
        {
            **_USER_ONLY,
            **_PREFAB,
            422: "`INVALID_INPUT`: the prefab does not use this secret, or the value is invalid.",
        }
    ),
)
async def put_secret(
    prefab_id: PrefabId,
    name: SecretName,
    body: SecretRequest,
    caller: CurrentPrincipal,
    app: AppServices,
) -> dict[str, str]:
    """Set a secret of a prefab. It cannot be read back. BeRay extension."""
    user_id = _require_user(caller)
    required = _required_secrets(app, prefab_id)
    if name not in required:
        known = f"it requires {', '.join(sorted(required))}" if required else "it requires none"
        raise GatewayHTTPError(
            422, INVALID_INPUT, f"{prefab_id} does not use a secret {name[:100]!r}: {known}."
        )
    await run_in_threadpool(app.gateway.prefabs.secrets.put, user_id, prefab_id, name, body.value)
    return {"message": f"The secret {name} of {prefab_id} was set."}


@router.delete(
    "/{prefab_id}/secrets/{name}",
    responses=error_statuses({**_USER_ONLY, 404: "`NOT_FOUND`: the secret is not set."}),
)
async def remove_secret(
    prefab_id: PrefabId, name: SecretName, caller: CurrentPrincipal, app: AppServices
) -> dict[str, str]:
    """Delete a secret of a prefab. BeRay extension."""
    user_id = _require_user(caller)
    if not await run_in_threadpool(app.gateway.prefabs.secrets.remove, user_id, prefab_id, name):
        raise GatewayHTTPError(
            404, "NOT_FOUND", f"You have not set a secret {name[:100]!r} for {prefab_id[:100]!r}."
        )
    return {"message": f"The secret {name} of {prefab_id} was deleted."}


def _required_secrets(app: Services, prefab_id: str) -> set[str]:
    """Return the names of the secrets that any version of a prefab requires."""
    prefabs = app.gateway.prefabs.registry
    try:
        # The lookup of "latest" raises for an unknown prefab.
        names = prefabs.versions(prefab_id) or ["latest"]
        versions = [prefabs.find(prefab_id, version) for version in names]
    except PrefabNotFound as error:
        raise prefab_not_found(prefab_id, None, error) from None
    return {
        secret.name
        for installed in versions
        for function in installed.manifest.functions.values()
        for secret in function.secrets
    }


def _require_user(caller: Principal) -> int:
    """Return the user's id.

    Raises:
        GatewayHTTPError: 403, the principal is an agent or an anonymous client.
    """
    if caller.user_id is None or caller.agent_id is not None:
        raise GatewayHTTPError(
            403, "FORBIDDEN", "Only signed-in users can use this route, not agents. Sign in first."
        )
    return caller.user_id


async def _require_author(caller: Principal, app: Services) -> int:
    """Return the user's id.

    Raises:
        GatewayHTTPError: 403, the principal may not add prefabs.
    """
    user_id = _require_user(caller)

    user = await run_in_threadpool(app.account_repository.get, user_id)
    if not app.settings.may_add_prefabs(user.email if user is not None else ""):
        raise GatewayHTTPError(
            403,
            "FORBIDDEN",
            "You may not add prefabs to this server. Its operator can permit it with "
            "BERAY_PREFAB_AUTHORS.",
        )
    return user_id
