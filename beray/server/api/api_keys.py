"""The routes of API keys: ``/apikeys``. Ours."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, Field, field_validator
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.api.dependencies import AppServices, CurrentUser
from beray.server.http.active_requests import api_key_credential_id
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.http.strict_json import StrictRoute
from beray.server.objects.object_files import is_valid_key_part
from beray.server.storage.json_values import check_json
from beray.server.storage.tables import ApiKey
from beray.server.storage.tokens import MAX_API_KEYS, TooManyKeys

router = APIRouter(prefix="/apikeys", tags=["gateway"], route_class=StrictRoute)


class NewApiKey(BaseModel):
    name: str = Field(min_length=1, max_length=100)
    agent_id: str | None = None
    """Who calls with it; ``None``: nobody who could have files of their own."""

    @field_validator("name")
    @classmethod
    def _sound(cls, name: str) -> str:
        check_json(name)
        if not name.strip() or "\0" in name:
            raise ValueError("this is not a name")
        return name.strip()

    @field_validator("agent_id")
    @classmethod
    def _part_of_a_key(cls, agent_id: str | None) -> str | None:
        # What runs without an agent leave is in a folder called "-".
        if agent_id is not None and (agent_id == "-" or not is_valid_key_part(agent_id)):
            raise ValueError("an agent_id has letters, digits, '.', '_' and '-', at most 128")
        return agent_id


@router.post("", status_code=201)
async def create_api_key(
    body: NewApiKey, user: CurrentUser, app: AppServices
) -> schema.CreatedApiKey:
    """Make an API key. This answer is the only one that has it."""
    try:
        row, key = await run_in_threadpool(
            app.gateway.api_keys.add, user.id, body.name, body.agent_id
        )
    except TooManyKeys:
        raise HTTPException(
            409, f"There are {MAX_API_KEYS} API keys already; revoke one first."
        ) from None
    return {
        "id": row.id,
        "name": row.name,
        "agent_id": row.agent_id,
        "key": key,
        "created_at": row.created_at,
    }


@router.get("")
async def list_api_keys(user: CurrentUser, app: AppServices) -> list[schema.ApiKey]:
    """The caller's API keys, the newest first."""
    return [_public(row) for row in await run_in_threadpool(app.gateway.api_keys.of, user.id)]


@router.delete("/{key_id}")
async def revoke_api_key(
    key_id: Annotated[str, Path(json_schema_extra=INTEGER_SCHEMA)],
    user: CurrentUser,
    app: AppServices,
) -> schema.Message:
    """End a key and every internal token that it was exchanged for, with what they have open."""
    number = parse_integer(key_id)
    if not number or not await run_in_threadpool(app.gateway.api_keys.remove, user.id, number):
        raise HTTPException(404, f"There is no API key {key_id}.")
    app.active_requests.end(api_key_credential_id(number))
    return {"message": "The API key is revoked."}


def _public(row: ApiKey) -> schema.ApiKey:
    return {
        "id": row.id,
        "name": row.name,
        "agent_id": row.agent_id,
        "start": row.start,
        "created_at": row.created_at,
    }
