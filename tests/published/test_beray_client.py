"""The published beray 0.1.2, unmodified, against BeRay's server."""

from __future__ import annotations

from pathlib import Path

import pytest

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.published.packages import Install

pytestmark = [pytest.mark.published, pytest.mark.timeout(600)]


def test_every_method(install: Install, tmp_path: Path) -> None:
    package = install("beray==0.1.2")
    email, new_email = "user@example.com", "new_user@example.com"
    with RunningServer.start(tmp_path / "data") as server:
        server.sign_up(email).close()
        outbox = str(server.data_dir / "outbox")
        found = package.run("beray_client.py", server.url, email, PASSWORD, new_email, outbox)
    assert found["updates"][0] == found["updates"][-1] == "TASK_STATUS"
    assert "AGENT_EVENT_END" in found.pop("updates")
    assert found.pop("events") >= 4
    tree = ["results/summary.txt", "source_code/main.py"]
    assert found == {
        "registered": new_email, "conflict": 409, "user": email, "status": "COMPLETED", "count": 1,
        "tree": ["results", "summary.txt"], "zips": [["image.png", *tree], tree], "stopped": "STOPPED",
        "deleted": "success", "gone": 404, "no_file": 404, "empty_goal": 422,
    }  # fmt: skip
