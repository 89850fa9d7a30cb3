"""Routes of the user's sessions: ``/sessions``. BeRay extension."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request
from starlette.concurrency import run_in_threadpool

from beray import account_schema, schema
from beray.server.accounts.administration import sessions_ended_message
from beray.server.api.dependencies import (
    AppServices,
    CurrentActor,
    OwnAccountUser,
    bearer_token,
    end_requests,
)
from beray.server.api.error_statuses import error_statuses
from beray.server.http.active_requests import request_state
from beray.server.http.strict_json import StrictRoute
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import Token

router = APIRouter(
    prefix=f"{schema.API_PREFIX}/sessions", tags=["accounts"], route_class=StrictRoute
)


@router.get("")
async def list_sessions(
    request: Request, user: OwnAccountUser, app: AppServices
) -> list[account_schema.SignedInDevice]:
    """Return the sessions of the account, most recently used first. BeRay extension."""
    current = secret_digest(bearer_token(request))
    sessions = await run_in_threadpool(app.token_repository.list_all, user.id)
    return [_to_wire(session, current) for session in sessions]


@router.delete("/{session_id}", responses=error_statuses({404: "The session does not exist."}))
async def revoke_session(
    session_id: Annotated[str, Path(description="`id` of the session.")],
    request: Request,
    user: OwnAccountUser,
    actor: CurrentActor,
    app: AppServices,
) -> schema.Message:
    """End a session and its active requests. BeRay extension."""
    record = actor.as_user(user.email).record("session.revoked", f"{user.email}: {session_id}")
    digest = await run_in_threadpool(app.token_repository.delete_one, user.id, session_id, record)
    if digest is None:
        raise HTTPException(404, f"Session {session_id} does not exist.")
    end_requests(app, [digest], except_for=request_state(request.scope).active)
    return {"message": "The session was ended."}


@router.delete("")
async def revoke_sessions(
    request: Request,
    user: OwnAccountUser,
    actor: CurrentActor,
    app: AppServices,
    others: Annotated[
        bool, Query(description="Whether the session of the request remains.")
    ] = False,
) -> schema.Message:
    """End all sessions of the account, or all others, and their requests. BeRay extension."""
    keep = secret_digest(bearer_token(request)) if others else ""
    ended = await run_in_threadpool(
        app.token_repository.delete_all,
        user.id,
        keep=keep,
        record=actor.as_user(user.email).record("sessions.revoked", user.email),
    )
    end_requests(app, ended, except_for=request_state(request.scope).active)
    return {"message": sessions_ended_message(len(ended))}


def _to_wire(session: Token, current: str) -> account_schema.SignedInDevice:
    return {
        "id": session.id or "",
        "current": session.digest == current,
        "device": session.device or "",
        "address": session.address or "",
        "created_at": session.created_at,
        "last_used_at": session.last_used_at or session.created_at,
        "expires_at": session.expires_at,
    }
