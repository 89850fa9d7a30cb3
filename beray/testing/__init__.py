"""For your own tests: a real BeRay server on loopback, and clients signed in to it.

With pytest, load the fixtures in ``conftest.py``::

    pytest_plugins = ["beray.testing.plugin"]

    def test_my_script(beray_client):
        task = beray_client.create_task("!echo hello > hello.txt")
        assert [*beray_client.stream_task_updates(task["id"])][-1]["status"] == "COMPLETED"
"""

# ruff: noqa: E402 -- the checks come before the imports that would fail
from beray import installation

installation.require_whole()

from beray.testing.faults import Answer, FaultServer, Request
from beray.testing.server import RunningServer

__all__ = ["Answer", "FaultServer", "Request", "RunningServer"]
