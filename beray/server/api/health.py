"""Health and readiness endpoints, for process supervisors and load balancers.

``/healthz`` reports that the process works: its event loop and the thread of the event log
respond. If that fails, a restart may help. ``/readyz`` reports that requests can be served now:
the database can be read and written, the disk has free space, and the sandbox works.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from beray.server.api.dependencies import AppServices
from beray.server.api.error_statuses import error_statuses
from beray.version import __version__

EVENT_LOG_SECONDS: Final = 5.0
"""Time limit for a response of the event log's thread."""

router = APIRouter(tags=["server"])


@router.get("/healthz", responses=error_statuses({503: "The server does not work."}))
async def health(app: AppServices) -> JSONResponse:
    """Report that the server works, and its version; 503 with ``failing`` if it does not.

    BeRay extension.
    """
    failing = {}
    if not await app.event_log.responds(EVENT_LOG_SECONDS):
        failing["event_log"] = f"no response within {EVENT_LOG_SECONDS:g} s"
    return _response("ok", failing)


@router.get("/readyz", responses=error_statuses({503: "Requests cannot be served."}))
async def readiness(app: AppServices) -> JSONResponse:
    """Report that requests can be served; 503 with ``failing`` checks and reasons if not.

    BeRay extension.

    The checks are ``database``, ``disk`` and ``sandbox``. A result is reused for one second.
    """
    return _response("ready", await app.readiness.failing())


def _response(status: str, failing: dict[str, str]) -> JSONResponse:
    if not failing:
        return JSONResponse({"status": status, "version": __version__})
    content = {"status": "failing", "version": __version__, "failing": failing}
    return JSONResponse(content, 503)
