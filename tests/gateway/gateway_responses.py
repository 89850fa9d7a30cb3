"""Responses of a scripted gateway."""

from __future__ import annotations

import json
from typing import Any

from beray.testing import ScriptedResponse

SSE = {"Content-Type": "text/event-stream"}
TWO_LEVELS = {"status": "SUCCESS", "output": {"n": 1}, "files": {"out": ["s3://b/out/1"]}}


def json_response(data: Any, status: int = 200, **headers: str) -> ScriptedResponse:
    return ScriptedResponse(json.dumps(data).encode(), status, headers)


def run_response(*results: dict[str, Any], job_id: str = "j1") -> ScriptedResponse:
    return json_response({"job_id": job_id, "status": "SUCCESS", "results": list(results)})


def success_result(output: Any = TWO_LEVELS) -> dict[str, Any]:
    return {"status": "SUCCESS", "output": output, "error": None}


def failure_result(code: str = "FUNCTION_ERROR") -> dict[str, Any]:
    return {"status": "FAILED", "output": None, "error": {"code": code, "message": "no"}}


def event(event_type: str, data: Any = None) -> bytes:
    return b"data: " + json.dumps({"type": event_type, "data": data}).encode() + b"\n\n"


START = event("start", {"job_id": "j1"})
DONE = event("done", {"job_id": "j1", "status": "SUCCESS", "output": TWO_LEVELS})


def stream_response(*events: bytes, **options: Any) -> ScriptedResponse:
    return ScriptedResponse(list(events), headers=SSE, **{"framing": "chunked", **options})
