"""Test support: a real BeRay server on loopback, and clients that are signed in to it.

With pytest, load the fixtures in ``conftest.py``::

    pytest_plugins = ["beray.testing.plugin"]

    def test_my_script(beray_client):
        task = beray_client.create_task("!echo hello > hello.txt")
        assert [*beray_client.stream_task_updates(task["id"])][-1]["status"] == "COMPLETED"
"""

# ruff: noqa: E402 -- the check must precede the imports that would fail
from beray import installation

installation.require_consistent()

from beray.testing.faults import FaultServer, RecordedRequest, ScriptedResponse
from beray.testing.raw_requests import access_token, authorization, raw_request
from beray.testing.server import RunningServer

__all__ = [
    "Answer",
    "FaultServer",
    "RecordedRequest",
    "Request",
    "RunningServer",
    "ScriptedResponse",
    "access_token",
    "authorization",
    "raw_request",
]

Answer = ScriptedResponse
"""Earlier name of ``ScriptedResponse``, kept for existing tests of users."""
Request = RecordedRequest
"""Earlier name of ``RecordedRequest``, kept for existing tests of users."""
