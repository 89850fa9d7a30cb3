"""Routes of the user's API keys: ``/apikeys``. BeRay extension."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, Field, field_validator
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.accounts.presenters import api_key_to_wire
from beray.server.api.dependencies import AppServices, CurrentActor, SessionUser
from beray.server.api.error_statuses import error_statuses
from beray.server.http.active_requests import api_key_credential_id
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.http.strict_json import StrictRoute
from beray.server.objects.object_files import is_valid_key_part
from beray.server.storage.api_keys import MAX_API_KEYS, NewApiKey, TooManyKeys, scopes_of
from beray.server.storage.json_values import check_json
from beray.server.storage.tables import ApiKey
from beray.server.storage.times import utc_now

router = APIRouter(
    prefix=f"{schema.API_PREFIX}/apikeys", tags=["accounts"], route_class=StrictRoute
)


MAX_EXPIRY_SECONDS: Final = 10 * 366 * 24 * 3600


class ApiKeyRequest(BaseModel):
    """Body of a request for a new API key."""

    name: str = Field(
        min_length=1, max_length=100, description="Name by which the user recognizes the key."
    )
    agent_id: str | None = Field(
        None,
        description="Agent that the key authenticates. Keys without one cannot store files.",
    )
    scopes: list[schema.Scope] = Field(
        default=["gateway"],
        min_length=1,
        max_length=len(schema.SCOPES),
        description="Operations that the key permits.",
    )
    expires_in_seconds: float | None = Field(
        None, gt=0, le=MAX_EXPIRY_SECONDS, description="Validity; null: until it is revoked."
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        check_json(name)
        if not name.strip():
            raise ValueError("must contain a character that is not a space")
        if "\0" in name:
            raise ValueError("must not contain NUL characters")
        return name.strip()

    @field_validator("agent_id")
    @classmethod
    def _check_agent_id(cls, agent_id: str | None) -> str | None:
        # Files of runs without an agent are in a directory called "-".
        if agent_id is not None and (agent_id == "-" or not is_valid_key_part(agent_id)):
            raise ValueError(
                "may have at most 128 characters: letters, digits, '.', '_' and '-'; "
                "'-' alone is reserved"
            )
        return agent_id

    def to_new_key(self) -> NewApiKey:
        """Return the properties of the key."""
        expires_at = None if self.expires_in_seconds is None else utc_now(self.expires_in_seconds)
        return NewApiKey(self.name, self.agent_id, tuple(dict.fromkeys(self.scopes)), expires_at)


@router.post(
    "",
    status_code=201,
    responses=error_statuses({409: "The user has the maximum number of API keys."}),
)
async def create_api_key(
    body: ApiKeyRequest, user: SessionUser, actor: CurrentActor, app: AppServices
) -> schema.CreatedApiKey:
    """Create an API key. `key` is returned only in this response. BeRay extension."""
    try:
        row, key = await run_in_threadpool(
            app.gateway.api_keys.create,
            user.id,
            body.to_new_key(),
            actor.as_user(user.email).record("apikey.created", f"{user.email}: {body.name}"),
        )
    except TooManyKeys:
        raise HTTPException(
            409, f"You have {MAX_API_KEYS} API keys, which is the maximum. Revoke one first."
        ) from None
    return created_to_wire(row, key)


@router.get("")
async def list_api_keys(user: SessionUser, app: AppServices) -> list[schema.ApiKey]:
    """Return the user's API keys, newest first. BeRay extension."""
    keys = await run_in_threadpool(app.gateway.api_keys.list_all, user.id)
    return [api_key_to_wire(row) for row in keys]


@router.delete("/{key_id}", responses=error_statuses({404: "The API key does not exist."}))
async def revoke_api_key(
    key_id: Annotated[str, Path(json_schema_extra=INTEGER_SCHEMA, description="`id` of the key.")],
    user: SessionUser,
    actor: CurrentActor,
    app: AppServices,
) -> schema.Message:
    """Revoke an API key. BeRay extension.

    The internal tokens that were issued for it, and their active requests, end as well.
    """
    number = parse_integer(key_id)
    record = actor.as_user(user.email).record("apikey.revoked", f"{user.email}: key {key_id}")
    if not number or not await run_in_threadpool(
        app.gateway.api_keys.delete, user.id, number, record
    ):
        raise HTTPException(404, f"API key {key_id} does not exist.")
    app.active_requests.end(api_key_credential_id(number))
    return {"message": "The API key is revoked."}


def created_to_wire(row: ApiKey, key: str) -> schema.CreatedApiKey:
    """Return a new API key with its secret in the format of the API."""
    return {
        "id": row.id,
        "name": row.name,
        "agent_id": row.agent_id,
        "key": key,
        "created_at": row.created_at,
        "scopes": list(scopes_of(row)),
        "expires_at": row.expires_at,
    }
