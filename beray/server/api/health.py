"""Health and readiness, for process supervisors and load balancers.

``/healthz`` reports that the process works: its event loop answers, and the thread of the event
log reacts. If that fails, a restart may help. ``/readyz`` reports that requests can be served now:
the database can be read and written, there is space on the disk, and commands get their sandbox.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from beray.server.api.dependencies import AppServices
from beray.version import __version__

EVENT_LOG_SECONDS: Final = 5.0
"""Time within which the thread of the event log has to react."""

router = APIRouter(tags=["server"])


@router.get("/healthz")
async def health(app: AppServices) -> JSONResponse:
    """Report whether the server works, and its version. 503 with ``failing`` if it does not."""
    failing = {}
    if not await app.event_log.responds(EVENT_LOG_SECONDS):
        failing["event_log"] = f"no reaction within {EVENT_LOG_SECONDS:g} s"
    return _answer("ok", failing)


@router.get("/readyz")
async def readiness(app: AppServices) -> JSONResponse:
    """Report whether requests can be served now. 503 with the ``failing`` parts and reasons if not.

    The parts are ``database``, ``disk`` and ``sandbox``. A result is used for one second.
    """
    return _answer("ready", await app.readiness.failing())


def _answer(status: str, failing: dict[str, str]) -> JSONResponse:
    if not failing:
        return JSONResponse({"status": status, "version": __version__})
    content = {"status": "failing", "version": __version__, "failing": failing}
    return JSONResponse(content, 503)
