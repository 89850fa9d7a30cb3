"""Published versions of agent-builder-gateway-sdk, unmodified, against BeRay's gateway."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from beray.testing import RunningServer, authorization
from tests.gateway_support import exchange
from tests.network_support import needs_own_network
from tests.published.packages import DAILY_CALLS, PROGRAMS, Install, server_with_probe
from tests.server.gateway.prefab_calls import Caller, put
from tests.support import text

pytestmark = [pytest.mark.published, pytest.mark.timeout(600)]

SDK = "agent-builder-gateway-sdk"


def require_runs(found: Any) -> None:
    run = found["run"]
    assert run["status"] == run["get"] == "SUCCESS" and run["job_id"]
    assert run["output"] == {"count": 3, "note": "none"}
    assert len(run["files"]["copy"]) == 1
    assert found["batch"] == {
        "status": "FAILED",
        "all_success": False,
        "results": ["SUCCESS", "SUCCESS", "FAILED"],
        "failed": ["INVALID_OUTPUT"],
    }
    assert found["stream"] == ["start", "content", "progress", "content", "progress", "done"]
    assert found["left_at"] == "piece 0"
    assert "none" in found["no_prefab"]
    assert "calls.0.inputs.parameters.unit: " in found["invalid"]
    assert found["secret"]["secret_name"] == "API_KEY"
    assert found["secret"]["prefab_id"] == "probe"
    assert found["secret"]["instructions"] == "Get one at example.com"
    assert found["quota"]["limit"] == DAILY_CALLS and found["quota"]["used"] > 0
    assert found["quota"]["quota_type"] == "daily_calls"


@pytest.mark.parametrize(
    ("version", "way"),
    [("0.2.0", "api_key"), ("0.2.0", "jwt"), ("0.3.2", "api_key"), ("0.3.2", "jwt"),
     ("0.4.0", "internal"), ("0.5.0", "internal"), ("0.5.0", "exchange"), ("0.6.0", "internal"),
     ("0.6.0", "exchange"), ("0.7.2", "internal"), ("0.7.2", "exchange")],
)  # fmt: skip
def test_functions_run(
    install: Install, probe_server: RunningServer, version: str, way: str
) -> None:
    package = install(f"{SDK}=={version}")
    caller = Caller.new(probe_server)
    with caller.account:
        credential = {
            "api_key": caller.api_key,
            "exchange": caller.api_key,
            "internal": caller.token,
            "jwt": authorization(caller.account)["Authorization"],
        }[way]
        document = put(caller, "a.txt", "one two three")
        found = package.run("gateway_runs.py", way, probe_server.url, credential, document)
    require_runs(found)


@needs_own_network
@pytest.mark.parametrize("version", ["0.3.2", "0.6.0", "0.7.2"])
def test_listed_addresses_need_no_credential(
    install: Install, probe_server: RunningServer, version: str
) -> None:
    package = install(f"{SDK}=={version}")
    document = anonymous_upload(probe_server)
    found = package.run("gateway_runs.py", "none", probe_server.url, "", document)
    require_runs(found)


def anonymous_upload(server: RunningServer) -> str:
    place = requests.post(
        f"{server.url}/internal/files/generate_upload_url", json={"filename": "a.txt"}, timeout=30
    ).json()
    assert requests.put(place["upload_url"], data=b"one two three", timeout=30).ok
    return str(place["s3_url"])


@pytest.mark.parametrize("version", ["0.5.0", "0.6.0", "0.7.2"])
def test_files_go_in_and_come_out(
    install: Install, probe_server: RunningServer, tmp_path: Path, version: str
) -> None:
    package = install(f"{SDK}=={version}")
    caller = Caller.new(probe_server)
    with caller.account as account:
        person_key = account.create_api_key("person")["key"]
        assert exchange(probe_server, person_key).ok
        found = package.run(
            "gateway_files.py", probe_server.url, caller.api_key, person_key, str(tmp_path)
        )
    assert found == {
        "kept": [True, "report ü.txt", 13, "agent-outputs"],
        "presigned": "one two three",
        "pages": [2, 1],
        "temporary": "agent-workspace",
        "session": [True],
        "all_temporary": 2,
        "cleaned": 1,
        "left": 0,
        "words": 3,
        "input_of_person": "agent-inputs",
        "missing": "PrefabNotFoundError",
    }


@pytest.mark.parametrize("version", ["0.5.0", "0.7.2"])
def test_a_process_of_a_task_calls_the_gateway(
    install: Install, tmp_path: Path, version: str
) -> None:
    """Without a sandbox, where the process finds the package."""
    package = install(f"{SDK}=={version}")
    program = [sys.executable, str(PROGRAMS / "gateway_in_task.py")]
    goal = f"!PYTHONPATH={package.folder} {shlex.join(program)} 2>&1"
    with (
        server_with_probe(tmp_path, BERAY_SANDBOX="none") as server,
        server.sign_up() as client,
    ):
        task = client.create_task(goal, limits={"gateway": True})
        said = text(list(client.stream_task_updates(task["id"])))
        user_id = client.get_current_user()["id"]
    assert "FOUND " in said, said
    filename, url, succeeded = json.loads(said.partition("FOUND ")[2])
    assert filename == "result.txt" and succeeded
    assert url.startswith(f"s3://beray/agent-outputs/{user_id}/task-{task['id']}/")
